"""The company's CRM as Salesforce records; a record's SystemModstamp is its version's own stamp."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Protocol

from tieout_sandbox.company.model import Company, Contract, Opportunity
from tieout_sandbox.simulators.documents import Document
from tieout_sandbox.simulators.instants import last_day, seconds
from tieout_sandbox.simulators.salesforce.soql import salesforce_time

_FAMILIES = {"seats": "Seats", "platform": "Platform", "usage": "Usage", "support": "Support"}
_DELETED_EVERY = 5  # of the lost opportunities, this fraction is tidied away after a while
_DELETED_AFTER = timedelta(days=20)


class _Version(Protocol):
    @property
    def at(self) -> datetime: ...
    @property
    def visible_at(self) -> datetime: ...


def render(company: Company) -> Iterator[Document]:
    """Every record of the org, each with its versions."""
    yield from _products(company)
    for a in company.accounts:
        fixed = {
            "Name": a.name,
            "CurrencyIsoCode": a.currency,
            "ParentId": a.parent_id,
            "Industry": a.industry,
            "Website": a.website,
            "BillingCountry": a.country,
        }
        states = [
            {
                "Type": "Customer" if v.status == "Customer" else v.status,
                "Status__c": v.status,
                "Billing_Entity__c": v.legal_entity_id,
            }
            for v in a.versions
        ]
        yield from _versions("Account", a.id, a.created, fixed, a.versions, states)
    for o in company.opportunities:
        yield from _opportunity(o)
    for q in company.quotes:
        fixed = {
            "Name": q.number,
            "CurrencyIsoCode": q.currency,
            "SBQQ__Account__c": q.account_id,
            "SBQQ__Opportunity2__c": q.opportunity_id,
            "SBQQ__Type__c": q.kind,
            "SBQQ__Primary__c": True,
            "SBQQ__StartDate__c": q.start_date.isoformat(),
            "SBQQ__EndDate__c": last_day(q.end_date).isoformat(),
            "SBQQ__NetAmount__c": _number(q.net_amount),
            "SBQQ__MasterContract__c": q.contract_id if q.kind == "Amendment" else None,
            "Legal_Entity__c": q.legal_entity_id,
        }
        states = [{"SBQQ__Status__c": v.status} for v in q.versions]
        yield from _versions("SBQQ__Quote__c", q.id, q.created, fixed, q.versions, states)
        for number, line in enumerate(q.lines, 1):
            fields = {
                "Name": f"QL-{q.number.removeprefix('Q-')}-{number}",
                "CurrencyIsoCode": q.currency,
                "SBQQ__Quote__c": q.id,
                "SBQQ__Product__c": line.product_id,
                "SBQQ__Quantity__c": _number(line.quantity),
                "SBQQ__NetPrice__c": _number(line.net_unit_price),
                "SBQQ__NetTotal__c": _number(line.net_total),
            }
            yield from _versions("SBQQ__QuoteLine__c", line.id, q.created, fields, q.versions[:1], [{}])
    for c in company.contracts:
        yield from _contract(c)
    for number, line in enumerate(company.contract_lines, 1):
        fixed = {
            "Name": f"SUB-{number:07d}",
            "CurrencyIsoCode": line.currency,
            "SBQQ__Account__c": line.account_id,
            "SBQQ__Contract__c": line.contract_id,
            "SBQQ__Product__c": line.product_id,
            "SBQQ__Quantity__c": _number(line.quantity),
            "SBQQ__NetPrice__c": _number(line.net_unit_price),
            "SBQQ__SubscriptionStartDate__c": line.start_date.isoformat(),
            "SBQQ__SubscriptionEndDate__c": last_day(line.end_date).isoformat(),
            "SBQQ__RevisedSubscription__c": line.root_id if line.root_id != line.id else None,
            "SBQQ__RootId__c": line.root_id,
            "SBQQ__BillingFrequency__c": line.billing_frequency,
            "Support_Level__c": line.support_level,
            "Legal_Entity__c": line.legal_entity_id,
        }
        states = [
            {
                "SBQQ__TerminatedDate__c": v.terminated_date.isoformat() if v.terminated_date else None,
                "Is_Trial__c": v.is_trial,
            }
            for v in line.versions
        ]
        yield from _versions("SBQQ__Subscription__c", line.id, line.created, fixed, line.versions, states)
    for e in company.entitlements:
        currency = company.entity(e.legal_entity_id).currency
        fixed = {
            "Name": e.name,
            "CurrencyIsoCode": currency,
            "AccountId": e.account_id,
            "Type": "Phone Support",
            "StartDate": e.start_date.isoformat(),
            "Contract_Line__c": e.contract_line_id,
            "Legal_Entity__c": e.legal_entity_id,
        }
        states = [
            {"Status": v.status, "EndDate": last_day(v.end_date).isoformat(), "Support_Level__c": v.level}
            for v in e.versions
        ]
        yield from _versions("Entitlement", e.id, e.created, fixed, e.versions, states)


def _products(company: Company) -> Iterator[Document]:
    for p in company.products:
        fields = {
            "Name": p.name,
            "CurrencyIsoCode": company.entities[0].currency,
            "ProductCode": p.key,
            "StockKeepingUnit": p.key,
            "Family": _FAMILIES[p.family],
            "IsActive": True,
            "QuantityUnitOfMeasure": p.unit or "Each",
            "SBQQ__ChargeType__c": "Usage" if p.family == "usage" else "Recurring",
            "SBQQ__SubscriptionPricing__c": "Fixed Price",
            "Meter__c": p.meter,
            "Support_Level__c": p.support_level,
            "CreatedDate": salesforce_time(seconds(p.created)),
        }
        stamp = seconds(p.created)
        yield Document("salesforce", "org", "Product2", p.crm_id, stamp, stamp, 1, fields)


def _opportunity(o: Opportunity) -> Iterator[Document]:
    fixed = {
        "Name": o.name,
        "CurrencyIsoCode": o.currency,
        "AccountId": o.account_id,
        "Amount": _number(o.amount),
        "CloseDate": o.close_date.isoformat(),
        "Type": o.kind,
    }
    states: list[dict[str, Any]] = [
        {"StageName": v.stage, "IsClosed": v.stage.startswith("Closed"), "IsWon": v.stage == "Closed Won"}
        for v in o.versions
    ]
    yield from _versions("Opportunity", o.id, o.created, fixed, o.versions, states)
    if o.versions[-1].stage == "Closed Lost" and sum(o.id.encode()) % _DELETED_EVERY == 0:
        gone = seconds(o.versions[-1].visible_at + _DELETED_AFTER)
        created = {"CreatedDate": salesforce_time(seconds(o.created))}
        body = fixed | states[-1] | created | {"IsDeleted": True}
        yield Document("salesforce", "org", "Opportunity", o.id, gone, gone, len(o.versions) + 1, body)


def _contract(c: Contract) -> Iterator[Document]:
    fixed = {
        "CurrencyIsoCode": c.currency,
        "AccountId": c.account_id,
        "ContractNumber": c.number,
        "StartDate": c.start_date.isoformat(),
        "ContractTerm": c.term_months,
        "SBQQ__Quote__c": c.quote_id,
        "SBQQ__Opportunity__c": c.opportunity_id,
        "Legal_Entity__c": c.legal_entity_id,
    }
    states = [
        {
            "Status": v.status,
            "StatusCode": "Draft" if v.status == "Draft" else "Activated",
            "EndDate": last_day(v.end_date).isoformat(),
        }
        for v in c.versions
    ]
    yield from _versions("Contract", c.id, c.created, fixed, c.versions, states)


def _versions(
    name: str,
    record_id: str,
    created: datetime,
    fixed: dict[str, Any],
    versions: Sequence[_Version],
    states: Sequence[dict[str, Any]],
) -> Iterator[Document]:
    common = fixed | {"CreatedDate": salesforce_time(seconds(created))}
    for number, (version, state) in enumerate(zip(versions, states, strict=True), 1):
        stamp, visible_at = seconds(version.at), seconds(version.visible_at)
        yield Document("salesforce", "org", name, record_id, stamp, visible_at, number, common | state)


def _number(value: Decimal | None) -> float | None:
    """Salesforce sends numbers as JSON doubles; the shortest text of this double is the decimal we started from."""
    return None if value is None else float(value)
