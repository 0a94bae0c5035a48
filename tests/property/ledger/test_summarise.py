"""Invariants of summarisation: balance, exact drill-down, no order, versions that add up to the latest content."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tieout.lake.engine import Engine, engine
from tieout.ledger import CARRIED, EVENTS, Journals, load_rules, summarise
from tieout.ledger.rules import rules_table
from tieout.settings import Settings

RULES = load_rules(Settings.from_env({}))
LEG = {(r["event_type"], r["role"], r["side"]): r["leg"] for r in rules_table(RULES)}
FIRST = date(2026, 3, 29)
ZERO = Decimal(0)

cents = st.integers(-99_999, 99_999).map(lambda n: Decimal(n).scaleb(-2))


@st.composite
def events(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Invoices of one to three lines, payments with and without an invoice, and a product nobody has mapped."""
    rows = []
    for number in draw(st.lists(st.integers(1, 12), unique=True, max_size=8)):
        day = FIRST + timedelta(days=draw(st.integers(0, 2)))
        base = dict.fromkeys(EVENTS.names) | dict.fromkeys(
            ("net", "tax", "gross", "deferred", "recognised", "to_receivable", "to_credit", "rounding"), ZERO
        )
        base |= {
            "legal_entity_id": draw(st.sampled_from(["US", "DE"])), "document_id": f"doc{number}", "event_date": day,
            "currency": draw(st.sampled_from(["USD", "EUR"])), "source": "s", "correlation_id": "c", "raw_ref": "r",
        }  # fmt: skip
        if draw(st.booleans()):
            applied, rest = draw(cents), draw(cents)
            kind = draw(st.sampled_from(["payment_processor", "payment_direct"]))
            amounts = {"gross": applied + rest, "to_receivable": applied, "to_credit": rest}
            rows.append(base | amounts | {"event_id": f"pay{number}", "event_type": kind, "source_id": f"{number}"})
            continue
        for line in range(draw(st.integers(1, 3))):
            net, tax = draw(cents), draw(cents)
            kind = draw(st.sampled_from(["invoice_ahead", "invoice_delivered", "negative_invoice_ahead"]))
            family = draw(st.sampled_from(["seats", "usage", "platform", "nobody knows"]))
            rows.append(
                base
                | {"net": net, "tax": tax, "gross": net + tax, "product_family": family, "event_type": kind}
                | {"event_id": f"inv{number}.{line}", "source_id": f"{number}.{line}"}
            )
    return rows


@pytest.fixture(scope="module")
def session() -> Iterator[Engine]:
    with engine() as made:
        yield made


def table(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=EVENTS)


def legs(journals: Journals) -> dict[tuple[Any, ...], Decimal]:
    """Signed amount by event, date, leg and account."""
    lines = {(r["run_key"], r["line_no"]): r for r in journals.lines.to_pylist()}
    entity = {r["run_key"]: r["legal_entity_id"] for r in journals.headers.to_pylist()}
    total: defaultdict[tuple[Any, ...], Decimal] = defaultdict(lambda: ZERO)
    for part in journals.drilldown.to_pylist():
        line = lines[part["run_key"], part["line_no"]]
        key = (
            entity[part["run_key"]], part["event_id"], part["event_date"], part["leg"], line["account"],
            line["account_role"], line["event_type"], line["product_family"], line["tax_code"], line["currency"],
        )  # fmt: skip
        total[key] += part["amount"] if line["side"] == "debit" else -part["amount"]
    return {k: v for k, v in total.items() if v}


def carried(total: dict[tuple[Any, ...], Decimal]) -> pa.Table:
    names = (
        "legal_entity_id", "event_id", "event_date", "leg", "account", "role", "event_type", "product_family",
        "tax_code", "currency",
    )  # fmt: skip
    rows = [dict.fromkeys(CARRIED.names) | dict(zip(names, k, strict=True)) | {"signed": v} for k, v in total.items()]
    return pa.Table.from_pylist(rows, schema=CARRIED)


@settings(max_examples=8, deadline=None)
@given(rows=events())
def test_journals_balance_and_every_line_is_the_sum_of_its_source_rows(
    session: Engine, rows: list[dict[str, Any]]
) -> None:
    made = summarise(table(rows), RULES, session=session)
    sides: defaultdict[tuple[str, str], Decimal] = defaultdict(lambda: ZERO)
    parts: defaultdict[tuple[str, int], list[Decimal]] = defaultdict(list)
    for part in made.drilldown.to_pylist():
        parts[part["run_key"], part["line_no"]].append(part["amount"])
    for line in made.lines.to_pylist():
        sides[line["run_key"], line["currency"]] += line["amount"] if line["side"] == "debit" else -line["amount"]
        amounts = parts[line["run_key"], line["line_no"]]
        assert line["amount"] == sum(amounts) > 0
        assert line["row_count"] == len(amounts)
    assert not any(sides.values())
    for header in made.headers.to_pylist():
        assert header["debit"] == header["credit"]


@settings(max_examples=5, deadline=None)
@given(rows=events())
def test_an_event_is_posted_whole_or_waits_whole_with_its_document(session: Engine, rows: list[dict[str, Any]]) -> None:
    made = summarise(table(rows), RULES, session=session)
    posted, held = set(made.drilldown["event_id"].to_pylist()), set(made.held["event_id"].to_pylist())
    assert not posted & held
    document = {r["event_id"]: r["document_id"] for r in rows}
    assert not {document[e] for e in posted} & {document[e] for e in held}
    silent = {r["event_id"] for r in rows} - posted - held
    assert all(not (r["gross"] or r["net"] or r["tax"]) for r in rows if r["event_id"] in silent)


@settings(max_examples=5, deadline=None)
@given(rows=events(), data=st.data())
def test_the_order_of_events_changes_nothing(session: Engine, rows: list[dict[str, Any]], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(rows))
    one, other = summarise(table(rows), RULES, session=session), summarise(table(shuffled), RULES, session=session)
    assert one.headers == other.headers
    assert one.lines == other.lines
    assert one.drilldown == other.drilldown


@settings(max_examples=3, deadline=None)
@given(first=events(), second=events(), third=events())
def test_versions_add_up_to_the_latest_content(
    session: Engine, first: list[dict[str, Any]], second: list[dict[str, Any]], third: list[dict[str, Any]]
) -> None:
    total: dict[tuple[Any, ...], Decimal] = {}
    for rows in (first, second, third, first):
        step = legs(summarise(table(rows), RULES, carried=carried(total), session=session))
        total = {k: v for k in {*total, *step} if (v := total.get(k, ZERO) + step.get(k, ZERO))}
        assert total == legs(summarise(table(rows), RULES, session=session))
