"""SAP in the fault matrix: the simulator of the published contracts."""

from __future__ import annotations

import zeep  # noqa: F401 - loaded before processes are forked, or each of them would load it

from tieout_sandbox.fault_matrix.simulated import RunningSimulator, answer, starter
from tieout_sandbox.fault_matrix.subject import Subject
from tieout_sandbox.simulators.sap import Sap


def seen_late(running: RunningSimulator) -> None:
    """New documents are not shown at once."""
    running.server.erp.lag = 1  # type: ignore[attr-defined]


SUBJECT = Subject(
    name="sap",
    start=starter(Sap),
    rate_limited=answer(Sap(), "rate_limited"),
    unavailable=answer(Sap(), "server_error", 503),
    failed=answer(Sap(), "server_error"),
    caught=frozenset({"duplicated"}),
    own_faults={"seen late": seen_late},
)
