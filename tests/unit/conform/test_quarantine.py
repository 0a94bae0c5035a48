"""Bad records are set aside with a reason that names field and value; the rest goes through; nothing is lost."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from tieout.lake.engine import engine
from tieout.lake.landing import Unreadable
from tieout.lake.quarantine import overview

BAD_INVOICES: dict[str, tuple[dict[str, Any], str, str]] = {
    "unknown currency": (
        {"currency": "zzz"},
        "unknown_currency",
        "currency holds 'zzz' where an ISO 4217 currency code is expected",
    ),
    "missing customer": ({"customer": None}, "missing", "customer is missing"),
    "text in an amount": (
        {"total": "ten"},
        "not_a_number",
        "total holds 'ten' where a whole number of minor units is expected",
    ),
    "fraction of a minor unit": (
        {"amount_paid": "0.5"},
        "not_a_number",
        "amount_paid holds '0.5' where a whole number of minor units is expected",
    ),
    "unknown status": (
        {"status": "lost"},
        "unknown_code",
        "status holds 'lost' where one of draft, open, paid, uncollectible, void is expected",
    ),
    "text for an instant": (
        {"due_date": "tomorrow"},
        "not_an_instant",
        "due_date holds 'tomorrow' where seconds since 1970 is expected",
    ),
    "NUL in a field": ({"number": "US\0-1"}, "nul_character", "number holds a NUL character"),
    "field of ten megabytes": (
        {"description": "x" * 10_000_000},
        "too_long",
        "description holds a text of more than 1048576 characters",
    ),
    "id too long": (
        {"number": "9" * 5000},
        "too_long",
        "number holds '***…' where text of at most 4096 characters is expected",
    ),
}


@pytest.mark.parametrize("case", BAD_INVOICES)
def test_a_bad_invoice_is_set_aside_with_a_reason_and_the_rest_goes_through(world: Any, make: Any, case: str) -> None:
    changes, code, reason = BAD_INVOICES[case]
    world.land(world.BILLING, "invoices", [make.invoice("in_bad", **changes), make.invoice("in_good")])
    result = world.conform()
    assert (result.rows_in, result.rows_out, result.rows_quarantined) == (2, 1, 1)
    assert [r["source_id"] for r in world.rows("invoice")] == ["in_good"]
    row = world.one("quarantine")
    assert (row["source_id"], row["reason_code"], row["reason"]) == ("in_bad", code, reason)
    assert row["raw_ref"].endswith("/1#0")
    assert world.landing.record(row["raw_ref"])
    assert [i.raw_ref for i in world.store.quarantined()] == [row["raw_ref"]]


def test_a_bad_line_sets_its_whole_invoice_aside(world: Any, make: Any) -> None:
    lines = {"data": [make.line("il_1"), make.line("il_2", tax_amounts=[{"amount": "free"}])]}
    world.land(world.BILLING, "invoices", [make.invoice(lines=lines)])
    world.conform()
    assert world.rows("invoice") == []
    assert world.rows("invoice_line") == []
    row = world.one("quarantine")
    assert (row["entity"], row["field"]) == ("invoice_line", "tax_amounts[*].amount")
    assert (row["amount"], row["currency"]) == (Decimal("108.25"), "USD")


def test_two_lines_with_one_id_set_their_invoice_aside(world: Any, make: Any) -> None:
    twice = {"data": [make.line("il_1"), make.line("il_2"), make.line("il_1", amount=1)]}
    world.land(world.BILLING, "invoices", [make.invoice("in_bad", lines=twice), make.invoice("in_good")])
    result = world.conform()
    assert (result.rows_out, result.rows_quarantined) == (1, 1)
    assert [r["source_id"] for r in world.rows("invoice")] == ["in_good"]
    assert [r["invoice_source_id"] for r in world.rows("invoice_line")] == ["in_good"]
    row = world.one("quarantine")
    assert (row["source_id"], row["entity"], row["reason_code"]) == ("in_bad", "invoice_line", "repeated_id")
    assert (row["field"], row["reason"]) == ("id", "id holds 'il_1' where an id of one line only is expected")


def test_a_line_that_another_invoice_has_sets_the_later_invoice_aside(world: Any, make: Any) -> None:
    line = {"data": [make.line("il_1")]}
    world.land(world.BILLING, "invoices", [make.invoice("in_1", lines=line), make.invoice("in_2", lines=line)])
    result = world.conform()
    assert (result.rows_out, result.rows_merged, result.rows_quarantined) == (1, 0, 1)
    world.land(world.BILLING, "invoices", [make.invoice("in_3", lines=line)])
    assert world.conform().rows_quarantined == 1
    assert [r["source_id"] for r in world.rows("invoice")] == ["in_1"]
    assert [(r["source_id"], r["invoice_source_id"]) for r in world.rows("invoice_line")] == [("il_1", "in_1")]
    assert [(r["source_id"], r["reason_code"]) for r in world.rows("quarantine")] == [
        ("in_2", "repeated_id"),
        ("in_3", "repeated_id"),
    ]
    assert world.rows("quarantine")[0]["reason"] == "id holds 'il_1' where an id that no other record has is expected"


def test_a_line_moves_to_another_invoice_when_its_own_gives_it_up(world: Any, make: Any) -> None:
    world.land(world.BILLING, "invoices", [make.invoice("in_1", lines={"data": [make.line("il_1")]})])
    world.conform()
    moved = [make.invoice("in_2", lines={"data": [make.line("il_1")]}), make.invoice("in_1", lines={"data": []})]
    world.land(world.BILLING, "invoices", moved)
    assert world.conform().rows_quarantined == 0
    assert [(r["source_id"], r["invoice_source_id"]) for r in world.rows("invoice_line")] == [("il_1", "in_2")]


def test_money_behind_the_quarantine_is_summed_by_currency(world: Any, make: Any) -> None:
    bad = [make.invoice(f"in_{n}", customer=None, currency=c) for n, c in enumerate(("usd", "usd", "jpy"))]
    world.land(world.BILLING, "invoices", bad)
    result = world.conform()
    assert result.quarantined_amounts == {"USD": Decimal("216.50"), "JPY": Decimal("10825")}
    with engine() as session:
        (line,) = overview(session, world.lake, world.store.published())
    assert (line.reason_code, line.records, dict(line.amounts)) == (
        "missing",
        3,
        {"USD": Decimal("216.50"), "JPY": Decimal("10825")},
    )


@pytest.mark.parametrize(
    ("changes", "code", "field"),
    [
        ({"quantity": "-5"}, "negative", "quantity"),
        ({"quantity": "many"}, "not_a_number", "quantity"),
        ({"quantity": "1.0000000001"}, "too_many_decimals", "quantity"),
        ({"quantity": "1.000000000000001"}, "too_many_decimals", "quantity"),
        ({"quantity": None}, "missing", "quantity"),
        ({"occurred_at": "2026-03-31T12:00:00Z"}, "future", "occurred_at"),
        ({"specversion": "2.0", "source": "/api"}, "unsupported_version", "specversion"),
        ({"specversion": "1.0"}, "missing", "event_source"),
        ({"specversion": "1.0", "source": "/api", "data_base64": "eA=="}, "unsupported_data", "data_base64"),
        ({"occurred_at": "yesterday"}, "not_an_instant", "occurred_at"),
        ({"event_id": ""}, "missing", "event_id"),
        ({"kind": "guess"}, "unknown_code", "kind"),
        ({"quantity": "NaN"}, "not_a_number", "quantity"),
    ],
)
def test_bad_usage_is_set_aside(world: Any, make: Any, changes: dict[str, Any], code: str, field: str) -> None:
    world.land(world.DROP, "usage", [make.usage(**changes), make.usage("ev_good")])
    world.conform()
    assert [r["event_id"] for r in world.rows("usage_event")] == ["ev_good"]
    row = world.one("quarantine")
    assert (row["reason_code"], row["field"]) == (code, field)


def test_bytes_that_are_no_text_are_set_aside_as_they_were_landed(world: Any, make: Any) -> None:
    bad = Unreadable("event_id;caf\\xe9", "is not UTF-8: byte 0xe9 at 12")
    world.land(world.DROP, "usage", [bad, "{not json", "[1, 2]", make.usage()])
    result = world.conform()
    assert (result.rows_out, result.rows_quarantined) == (1, 3)
    assert sorted(r["reason_code"] for r in world.rows("quarantine")) == ["not_json", "not_json", "wrong_encoding"]
    assert any("cannot be read" in r["reason"] and "0xe9" in r["reason"] for r in world.rows("quarantine"))


@pytest.mark.parametrize("key", ['a"b', "a\\b", "a'b", "", "*", "a.b[0]", "$"])
@pytest.mark.parametrize(("value", "code"), [("x\0y", "nul_character"), ("x" * 1_100_000, "too_long")])
def test_a_field_of_any_name_is_named(world: Any, make: Any, key: str, value: str, code: str) -> None:
    bad = {key + "1": "x", key: value, **make.usage("ev_bad"), "list": [None]}
    world.land(world.DROP, "usage", [bad, {key: "good", **make.usage("ev_good")}])
    result = world.conform()
    assert (result.rows_out, result.rows_quarantined) == (1, 1)
    row = world.one("quarantine")
    assert (row["source_id"], row["reason_code"], row["field"] or "") == ("ev_bad", code, key)


def test_a_record_nested_too_deeply_is_set_aside(world: Any, make: Any) -> None:
    deep = '{"event_id": "ev_bad", "x": ' + "[" * 50_000 + "]" * 50_000 + "}"
    world.land(world.DROP, "usage", [deep, make.usage()])
    result = world.conform()
    assert (result.rows_out, result.rows_quarantined) == (1, 1)
    row = world.one("quarantine")
    assert (row["source_id"], row["reason_code"]) == ("ev_bad", "unreadable")
    assert "nested too deeply" in row["reason"]


def test_a_field_in_another_encoding_is_named(world: Any, make: Any) -> None:
    name = "caf\xe9".encode("latin-1").decode("utf-8", "surrogateescape")
    world.land(world.DROP, "usage", [make.usage("ev_bad", meter=name), make.usage("ev_good")])
    result = world.conform()
    assert (result.rows_out, result.rows_quarantined) == (1, 1)
    row = world.one("quarantine")
    assert (row["reason_code"], row["field"]) == ("wrong_encoding", "meter")
    assert row["reason"] == "meter holds 'caf\\udce9' where text in UTF-8 is expected"


def test_a_record_landed_again_is_one_row_in_quarantine(world: Any, make: Any) -> None:
    bad = make.invoice(customer=None)
    world.land(world.BILLING, "invoices", [bad], [bad])
    first = world.conform()
    assert first.rows_quarantined == 2
    seen = world.one("quarantine")
    world.land(world.BILLING, "invoices", [bad])
    world.conform()
    assert world.one("quarantine") == seen


def test_a_later_good_reading_supersedes_the_bad_one(world: Any, make: Any) -> None:
    world.land(world.BILLING, "invoices", [make.invoice(customer=None)])
    world.conform()
    assert not world.one("quarantine")["superseded"]
    world.land(world.BILLING, "invoices", [make.invoice()])
    world.conform()
    assert world.one("quarantine")["superseded"]
    assert world.store.quarantined() == []


def test_values_in_the_quarantine_are_masked(world: Any, make: Any) -> None:
    world.land(world.BILLING, "invoices", [make.invoice(total="jane.doe@example.com 4111111111111111")])
    world.conform()
    row = world.one("quarantine")
    assert row["value"] == "***@*** ***"
    assert "jane" not in row["reason"]
