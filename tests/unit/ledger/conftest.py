"""A small set of books: canonical rows written to a lake, a store, and an ERP in a file."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tieout import schema
from tieout.entities import LegalEntity
from tieout.ids import Slot
from tieout.lake.tables import Lake
from tieout.ledger import Plan, Protocol, load_rules, plan_batches, post_batch
from tieout.ledger.events import SOURCES
from tieout.settings import Settings
from tieout.store import Store, batches
from tieout_sandbox.file_ledger import FileLedger
from tieout_sandbox.testing import fresh_store

RULES = load_rules(Settings.from_env({}))
INSTANT = Protocol(settle=timedelta(0), checks=(0.0,), lags=(0.0,), sleep=lambda seconds: None)


def entity(**changes: Any) -> LegalEntity:
    """An entity that went live on 2026-03-29."""
    values: dict[str, Any] = {
        "id": "US",
        "name": "Example Inc.",
        "functional_currency": "USD",
        "zone": "America/Los_Angeles",
        "country": "US",
        "go_live": date(2026, 3, 29),
        "go_live_waiver": "a made-up company",
    }
    return LegalEntity.model_validate(values | changes)


@dataclass
class Books:
    """Canonical rows in memory, written to the lake before each plan."""

    lake: Lake
    store: Store
    erp: FileLedger
    entity: LegalEntity
    rows: dict[str, dict[str, dict[str, Any]]] = field(default_factory=lambda: {t: {} for t in SOURCES})
    runs: int = 0

    def put(self, table: str, source_id: str, **values: Any) -> None:
        """Add or replace a row; amounts may be text."""
        columns = {c.name: c for c in schema.table(table).columns}
        unknown = set(values) - set(columns)
        assert not unknown, f"{table} has no column {unknown}"
        common = {
            "id": f"stripe:{source_id}",
            "source": "stripe",
            "source_id": source_id,
            "source_version": "1",
            "legal_entity_id": self.entity.id,
            "correlation_id": source_id,
            "raw_ref": f"stripe/{table}#{source_id}",
            "is_deleted": False,
            "currency": self.entity.functional_currency,
        }
        row = {name: common.get(name) for name in columns} | values
        exact = ("money", "quantity", "price", "rate")
        for name, value in row.items():
            if columns[name].kind in exact and value is not None:
                row[name] = Decimal(value)
        self.rows[table][source_id] = row

    def invoice(
        self, number: str, on: date, *lines: Mapping[str, Any], total: str | None = None, **values: Any
    ) -> None:
        """An invoice of lines with amount, tax, family, start, end (and anything an invoice_line has)."""
        net = sum((Decimal(line["amount"]) for line in lines), Decimal(0))
        tax = sum((Decimal(line.get("tax", "0")) for line in lines), Decimal(0))
        amounts = {"subtotal": net, "tax": tax, "total": Decimal(total) if total else net + tax}
        defaults = {"status": "open", "amount_paid": "0", "amount_remaining": amounts["total"]}
        self.put("invoice", number, number=number, accounting_date=on, **(defaults | amounts | values))
        for position, line in enumerate(lines, 1):
            self.put(
                "invoice_line",
                f"{number}.{position}",
                invoice_source_id=number,
                invoice_number=number,
                line_no=position,
                is_proration=False,
                amount=line["amount"],
                tax=line.get("tax", "0"),
                tax_code=line.get("tax_code"),
                product_family=line.get("family", "seats"),
                period_start=line.get("start"),
                period_end=line.get("end"),
                **{k: v for k, v in line.items() if k in ("meter", "subscription_source_id", "product_source_id")},
            )

    def credit(self, number: str, on: date, invoice: str, line: int, amount: str, **values: Any) -> None:
        """A credit note over one invoice line; `tax`, `to_receivable` and `to_customer_credit` may be given."""
        tax = Decimal(values.pop("tax", "0"))
        total = Decimal(amount) + tax
        defaults = {"status": "issued", "to_receivable": total, "to_customer_credit": "0"}
        amounts = {"subtotal": amount, "tax": tax, "total": total}
        self.put(
            "credit_note",
            number,
            number=number,
            accounting_date=on,
            invoice_source_id=invoice,
            **(defaults | amounts | values),
        )
        self.put(
            "credit_note_line",
            f"{number}.1",
            credit_note_source_id=number,
            invoice_line_source_id=f"{invoice}.{line}",
            amount=amount,
            tax=tax,
            product_family=self.rows["invoice_line"][f"{invoice}.{line}"]["product_family"],
        )

    def pay(self, charge: str, on: date, amount: str, **allocations: str) -> None:
        """A payment by the processor, with amounts by invoice number."""
        allocated = sum((Decimal(a) for a in allocations.values()), Decimal(0))
        self.put(
            "payment",
            charge,
            status="succeeded",
            amount=amount,
            balance_transaction_id=f"txn_{charge}",
            settled_date=on,
            accounting_date=on,
            allocated=allocated,
        )
        for number, part in allocations.items():
            self.put(
                "payment_allocation",
                f"{charge}:{number}",
                payment_source_id=charge,
                invoice_reference=number,
                invoice_source_id=number if number in self.rows["invoice"] else None,
                amount=part,
            )

    def snapshot(self) -> dict[str, int]:
        """Write everything to the lake."""
        versions = {}
        for table, rows in self.rows.items():
            if not rows and self.lake.version(table) is None:
                continue
            shape = schema.table(table).arrow
            versions[table] = self.lake.write(table, pa.Table.from_pylist(list(rows.values()), schema=shape))
        return versions

    def plan(self, day: date, **options: Any) -> Plan:
        """Plan a business date (or `streams=MONTH_END`)."""
        self.runs += 1
        return plan_batches(
            self.entity,
            day,
            lake=self.lake,
            store=self.store,
            rules=options.pop("rules", RULES),
            run_id=f"run{self.runs}",
            snapshot=self.snapshot(),
            **options,
        )

    def post(self, plan: Plan) -> list[str]:
        """Post what was planned."""
        return [post_batch(b, self.erp, self.store, protocol=INSTANT) for b in plan.batches]

    def balances(self, on: date = date(2027, 1, 1)) -> dict[str, Decimal]:
        """What the ERP's accounts hold, debit positive, zeros left out."""
        return {b.account: b.closing for b in self.erp.trial_balance(self.entity.id, on) if b.closing}

    def lines(self, plan: Plan) -> list[tuple[str, str, Decimal]]:
        """(account, side, amount) of every planned line in order."""
        rows = plan.journals.lines.to_pylist()
        return [(r["account"], r["side"], r["amount"]) for r in rows]

    def batch(self, slot: str, version: int = 1) -> batches.Batch:
        """A stored batch by slot, such as `billing/2026-03-29`."""
        stream, _, day = slot.partition("/")
        at = date.fromisoformat(day)
        with self.store.reading() as session:
            return batches.get(
                session, batches.batch_id_of(Slot(self.entity.id, "main", f"{at:%Y-%m}", stream, at), version)
            )


