"""Which version of a record stays does not depend on the order or the names in which files were delivered."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("pages", [1, 2])
def test_two_usage_events_with_one_id_in_one_delivery(world: Any, make: Any, first: int, pages: int) -> None:
    told = [make.usage(quantity=q, received_at="2026-03-29T13:00:00Z") for q in ("10", "12")]
    both = [told[first], told[1 - first]]
    world.land(world.DROP, "usage", *([both] if pages == 1 else [[one] for one in both]))
    result = world.conform()
    told = [(r["source_id"][:5], r["event_id"], r["quantity"]) for r in world.rows("usage_event")]
    assert told == [("ev_1", "ev_1", Decimal(10)), ("ev_1~", "ev_1", Decimal(12))]
    assert (result.rows_out, result.rows_merged) == (2, 0)


def test_a_usage_event_delivered_again_stays_one_row_and_other_content_stands_beside_the_first(
    world: Any, make: Any
) -> None:
    for quantity, at in (("12", 13), ("12.0", 14), ("10", 15), ("10", 16), ("12", 12)):
        world.land(world.DROP, "usage", [make.usage(quantity=quantity, received_at=f"2026-03-29T{at}:00:00Z")])
        world.conform()
    first, other = world.rows("usage_event")
    assert (first["source_id"], first["quantity"], first["received_at"].hour) == ("ev_1", Decimal(12), 12)
    assert (other["event_id"], other["quantity"], other["received_at"].hour) == ("ev_1", Decimal(10), 15)
    log = world.rows("conformed_extracts")
    assert [(r["rows"], r["merged"]) for r in log if r["object"] == "usage"] == [(1, 0), (0, 1), (1, 0), (0, 1), (1, 0)]


@pytest.mark.parametrize("first", [0, 1])
def test_two_bank_lines_with_one_id_in_one_delivery(world: Any, first: int) -> None:
    told = [
        {"id": "b1", "legal_entity_id": "US", "account": "1", "booking_date": "2026-03-29",
         "value_date": "2026-03-29", "amount": amount, "currency": "USD", "reference": "r"}
        for amount in ("10.00", "12.00")
    ]  # fmt: skip
    world.land(world.DROP, "bank", [told[first]], [told[1 - first]])
    world.conform()
    assert world.one("bank_line")["amount"] == Decimal(12)
    world.land(world.DROP, "bank", [told[0]])
    world.conform()
    assert world.one("bank_line")["amount"] == Decimal(10)
