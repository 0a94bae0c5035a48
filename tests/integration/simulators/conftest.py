"""A hand-made little company on real loopback servers, one process per module."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import requests

from tieout_sandbox.simulators.credentials import load_or_create
from tieout_sandbox.simulators.documents import Document, DocumentStore
from tieout_sandbox.simulators.process import start, stop

NOW = int(datetime(2026, 3, 30, 9, 0, tzinfo=UTC).timestamp())
DAY = 86400


def stripe(name: str, object_id: str, stamp: int, body: dict[str, Any], **more: Any) -> Document:
    visible_at = more.pop("visible_at", stamp)
    body = {"created": stamp, **body}
    return Document(
        "stripe",
        more.pop("account", "acct_US"),
        name,
        object_id,
        stamp,
        visible_at,
        more.pop("version", 1),
        body,
        more.pop("parent", ""),
    )


def event(event_id: str, kind: str, name: str, object_id: str, version: int, at: int, visible_at: int) -> Document:
    ref: dict[str, Any] = {"type": kind, "ref": [name, object_id, version]}
    if version > 1:
        ref["previous"] = version - 1
    return stripe("events", event_id, at, ref, visible_at=visible_at)


def stripe_documents() -> Iterator[Document]:
    old = NOW - 40 * DAY
    unit = {"currency": "usd", "product": "prod_1", "unit_amount": 1000, "unit_amount_decimal": "1000"}
    recurring = {"aggregate_usage": None, "interval": "month", "interval_count": 1, "usage_type": "licensed"}
    yield stripe("products", "prod_1", old, {"name": "Seat", "updated": old, "active": True})
    yield stripe("prices", "price_1", old, {**unit, "recurring": recurring, "active": True, "type": "recurring"})
    yield stripe("tax_rates", "txr_1", old, {"display_name": "Sales Tax", "percentage": 8.25})
    for i in range(25):
        body = {"name": f"Customer {i}", "email": f"c{i}@example.com", "metadata": {"crm_account_id": f"001{i:015d}"}}
        yield stripe("customers", f"cus_{i:03d}", NOW - 35 * DAY + i * 3600, body)
    yield event("evt_old", "customer.created", "customers", "cus_000", 1, NOW - 35 * DAY, NOW - 35 * DAY)
    yield stripe("customers", "cus_999", old, {"name": "Customer 999", "email": None}, account="acct_DE")
    for i, status in enumerate(["active", "past_due", "trialing", "canceled"]):
        items = [
            {"id": f"si_{i}{n:02d}", "created": old, "price": "price_1", "quantity": 2, "subscription": f"sub_{i}"}
            for n in range(12 if i == 0 else 1)
        ]
        body = {
            "status": status,
            "customer": f"cus_00{i}",
            "currency": "usd",
            "items": items,
            "billing_cycle_anchor": old,
            "start_date": old,
            "current_period_start": old,
            "current_period_end": NOW + DAY,
        }
        yield stripe("subscriptions", f"sub_{i}", old + i, body)
    invoice = {
        "customer": "cus_001",
        "subscription": "sub_1",
        "currency": "usd",
        "total": 23_000,
        "subtotal": 23_000,
        "amount_due": 23_000,
        "amount_paid": 0,
        "amount_remaining": 23_000,
        "period_start": old,
        "period_end": NOW,
    }
    transitions = dict.fromkeys(("finalized_at", "marked_uncollectible_at", "paid_at", "voided_at"))
    created = NOW - 3 * DAY
    states = [
        (created, {"status": "draft", "number": None, "status_transitions": transitions}),
        (created + 3600, {"status": "open", "number": "US-2026-000001", "status_transitions": transitions}),
        # Paid on the last day, but shown only half an hour after.
        (NOW - 2 * 3600, {"status": "paid", "number": "US-2026-000001", "status_transitions": transitions}),
    ]
    for version, (at, state) in enumerate(states, 1):
        visible = at + 1800 if version == 3 else at
        yield stripe("invoices", "in_1", created, invoice | state, version=version, visible_at=visible)
        kind = ["invoice.created", "invoice.finalized", "invoice.paid"][version - 1]
        yield event(f"evt_in_{version}", kind, "invoices", "in_1", version, at, visible + 600)
    for n in range(23):
        line = {
            "amount": 1000,
            "currency": "usd",
            "period": {"start": old, "end": NOW},
            "price": "price_1",
            "quantity": 1,
            "tax_rates": ["txr_1"],
            "type": "subscription",
        }
        yield Document("stripe", "acct_US", "lines", f"il_{22 - n:02d}", n, created, 1, line, "in_1")
    charge = {"amount": 5000, "amount_captured": 5000, "currency": "usd", "customer": "cus_001", "status": "succeeded"}
    yield stripe("charges", "ch_1", created, charge | {"balance_transaction": "txn_1"})
    yield stripe("refunds", "re_1", created + 10, {"amount": 500, "currency": "usd", "charge": "ch_1"}, parent="ch_1")
    payout = {"amount": 9000, "currency": "usd", "arrival_date": NOW - DAY, "status": "paid", "automatic": True}
    yield stripe("payouts", "po_1", NOW - 2 * DAY, payout)
    yield stripe("payouts", "po_2", NOW - 2 * DAY, payout | {"automatic": False})
    for i in range(6):
        money = {"amount": 2000, "fee": 50, "net": 1950, "currency": "usd", "type": "charge", "source": "ch_1"}
        money |= {"reporting_category": "charge", "available_on": NOW - DAY if i < 4 else NOW + DAY}
        parent = "po_1" if i < 3 else ""
        yield stripe("balance_transactions", f"txn_{i}", NOW - 3 * DAY + i, money, parent=parent)


def salesforce_documents() -> Iterator[Document]:
    stamp = NOW - 5 * DAY
    for i in range(450):
        body = {
            "Name": f'Account {i}, "quoted"\nsecond line' if i == 7 else f"Account {i}",
            "CurrencyIsoCode": "USD",
            "CreatedDate": "2026-01-05T10:00:00.000+0000",
            "Status__c": "Customer" if i % 2 else "Prospect",
        }
        yield Document("salesforce", "org", "Account", f"001{i:012d}AAA", stamp + i // 100, stamp + i, 1, body)
    late = {"Name": "Late", "CurrencyIsoCode": "EUR", "Status__c": "Customer"}
    yield Document("salesforce", "org", "Account", "001LATELATELATEAAA", NOW - 3600, NOW - 60, 1, late)
    for i in range(4):
        body = {
            "Name": f"Deal {i}",
            "Amount": 100.5 * (i + 1),
            "StageName": "Closed Won",
            "CloseDate": f"2026-03-0{i + 1}",
        }
        body |= {"IsClosed": True, "IsWon": True}
        record_id = f"006{i:012d}AAA"
        yield Document("salesforce", "org", "Opportunity", record_id, stamp, stamp, 1, body)
        if i == 3:
            gone = body | {"IsDeleted": True}
            yield Document("salesforce", "org", "Opportunity", record_id, NOW - DAY, NOW - DAY, 2, gone)


def zendesk_documents() -> Iterator[Document]:
    def ticket(number: int, stamp: int, status: str, version: int = 1) -> Document:
        body = {
            "subject": f"Ticket {number}",
            "status": status,
            "organization_id": 500,
            "requester_id": 900,
            "created_at": "2026-03-01T00:00:00Z",
            "updated_at": "2026-03-01T00:00:00Z",
        }
        return Document("zendesk", "desk", "tickets", str(number), stamp, stamp, version, body)

    for i in range(30):
        yield ticket(100 + i, NOW - 10 * DAY + i // 3, "open")
    yield ticket(100, NOW - DAY, "solved", version=2)
    yield ticket(101, NOW - DAY, "deleted", version=2)
    yield ticket(999, NOW - 30, "new")
    for i in range(10):
        stamp = NOW - 9 * DAY + (i // 4)
        body = {
            "name": f"Org {i}",
            "external_id": f"001{i:015d}",
            "domain_names": [],
            "created_at": "2026-03-01T00:00:00Z",
        }
        yield Document("zendesk", "desk", "organizations", str(500 + i), stamp, stamp, 1, body)
    user = {"name": "Ann", "email": "ann@example.com", "role": "end-user", "organization_id": 500}
    yield Document("zendesk", "desk", "users", "900", NOW - 9 * DAY, NOW - 9 * DAY, 1, user)


@dataclass(slots=True)
class Vendors:
    """The running simulators and the calls tests make."""

    base: str
    secrets: dict[str, Any]
    session: requests.Session

    def control(self, method: str, path: str, **more: Any) -> Any:
        headers = {"Authorization": f"Bearer {self.secrets['control_token']}"}
        answer = self.session.request(method, f"{self.base}/_control/{path}", headers=headers, timeout=10, **more)
        assert answer.ok, answer.text
        return answer.json()

    def fault(self, **setting: Any) -> str:
        return self.control("POST", "faults", json=setting)["ids"][0]

    def at(self, now: str) -> None:
        self.control("POST", "clock", json={"now": now})

    def stripe(self, path: str, method: str = "GET", key: str | None = None, **more: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {key or self.secrets['stripe']['acct_US']['secret']}"} | more.pop(
            "headers", {}
        )
        more.setdefault("timeout", 10)
        return self.session.request(method, f"{self.base}/stripe/v1/{path}", headers=headers, **more)

    def salesforce_token(self) -> str:
        known = self.secrets["salesforce"]
        answer = self.session.post(
            f"{self.base}/salesforce/services/oauth2/token",
            data={"grant_type": "client_credentials", **known},
            timeout=10,
        )
        return answer.json()["access_token"]

    def salesforce(self, path: str, method: str = "GET", token: str | None = None, **more: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {token or self.salesforce_token()}"} | more.pop("headers", {})
        url = f"{self.base}/salesforce/services/data/v60.0/{path}"
        if path.startswith("/"):
            url = f"{self.base}/salesforce{path}"
        return self.session.request(method, url, headers=headers, timeout=10, **more)

    def zendesk(self, path: str, **more: Any) -> requests.Response:
        known = self.secrets["zendesk"]
        url = path if path.startswith("http") else f"{self.base}/zendesk/api/v2/{path}"
        return self.session.get(url, auth=(f"{known['email']}/token", known["token"]), timeout=10, **more)


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vendors]:
    home: Path = tmp_path_factory.mktemp("simulators")
    store = DocumentStore.create(home / "vendors.db")
    store.add([*stripe_documents(), *salesforce_documents(), *zendesk_documents()])
    store.seal()
    store.set_meta("accounts", ["acct_US", "acct_DE"])
    store.set_meta("now", NOW)
    store.close()
    running = start(home / "vendors.db", home / "secrets.json")
    secrets = load_or_create(home / "secrets.json", [])
    with requests.Session() as session:
        yield Vendors(running.base_url, secrets, session)
    stop(running.pid)


@pytest.fixture
def vendors(process: Vendors) -> Vendors:
    """The servers with the clock at 2026-03-30 09:00 UTC and no faults."""
    process.at("2026-03-30T09:00:00Z")
    process.control("DELETE", "faults")
    return process