@pytest.fixture
def make_books(tmp_path: Path) -> Any:
    """Books of an entity; keywords change the entity."""

    def make(**changes: Any) -> Books:
        return Books(
            Lake(tmp_path / "lake"),
            fresh_store(tmp_path / "store.sqlite"),
            FileLedger(tmp_path / "erp.sqlite"),
            entity(**changes),
        )

    return make


@pytest.fixture
def books(make_books: Any) -> Books:
    """Books of a US entity in USD."""
    made: Books = make_books()
    return made


@dataclass(frozen=True)
class Beginning:
    """Books after what several tests begin with, to be copied: their files, their rows, what was returned."""

    folder: Path
    rows: dict[str, dict[str, dict[str, Any]]]
    runs: int
    returned: Any


@pytest.fixture(scope="session")
def beginnings() -> dict[Callable[[Books], Any], Beginning]:
    return {}


@pytest.fixture
def begin(
    books: Books,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    beginnings: dict[Callable[[Books], Any], Beginning],
) -> Callable[[Callable[[Books], Any]], Any]:
    """Do something to the fresh books, or copy books it was done to before: a plan takes a second, a copy nothing."""

    def begun(do: Callable[[Books], Any]) -> Any:
        if do not in beginnings:
            returned, folder = do(books), tmp_path_factory.mktemp("beginning") / "books"
            shutil.copytree(tmp_path, folder)
            beginnings[do] = Beginning(folder, deepcopy(books.rows), books.runs, returned)
            return returned
        kept = beginnings[do]
        shutil.rmtree(tmp_path)
        shutil.copytree(kept.folder, tmp_path)
        books.rows, books.runs = deepcopy(kept.rows), kept.runs
        return kept.returned

    return begun


@pytest.fixture
def instant() -> Protocol:
    """The protocol without pauses."""
    return INSTANT
