"""SAP in the fault matrix: the simulator of the published contracts."""

from __future__ import annotations

import zeep  # noqa: F401 - loaded before processes are forked, or each of them would load it

from tieout_sandbox.fault_matrix.simulated import RunningSimulator, answer, starter
from tieout_sandbox.fault_matrix.subject import Subject
from tieout_sandbox.simulators.sap import Sap


def seen_late(running: RunningSimulator) -> None:
    """The next document is not shown at once."""
    erp = running.server.erp
    erp.lag, erp.lag_once = 1, True  # type: ignore[attr-defined]


SUBJECT = Subject(
    name="sap",
    start=starter(Sap),
    rate_limited=answer(Sap(), "rate_limited"),
    unavailable=answer(Sap(), "server_error", 503),
    failed=answer(Sap(), "server_error"),
    caught=frozenset({"duplicated"}),
    own_faults={"seen late": seen_late},
)
