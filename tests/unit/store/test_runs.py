"""Runs see a fixed view of what was published; watermarks and leases move by compare-and-set."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from tieout.errors import LeaseHeld, LeaseLost, StaleWatermark, StoreError
from tieout.store import QuarantineItem, Store, audit
from tieout.store.leases import guard


class Clock:
    """A clock that stands until a test moves it."""

    def __init__(self) -> None:
        self.at = datetime(2026, 3, 30, 9, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.at

    def forward(self, **span: int) -> None:
        self.at += timedelta(**span)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Store:
    made = Store(f"sqlite:///{tmp_path / 'var' / 'store.sqlite'}", clock=clock)
    made.upgrade()
    return made


def test_upgrading_twice_changes_nothing_and_a_store_knows_whether_it_is_ready(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'store.sqlite'}")
    assert not store.ready()
    store.upgrade()
    store.upgrade()
    assert store.ready()


def test_published_gives_the_newest_version_of_each_table(store: Store) -> None:
    store.publish("a", {"invoice": 3, "payment": 1})
    store.publish("b", {"invoice": 5})
    assert store.published() == {"invoice": 5, "payment": 1}


def test_a_run_keeps_its_view_while_others_publish_and_adds_its_own(store: Store) -> None:
    store.publish("earlier", {"invoice": 3, "payment": 1})
    store.start_run("night", "nightly", date(2026, 3, 29), {"entities": ["US"]})
    store.publish("micro", {"invoice": 4})
    assert store.published("night") == {"invoice": 3, "payment": 1}
    store.publish("night", {"breaks": 1, "invoice": 6})
    store.publish("micro", {"breaks": 2})
    assert store.published("night") == {"breaks": 1, "invoice": 6, "payment": 1}
    assert store.published() == {"breaks": 2, "invoice": 6, "payment": 1}


def test_a_run_started_again_sees_what_is_published_by_then(store: Store) -> None:
    store.start_run("night", "nightly", date(2026, 3, 29))
    store.publish("night", {"invoice": 1})
    store.publish("micro", {"invoice": 2})
    store.start_run("night", "nightly", date(2026, 3, 29))
    assert store.published("night") == {"invoice": 2}


def test_an_unknown_run_has_no_view(store: Store) -> None:
    with pytest.raises(StoreError, match="no such run"):
        store.published("nobody")


def test_facts_are_merged_and_amounts_kept_as_text(store: Store) -> None:
    store.start_run("night", "nightly", date(2026, 3, 29))
    store.add_facts("night", {"rows": 3})
    store.finish_run("night", "success", {"value_at_risk": Decimal("10.50")})
    assert store.facts("night") == {"rows": 3, "value_at_risk": "10.50"}
    assert [r.state for r in store.runs("nightly", date(2026, 3, 29))] == ["success"]
    with pytest.raises(Exception, match="float"):
        store.add_facts("night", {"amount": 10.5})


def test_a_watermark_moves_only_from_the_token_that_was_read(store: Store) -> None:
    assert store.watermark("stripe_us") is None
    token = store.set_watermark("stripe_us", {"until": "2026-03-29"}, 0)
    with pytest.raises(StaleWatermark):
        store.set_watermark("stripe_us", {"until": "2026-03-28"}, 0)
    assert store.set_watermark("stripe_us", {"until": "2026-03-30"}, token) == token + 1
    with pytest.raises(StaleWatermark, match="token 2"):
        store.set_watermark("stripe_us", {"until": "2026-03-31"}, token)
    found = store.watermark("stripe_us")
    assert found is not None
    assert (found.value, found.token) == ({"until": "2026-03-30"}, 2)


def test_a_lease_has_one_holder_until_it_is_given_back(store: Store) -> None:
    with store.lease("US/main", "one") as lease:
        assert not store.lease_is_free("US/main")
        with pytest.raises(LeaseHeld, match="one"):
            store.acquire("US/main", "two")
    with store.lease("US/main", "two") as next_lease:
        assert next_lease.token > lease.token


def test_an_expired_lease_is_taken_over_and_its_old_holder_fenced_off(store: Store, clock: Clock) -> None:
    old = store.acquire("US/main", "one", timedelta(minutes=5))
    clock.forward(minutes=4)
    old = store.renew(old, timedelta(minutes=5))
    clock.forward(minutes=6)
    new = store.acquire("US/main", "two")
    with pytest.raises(LeaseLost):
        store.renew(old)
    with pytest.raises(LeaseLost), store.transaction() as session:
        guard(session, old)
    store.release(old)
    assert not store.lease_is_free("US/main")
    with store.transaction() as session:
        guard(session, new)


def test_a_rolled_back_transaction_leaves_nothing(store: Store) -> None:
    def fails() -> None:
        with store.transaction() as session:
            audit.append(session, "US/main", "act", "me", {}, store.now())
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fails()
    assert store.audit_entries("US/main") == []
    assert store.anchor("US/main").length == 0


def test_quarantine_keeps_each_record_once_and_prices_it(store: Store) -> None:
    item = QuarantineItem("raw#1", "usage", "events", "not_a_number", "quantity is text", "quantity", "US", "USD")
    priced = QuarantineItem("raw#2", "stripe_us", "invoices", "unknown_currency", "XXX", amount=Decimal("12.30"))
    assert store.quarantine("r1", [item, priced]) == 2
    assert store.quarantine("r2", [item]) == 0
    assert store.quarantined("stripe_us")[0].amount == Decimal("12.30")
    assert {(i.source, i.reason_code) for i in store.quarantined()} == {
        ("stripe_us", "unknown_currency"),
        ("usage", "not_a_number"),
    }
    assert store.settle_quarantine("r3", ["raw#1", "raw#9"]) == 1
    assert [i.raw_ref for i in store.quarantined()] == ["raw#2"]
