"""NetSuite in the fault matrix: the simulator of the published contract."""

from __future__ import annotations

from tieout_sandbox.fault_matrix.simulated import RunningSimulator, answer, starter
from tieout_sandbox.fault_matrix.subject import Request, Subject
from tieout_sandbox.simulators.netsuite import NetSuite


def is_write(request: Request) -> bool:
    """Whether a call changes records; a query is a POST as well."""
    return request.method != "GET" and "/record/" in request.path


def seen_late(running: RunningSimulator) -> None:
    """SuiteQL does not show the next journal at once."""
    erp = running.server.erp
    erp.lag, erp.lag_once = 1, True  # type: ignore[attr-defined]


SUBJECT = Subject(
    name="netsuite",
    start=starter(NetSuite),
    is_write=is_write,
    rate_limited=answer(NetSuite(), "rate_limited"),
    unavailable=answer(NetSuite(), "server_error", 503),
    failed=answer(NetSuite(), "server_error"),
    own_faults={"seen late": seen_late},
)
