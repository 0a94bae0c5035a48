"""The life of breaks over a store on PostgreSQL: recorded, read back, filtered by exact amounts, decided about."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import URL

from tieout.breaks.life import kept_lives
from tieout.breaks.verdicts import verdicts
from tieout.store import Store
from tieout.store.break_acts import Act, Pair, carry_out
from tieout.store.break_list import Filter, count, full_id, listed
from tieout.store.breaks import Sighting, break_id, record

pytestmark = pytest.mark.server
DAY = date(2026, 3, 29)


def sighting(key: str, value: str) -> Sighting:
    return Sighting(
        "d", "US", key, 1, "suggested_match", "open", "team", "USD", Decimal(value), DAY, DAY, "It differs."
    )


def test_breaks_are_recorded_filtered_and_decided_about(erp_template: Any) -> None:
    pg = erp_template.pg
    pg.create("store_breaks")
    url = URL.create("postgresql", pg.role, pg.password, pg.host, pg.port, "store_breaks")
    store = Store(url.render_as_string(hide_password=False))
    store.upgrade()
    with store.transaction() as session:
        record(
            session, "d", DAY, "r", [sighting("a", "9.99"), sighting("b", "10"), sighting("c", "1000")], [], store.now()
        )
    one = break_id("d", "US", "a", 1)
    with store.transaction() as session:
        known = Act("known_difference", "anna", "cash", cap=Decimal(10), cap_currency="USD", expires=DAY)
        assert carry_out(session, known, [one], store.now()).refused == ()
        accepted = Act("accept", "anna", pairs={break_id("d", "US", "b", 1): Pair("l", "r", Decimal(10), Decimal(10))})
        assert carry_out(session, accepted, [break_id("d", "US", "b", 1)], store.now()).refused == ()
    with store.reading() as session:
        assert [b.break_key for b in listed(session, Filter())] == ["c", "b", "a"]
        assert [b.break_key for b in listed(session, Filter(min_amount=Decimal("9.990001"), min_age=0))] == ["c", "b"]
        assert count(session, Filter(states=("known_difference",))) == 1
        assert full_id(session, one[:12]) == one
    kept, newest = kept_lives(store, "d")
    assert newest == DAY
    b, c = (break_id("d", "US", key, 1) for key in "bc")
    assert {(r["break_id"], r["state"], r["cap"], r["expires"]) for r in kept.to_pylist()} == {
        (one, "known_difference", Decimal(10), DAY), (b, "open", None, None), (c, "open", None, None),
    }  # fmt: skip
    assert verdicts(store, "d", DAY).column("left_ids").to_pylist() == ["l"]
    assert store.verify_audit("breaks/d") == []
