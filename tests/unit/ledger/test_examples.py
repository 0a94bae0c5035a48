"""Every posting rule by a worked example that finance can read: `examples.yaml`, documents in, postings out."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from tests.unit.ledger.conftest import RULES, Books, entity

from tieout import schema
from tieout.entities import LegalEntity
from tieout.lake.engine import engine
from tieout.ledger import DAILY, MONTH_END, Journals, events, summarise
from tieout.ledger.events import POSITION, SOURCES

ENTITIES = {
    "US": entity(),
    "DE": entity(id="DE", functional_currency="EUR"),
    "UK": entity(id="UK", functional_currency="GBP", write_off="allowance", tax_relief=True),
    "ES": entity(id="ES", revaluation="tieout"),
    "FR": entity(id="FR", functional_currency="EUR", schedule_source="file"),
}
RATES = {
    "EUR": {"20": "1.10", "29": "1.20", "30": "1.25", "31": "1.30"},
    "GBP": {"29": "1.50"},
    "JPY": {"29": "0.0065"},
}
EXAMPLES: dict[str, list[dict[str, Any]]] = yaml.load(  # every number is text: no float touches money
    (Path(__file__).parent / "examples.yaml").read_text(encoding="utf-8"), Loader=yaml.BaseLoader
)


def day(text: str) -> date:
    return date.fromisoformat(f"2026-{text}")


@dataclass
class Case:
    """An example of a rule."""

    rule: str
    example: dict[str, Any]

    @property
    def entity(self) -> LegalEntity:
        return ENTITIES[self.example.get("entity", "US")]

    @property
    def ids(self) -> set[str]:
        """The ids of its documents, or of those of the rule it is `of`."""
        if "of" in self.example:
            return set().union(*(Case(self.example["of"], e).ids for e in EXAMPLES[self.example["of"]]))
        if "position" in self.example:
            return {self.example["position"]["role"]}
        named = (
            values.get("number", values.get("charge", values.get("id"))) for values in self.example["given"].values()
        )
        return {str(name) for name in named}


CASES = [Case(rule, example) for rule, examples in EXAMPLES.items() for example in examples]


def put(books: Books, case: Case) -> None:
    """Add an example's documents to the books."""
    for verb, given in case.example.get("given", {}).items():
        values = dict(given)
        name = re.sub(r"_\d+$", "", verb)
        currency = {"currency": values.pop("currency")} if "currency" in values else {}
        if name == "invoice":
            lines = [dict(line) for line in values.pop("lines")]
            for line in lines:
                line |= {k: day(line[k]) for k in ("start", "end") if k in line}
            more: dict[str, Any] = {f"{k}_date": day(values[k]) for k in ("voided", "uncollectible") if k in values}
            more |= {"subscription_source_id": values.get("subscription")} | currency
            more |= {k: Decimal(values[k]) for k in ("credit_applied", "total") if k in values}
            books.invoice(values["number"], day(values["date"]), *lines, **more)
            for number in range(1, len(lines) + 1):
                books.rows["invoice_line"][f"{values['number']}.{number}"] |= currency
                if "quantity" in lines[number - 1]:
                    books.rows["invoice_line"][f"{values['number']}.{number}"]["quantity"] = Decimal(
                        lines[number - 1]["quantity"]
                    )
        elif name == "credit":
            books.credit(
                values["number"], day(values["date"]), values["invoice"], int(values["line"]), values["amount"],
                **{k: Decimal(values[k]) for k in ("tax", "to_receivable", "to_customer_credit") if k in values},
                **currency,
            )  # fmt: skip
        elif name == "pay":
            books.pay(values["charge"], day(values["date"]), values["amount"], **values["pays"])
            row = books.rows["payment"][values["charge"]]
            row |= currency
            for number, part in values.get("withheld", {}).items():
                books.rows["payment_allocation"][f"{values['charge']}:{number}"]["withheld"] = Decimal(part)
            if values.get("direct"):
                row["balance_transaction_id"] = None
            if "arrives" in values:
                arrived = values["arrives"]
                books.put(
                    "balance_transaction", row["balance_transaction_id"], type="charge", reporting_category="charge",
                    fee="0", net=arrived["amount"], accounting_date=row["settled_date"], **arrived,
                )  # fmt: skip
        else:
            kinds = {c.name: c.kind for c in schema.table(name).columns}
            row = {k: v for k, v in values.items() if k != "id"} | currency
            for column, value in row.items():
                row[column] = day(value) if kinds[column] == "date" else int(value) if kinds[column] == "int" else value
                row[column] = value == "true" if kinds[column] == "bool" else row[column]
            books.put(name, values["id"], **row)


@pytest.fixture(scope="module")
def posted() -> dict[str, Journals]:
    """What the examples of all entities post together, by entity."""
    rows: dict[str, dict[Any, dict[str, Any]]] = {table: {} for table in SOURCES}
    for one in ENTITIES.values():
        books = Books(None, None, None, one)  # type: ignore[arg-type]
        for case in (c for c in CASES if c.entity == one and "given" in c.example):
            put(books, case)
        for currency, rates in RATES.items():
            for number, rate in rates.items():
                books.put(
                    "fx_rate", f"{currency}{number}", currency=currency, to_currency="USD",
                    rate_date=date(2026, 3, int(number)), rate=rate, source="ecb",
                )  # fmt: skip
        for table, found in books.rows.items():
            rows[table] |= {(one.id, key) if table != "fx_rate" else key: row for key, row in found.items()}
    position = [c.example["position"] for c in CASES if "position" in c.example]
    made = {}
    with engine() as session:
        for table, found in rows.items():
            session.bind(table, pa.Table.from_pylist(list(found.values()), schema=schema.table(table).arrow))
        for one in ENTITIES.values():
            held = [p | {k: Decimal(p[k]) for k in ("open_amount", "carried_at")} for p in position if one.id == "ES"]
            of_month = pa.Table.from_pylist(held, schema=POSITION)
            found = events(session, one, (*DAILY, *MONTH_END), one.go_live, date(2026, 3, 31), of_month)
            made[one.id] = summarise(found, RULES, session=session)
    return made


def test_every_rule_has_an_example_and_every_example_a_rule() -> None:
    by_hand = {name for name, stream in RULES.streams().items() if stream == "write_off"}  # no document makes them
    assert set(EXAMPLES) == set(RULES.postings.events) - by_hand


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.rule}: {case.example['case']}")
def test_what_a_rule_posts(posted: dict[str, Journals], case: Case) -> None:
    journals = posted[case.entity.id]
    lines = {(r["run_key"], r["line_no"]): r for r in journals.lines.to_pylist()}
    found: dict[str, dict[str, Decimal]] = {}
    for part in journals.drilldown.to_pylist():
        line = lines[part["run_key"], part["line_no"]]
        about = set(re.split(r"[:./]", part["event_id"]))
        if (
            line["event_type"] != case.rule
            or not about & case.ids
            or part["event_date"] != day(case.example.get("on", "01-01"))
        ):
            continue
        side = found.setdefault(line["side"], {})
        side[line["account_role"]] = side.get(line["account_role"], Decimal(0)) + part["amount"]
    expected = {
        side: {role: Decimal(amount) for role, amount in roles.items()}
        for side, roles in (case.example["posts"] or {}).items()
    }
    held = [r["reason"] for r in journals.held.to_pylist() if set(re.split(r"[:./]", r["event_id"])) & case.ids]
    assert (found, held) == (expected, [])
