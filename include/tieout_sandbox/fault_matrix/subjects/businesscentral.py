"""Business Central in the fault matrix: the simulator of the published API."""

from __future__ import annotations

from tieout_sandbox.fault_matrix.simulated import RunningSimulator, answer, starter
from tieout_sandbox.fault_matrix.subject import Request, Subject
from tieout_sandbox.simulators.businesscentral import BusinessCentral


def is_write(request: Request) -> bool:
    """Whether a call changes records; a sign-in is a POST as well."""
    return request.method != "GET" and "/oauth2/" not in request.path


def somebodys_batch(running: RunningSimulator) -> None:
    """Somebody has lines of their own in another batch."""
    erp = running.server.erp
    books = erp.by_name["US"]  # type: ignore[attr-defined]
    batch = erp._add_journal(books, {"code": "DEFAULT"})  # type: ignore[attr-defined]
    line = {"lineNumber": 1, "accountNumber": "11000", "postingDate": "2026-03-29", "documentNumber": "X", "amount": 5}
    erp._add_line(books, batch["id"], line)  # type: ignore[attr-defined]


SUBJECT = Subject(
    name="businesscentral",
    start=starter(BusinessCentral, sessions=True),
    is_write=is_write,
    rate_limited=answer(BusinessCentral(), "rate_limited"),
    unavailable=answer(BusinessCentral(), "server_error", 503),
    failed=answer(BusinessCentral(), "server_error"),
    own_faults={"somebody's batch": somebodys_batch},
)
