"""An accrual and its reversal on day 1: whatever dies while they are planned and posted, each stands there once."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from tests.unit.ledger.conftest import INSTANT, Books, entity

from tieout.lake.tables import Lake
from tieout.ledger import MONTH_END, due_batches, post_batch
from tieout.store import Store
from tieout.store.leases import LeaseRow
from tieout_sandbox.file_ledger import FileLedger

pytestmark = pytest.mark.fault
END, NEXT = date(2026, 3, 31), date(2026, 4, 1)


class Died(BaseException):
    """A process that is gone at this point."""


def until_one_survives(act: Callable[[], Any], store: Store, erp: FileLedger) -> int:
    """Run `act` again and again, each time dying one step later; gives how often it died."""
    transaction, passed, deaths = store.transaction, 0, 0

    def by(step: str) -> None:
        nonlocal passed
        passed += 1
        if passed > deaths:
            raise Died

    @contextmanager
    def committing() -> Any:
        with transaction() as session:
            yield session
            by("before a commit")

    while True:
        passed = 0
        store.transaction, erp.on_step = committing, by  # type: ignore[method-assign]
        try:
            act()
        except Died:
            deaths += 1
            with transaction() as session:  # as dead processes leave their leases
                for lease in session.query(LeaseRow):
                    lease.owner = None
            continue
        finally:
            store.transaction, erp.on_step = transaction, lambda step: None  # type: ignore[method-assign]
        return deaths


def test_an_accrual_reverses_on_day_1_once_whatever_dies(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'store.sqlite'}")
    store.upgrade()
    books = Books(Lake(tmp_path / "lake"), store, FileLedger(tmp_path / "erp.sqlite"), entity())
    books.put(
        "subscription_item", "si", subscription_source_id="sub", usage_type="licensed", monthly_amount="31",
        product_family="seats", status="active", start_date=date(2026, 3, 1),
    )  # fmt: skip

    def post() -> None:
        for batch_id in due_batches(store):
            assert post_batch(batch_id, books.erp, store, protocol=INSTANT) == "posted"

    planning = until_one_survives(lambda: books.plan(END, streams=MONTH_END), store, books.erp)
    posting = until_one_survives(post, store, books.erp)
    assert planning > 2
    assert posting > 6
    assert sorted((j.date, j.debit) for j in books.erp.journals()) == [(END, 31), (NEXT, 31)]
    assert [books.balances(day) for day in (END, NEXT)] == [{"11100": 31, "40100": -31}, {}]
    assert books.plan(END, streams=MONTH_END).batches == ()
    assert store.verify_audit("US/main") == []
