"""A small world to conform in: landing area, lake and store in a folder, and records as the vendors write them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from tieout import schema
from tieout.conform.steps import ConformResult, conform, replay
from tieout.lake.landing import Landing, Record
from tieout.lake.tables import Lake
from tieout.settings import Settings
from tieout.store import Store
from tieout_sandbox.testing import fresh_store

START = datetime(2026, 3, 30, 9, tzinfo=UTC)
ENTITIES = """
entities:
  - {id: US, name: US Inc., functional_currency: USD, zone: America/Los_Angeles, country: US, go_live: 2026-03-29}
  - {id: DE, name: DE GmbH, functional_currency: EUR, zone: Europe/Berlin, country: DE, go_live: 2026-03-29}
  - {id: JP, name: JP KK, functional_currency: JPY, zone: Asia/Tokyo, country: JP, go_live: 2026-03-29}
"""
PRODUCTS = """source,source_id,canonical_id,family,valid_from,valid_to
stripe,prod_seat,crm:01tSEAT,seats,2025-01-01,
"""


@dataclass(frozen=True)
class Source:
    name: str
    kind: str
    legal_entity: str | None = None


CRM, BILLING, BILLING_JP, SUPPORT, DROP, ERP = (
    Source("salesforce", "salesforce"),
    Source("stripe_us", "stripe", "US"),
    Source("stripe_jp", "stripe", "JP"),
    Source("zendesk", "zendesk"),
    Source("drop", "files"),
    Source("tryton", "erp"),
)
KINDS = {s.name: s.kind for s in (CRM, BILLING, BILLING_JP, SUPPORT, DROP, ERP)}


@dataclass
class World:
    """Land records, conform them, read tables."""

    root: Path
    settings: Settings
    store: Store
    CRM = CRM
    BILLING = BILLING
    BILLING_JP = BILLING_JP
    SUPPORT = SUPPORT
    DROP = DROP
    ERP = ERP
    landed: int = 0
    runs: int = 0
    lake: Lake = field(init=False)
    landing: Landing = field(init=False)

    def __post_init__(self) -> None:
        self.lake, self.landing = Lake(self.root / "lake"), Landing(self.root / "raw")

    def land(
        self, source: Source, object: str, *pages: Sequence[Record], at: datetime | None = None, name: str | None = None
    ) -> None:
        """One extract with these pages."""
        self.landed += 1
        writer = self.landing.open(
            source.name, object, window_lo=None, window_hi=None, extract_id=name or f"{self.landed:08}-x"
        )
        for n, page in enumerate(pages):
            when = at or START + timedelta(minutes=self.landed, seconds=n)
            writer.page(page, request_id=None, http_status=200, fetched_at=when)
        writer.commit()

    def conform(self, *sources: Source, run_id: str | None = None) -> ConformResult:
        self.runs += 1
        return conform(sources or (CRM, BILLING, BILLING_JP, SUPPORT, DROP, ERP), **self._where(run_id))

    def replay(self, *sources: Source, objects: Iterable[str] | None = None) -> ConformResult:
        self.runs += 1
        return replay(sources, objects=list(objects) if objects else None, **self._where(None))

    def _where(self, run_id: str | None) -> dict[str, Any]:
        return {
            "landing": self.landing, "lake": self.lake, "store": self.store, "config": self.settings,
            "run_id": run_id or f"run-{self.runs}", "every_source": KINDS,
        }  # fmt: skip

    def table(self, name: str) -> pa.Table:
        published = self.store.published()
        return self.lake.read(name, published[name]) if name in published else schema.table(name).arrow.empty_table()

    def rows(self, name: str) -> list[dict[str, Any]]:
        return sorted(self.table(name).to_pylist(), key=lambda r: (r.get("source", ""), r.get("source_id") or ""))

    def one(self, name: str) -> dict[str, Any]:
        (row,) = self.rows(name)
        return row


@pytest.fixture
def make() -> SimpleNamespace:
    """Records as the vendors write them; keyword arguments change fields."""
    return SimpleNamespace(
        account=account, customer=customer, invoice=invoice, line=line, usage=usage, text=text, without=without
    )


@pytest.fixture
def world(tmp_path: Path) -> World:
    config = tmp_path / "config"
    (config / "mappings").mkdir(parents=True)
    (config / "entities.yaml").write_text(ENTITIES)
    (config / "mappings" / "products.csv").write_text(PRODUCTS)
    store = fresh_store(tmp_path / "store.sqlite")
    return World(tmp_path, Settings(tmp_path, config, str(tmp_path / "lake"), store.url), store)


def customer(id: str = "cus_1", **changes: Any) -> dict[str, Any]:
    return {
        "id": id, "object": "customer", "created": 1767225600, "name": "Acme", "currency": "usd", "delinquent": False,
        "address": {"country": "US"}, "metadata": {"crm_account_id": "001000000000001AAA"},
    } | changes  # fmt: skip


def account(id: str = "001000000000001AAA", **changes: Any) -> dict[str, Any]:
    return {
        "Id": id, "Name": "Acme Corp.", "IsDeleted": False, "CreatedDate": "2025-10-01T08:00:00.000+0000",
        "SystemModstamp": "2025-10-01T08:00:00.000+0000", "CurrencyIsoCode": "USD", "ParentId": None,
    } | changes  # fmt: skip


def line(id: str = "il_1", **changes: Any) -> dict[str, Any]:
    return {
        "id": id, "object": "line_item", "amount": 10000, "currency": "usd", "description": "Seats", "metadata": {},
        "period": {"start": 1774854000, "end": 1777532400}, "price": {"id": "price_1", "product": "prod_seat"},
        "proration": False, "quantity": 10, "subscription": "sub_1", "subscription_item": "si_1",
        "tax_amounts": [{"amount": 825, "inclusive": False, "tax_rate": "txr_1"}],
    } | changes  # fmt: skip


def invoice(id: str = "in_1", **changes: Any) -> dict[str, Any]:
    return {
        "id": id, "object": "invoice", "number": "US-2026-000001", "customer": "cus_1", "subscription": "sub_1",
        "status": "open", "currency": "usd", "subtotal": 10000, "tax": 825, "total": 10825, "amount_paid": 0,
        "amount_remaining": 10825, "created": 1774854000, "effective_at": None, "due_date": None,
        "status_transitions": {"finalized_at": 1774857600, "paid_at": None, "voided_at": None,
                               "marked_uncollectible_at": None},
        "pre_payment_credit_notes_amount": 0, "paid_out_of_band": False,
        "lines": {"object": "list", "has_more": False, "data": [line(id.replace("in_", "il_"))]},
    } | changes  # fmt: skip


def usage(id: str = "ev_1", **changes: Any) -> dict[str, Any]:
    return {
        "event_id": id, "subscription_id": "sub_1", "customer_id": "cus_1", "meter": "api_calls", "unit": "call",
        "quantity": "10", "occurred_at": "2026-03-29T12:00:00Z", "kind": "usage", "corrects_event_id": None,
    } | changes  # fmt: skip


def without(record: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {k: v for k, v in record.items() if k not in keys}


def text(record: Mapping[str, Any]) -> str:
    return json.dumps(record)
