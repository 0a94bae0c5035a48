"""What is posted through an adapter ties out: landed whole, the trial balance explained, foreign entries listed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from tieout.conform.erp import catch_up_ledger
from tieout.entities import Entities, LegalEntity
from tieout.erp import Ledger, connect
from tieout.lake.landing import Landing
from tieout.ledger.proof import prove
from tieout.settings import Connection
from tieout.sources.config import SourceConfig
from tieout.store import golive
from tieout_sandbox.fault_matrix.simulated import RunningSimulator
from tieout_sandbox.fault_matrix.subject import Shared, Subject
from tieout_sandbox.fault_matrix.subjects import businesscentral, file_drop, netsuite, odoo, sap
from tieout_sandbox.fault_matrix.trial import trial_of
from tieout_sandbox.simulators.odoo.books import Books
from tieout_sandbox.simulators.odoo.wire import Wire, answering

DAY = date(2026, 3, 29)
ENTITY = LegalEntity(
    id="US", name="Northwind", functional_currency="USD", zone="UTC", country="US", go_live=date(2026, 3, 29)
)
BEFORE = ("11000", "7", "0"), ("40100", "0", "7")
FOREIGN = ("11000", "0", "1"), ("40100", "1", "0")


@dataclass
class InThread:
    """The simulated Odoo in a thread: quicker to start than a process, and its books are at hand."""

    books: Books
    base: str
    url: None = None

    def ledger(self, url: str | None = None, *, timeout: float = 60.0) -> Ledger:
        return connect("odoo", Connection("odoo", self.base, "poster", odoo.KEY, "erp"), odoo.CONFIG)

    def restart(self) -> None: ...
    def expire_sessions(self) -> None: ...


def start_odoo(version: int) -> Callable[[Shared], Iterator[InThread]]:
    @contextmanager
    def start(shared: Shared) -> Iterator[InThread]:
        books = Books(shared.folder / "odoo.sqlite", version)
        books.found(odoo.COMPANY, "USD", 2, {"11000": "Receivable", "40100": "Revenue"})
        books.dimension("Product family", "seats")
        books.key(odoo.KEY)
        with answering(Wire(books)) as url:
            yield InThread(books, url)
        books.close()

    return start


def by_hand(running: object, on: date, text: str, *lines: tuple[str, str, str]) -> None:
    if isinstance(running, RunningSimulator):
        running.server.erp.by_hand("US", on.isoformat(), *lines, text=text)
    elif isinstance(running, InThread):
        running.books.by_hand(odoo.COMPANY, on, text, *lines)
    else:
        running.erp.by_hand("0100", on, text, *lines)


SUBJECTS = {
    "odoo by json-rpc": Subject("odoo", start_odoo(17), network=False),
    "odoo by json-2": Subject("odoo", start_odoo(19), network=False),
    "file drop": file_drop.SUBJECT,
    "netsuite": replace(netsuite.SUBJECT, network=False),
    "business central": replace(businesscentral.SUBJECT, network=False),
    "sap": replace(sap.SUBJECT, network=False),
}


@pytest.mark.parametrize("subject", SUBJECTS.values(), ids=SUBJECTS)
def test_opening_ours_and_foreign_make_the_trial_balance_of_the_erp(subject: Subject, tmp_path: Path) -> None:
    with trial_of(subject, Shared(tmp_path, lambda: None)) as trial:
        by_hand(trial.running, DAY - timedelta(days=1), "before go-live", *BEFORE)
        opened = [golive.OpeningBalance(account, "USD", Decimal(d) - Decimal(c)) for account, d, c in BEFORE]
        with trial.store.transaction() as session:
            golive.load_opening(
                session,
                "US",
                "main",
                DAY - timedelta(days=1),
                opened,
                [],
                actor="test",
                now=trial.store.now(),
                waiver="t",
            )
        batch_id = trial.plan(journals=2)
        trial.finish(batch_id)
        trial.check(batch_id)
        by_hand(trial.running, DAY, "by an accountant", *FOREIGN)
        ledger = trial.running.ledger()
        proof = prove(ENTITY, DAY, ledger, trial.store)
        assert proof.ties, proof.lines
        assert (proof.journals_posted, proof.journals_open) == (2, 0)
        assert [(e.narrative, e.account) for e in proof.foreign] == [
            ("by an accountant", "11000"), ("by an accountant", "40100"),
        ]  # fmt: skip
        (receivable,) = (line for line in proof.lines if line.account == "11000")
        assert (receivable.opening, receivable.ours, receivable.foreign) == (7, Decimal("2.03"), -1)

        landing, source = Landing(str(tmp_path / "raw")), SourceConfig(name="erp", kind="erp", connection="x")
        extracts = catch_up_ledger(
            source, ledger, Entities(entities=(ENTITY,)), landing=landing, store=trial.store, business_date=DAY,
            now=lambda: datetime.now(UTC),
        )  # fmt: skip
        entries = next(extract for extract in extracts if extract.object == "gl_entries")
        assert entries.control.proven
        assert entries.records == 8
