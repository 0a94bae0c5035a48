"""What the CRM knows of a customer: account, opportunities, quotes, contracts, contract lines, entitlements."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from random import Random

from tieout_sandbox.company.catalogue import BY_ID, PRODUCTS, list_price
from tieout_sandbox.company.days import DAY, add_months, moment
from tieout_sandbox.company.drafts import LineDraft
from tieout_sandbox.company.model import (
    Account,
    AccountVersion,
    Contract,
    ContractLineVersion,
    ContractVersion,
    Entitlement,
    EntitlementVersion,
    Opportunity,
    OpportunityVersion,
    Quote,
    QuoteLine,
    QuoteVersion,
)
from tieout_sandbox.company.world import World

FREQUENCY = {1: "Monthly", 3: "Quarterly", 12: "Annual"}
_FIRST = ("Alder", "Birch", "Cobalt", "Delta", "Ember", "Fjord", "Granite", "Harbor", "Indigo", "Juniper", "Kestrel",
          "Lumen", "Maple", "Nimbus", "Onyx", "Prairie", "Quartz", "Raven", "Summit", "Tundra", "Umbra", "Vertex",
          "Willow", "Zephyr")  # fmt: skip
_SECOND = ("Analytics", "Bank", "Biotech", "Dynamics", "Energy", "Foods", "Freight", "Games", "Health", "Hotels",
           "Insurance", "Labs", "Logistics", "Media", "Motors", "Networks", "Optics", "Pharma", "Retail", "Robotics",
           "Schools", "Systems", "Textiles", "Works")  # fmt: skip
_FORM = {"US": ("Inc.", "LLC", "Corp."), "DE": ("GmbH", "AG", "KG"), "JP": ("KK", "GK", "Co., Ltd.")}
_INDUSTRIES = ("Technology", "Manufacturing", "Healthcare", "Retail", "Finance", "Education", "Media")


def company_name(rng: Random, entity: str) -> tuple[str, str]:
    """A customer's name and its domain."""
    first, second, number = rng.choice(_FIRST), rng.choice(_SECOND), rng.randrange(1000)
    return f"{first} {second} {number} {rng.choice(_FORM[entity])}", f"{first}-{second}{number}.example".lower()


@dataclass(slots=True)
class AccountDraft:
    """An account and what it sells itself under: every later record of the customer refers to it."""

    id: str
    name: str
    domain: str
    entity: str
    currency: str
    created: datetime
    parent_id: str | None
    industry: str
    versions: list[AccountVersion]

    def freeze(self) -> Account:
        return Account(
            self.id, self.name, self.parent_id, BY_ID[self.entity].country, self.currency, self.industry,
            f"https://www.{self.domain}", self.created, tuple(sorted(self.versions, key=lambda v: v.at)),
        )  # fmt: skip


def open_account(world: World, rng: Random, entity: str, first_day: date, parent_id: str | None = None) -> AccountDraft:
    """A prospect, known some weeks before it buys."""
    name, domain = company_name(rng, entity)
    created = moment(BY_ID[entity].zone, first_day - timedelta(days=rng.randrange(40, 70)), rng.random())
    return AccountDraft(
        world.numbers.salesforce("001"), name, domain, entity, BY_ID[entity].currency, created, parent_id,
        rng.choice(_INDUSTRIES), [AccountVersion(created, created, entity, "Prospect")],
    )  # fmt: skip


@dataclass(slots=True)
class ContractDraft:
    """A contract with its lines and entitlements while they can still change."""

    id: str
    number: str
    account: AccountDraft
    entity: str
    currency: str
    start: date
    term: int
    frequency: str
    opportunity_id: str
    quote_id: str
    created: datetime
    end: date
    versions: list[ContractVersion] = field(default_factory=list)
    lines: list[LineDraft] = field(default_factory=list)
    roots: dict[str, LineDraft] = field(default_factory=dict)
    """Product → first line, while the product is under contract."""
    entitlements: dict[str, tuple[dict[str, object], list[EntitlementVersion]]] = field(default_factory=dict)
    """Root line id → entitlement."""

    def freeze(self, world: World) -> None:
        """Add contract, lines and entitlements to the company."""
        world.company.contracts.append(
            Contract(
                self.id, self.number, self.account.id, self.entity, self.currency, self.start, self.term,
                self.opportunity_id, self.quote_id, self.created, tuple(self.versions),
            )
        )  # fmt: skip
        world.company.contract_lines.extend(line.freeze() for line in self.lines)
        for facts, versions in self.entitlements.values():
            world.company.entitlements.append(
                Entitlement(**facts, versions=tuple(sorted(versions, key=lambda v: v.at)))  # type: ignore[arg-type]
            )


def sell(
    world: World,
    rng: Random,
    account: AccountDraft,
    entity: str,
    kind: str,
    start: date,
    end: date,
    sold: list[tuple[str, int | None]],
    contract_id: str,
    closed: datetime,
    currency: str,
) -> tuple[str, str]:
    """An opportunity won and its accepted quote; returns their ids. `sold`: product and quantity (None: by usage)."""
    months = max(1, round((end - start).days / 30.4))
    lines, total = [], Decimal(0)
    for product_key, quantity in sold:
        price = list_price(product_key, BY_ID[entity].currency) if quantity is not None else None
        net = Decimal(0) if quantity is None or price is None else price * quantity * months
        total += net
        lines.append(
            QuoteLine(
                world.numbers.salesforce("a0T"), product_key, PRODUCTS[product_key].crm_id,
                None if quantity is None else Decimal(quantity), price, net,
            )
        )  # fmt: skip
    created = closed - timedelta(days=rng.randrange(6, 30), minutes=rng.randrange(60))
    quoted = created + (closed - created) / 2
    quoted = quoted.replace(microsecond=0)
    opportunity = Opportunity(
        id=world.numbers.salesforce("006"),
        account_id=account.id,
        name=f"{account.name} - {kind}",
        kind="New Business" if kind == "New" else kind,  # type: ignore[arg-type]
        amount=total,
        currency=currency,
        close_date=closed.date(),
        created=created,
        versions=(
            OpportunityVersion(created, created, "Prospecting"),
            OpportunityVersion(quoted, quoted, "Negotiation/Review"),
            OpportunityVersion(closed, closed, "Closed Won"),
        ),
    )
    quote = Quote(
        id=world.numbers.salesforce("a0Q"),
        number=f"Q-{world.numbers.next('quote'):05d}",
        account_id=account.id,
        opportunity_id=opportunity.id,
        legal_entity_id=entity,
        contract_id=contract_id,
        kind=kind,  # type: ignore[arg-type]
        net_amount=total,
        currency=currency,
        start_date=start,
        end_date=end,
        lines=tuple(lines),
        created=quoted,
        versions=(QuoteVersion(quoted, quoted, "Draft"), QuoteVersion(closed, closed, "Accepted")),
    )
    world.company.opportunities.append(opportunity)
    world.company.quotes.append(quote)
    return opportunity.id, quote.id


def sign(
    world: World,
    rng: Random,
    account: AccountDraft,
    entity: str,
    kind: str,
    start: date,
    term: int,
    interval: int,
    sold: list[tuple[str, int | None]],
    is_trial: bool = False,
    currency: str | None = None,
) -> ContractDraft:
    """A contract with a line per product and an entitlement per support line, signed some days before it starts."""
    zone, end = BY_ID[entity].zone, add_months(start, term)
    currency = currency or BY_ID[entity].currency
    created = moment(zone, start - timedelta(days=rng.randrange(2, 8)), rng.random())
    contract_id = world.numbers.salesforce("800")
    opportunity_id, quote_id = sell(
        world, rng, account, entity, kind, start, end, sold, contract_id, created, currency
    )  # fmt: skip
    contract = ContractDraft(
        contract_id, f"{world.numbers.next('contract'):08d}", account, entity, currency, start, term,
        FREQUENCY[interval], opportunity_id, quote_id, created, end,
        [ContractVersion(created, created, "Activated", end)],
    )  # fmt: skip
    for product_key, quantity in sold:
        add_line(world, contract, product_key, quantity, start, created, quote_id, is_trial)
    return contract


def add_line(
    world: World,
    contract: ContractDraft,
    product_key: str,
    quantity: int | None,
    start: date,
    at: datetime,
    quote_id: str,
    is_trial: bool = False,
) -> LineDraft:
    """A line: the product's first on the contract, or the difference an amendment makes."""
    product = PRODUCTS[product_key]
    line_id = world.numbers.salesforce("a0X")
    root = contract.roots.get(product_key)
    price = None if quantity is None else list_price(product_key, BY_ID[contract.entity].currency)
    line = LineDraft(
        {
            "id": line_id,
            "root_id": root.id if root else line_id,
            "contract_id": contract.id,
            "account_id": contract.account.id,
            "legal_entity_id": contract.entity,
            "product_key": product_key,
            "product_id": product.crm_id,
            "quantity": None if quantity is None else Decimal(quantity),
            "net_unit_price": price,
            "currency": contract.currency,
            "billing_frequency": contract.frequency,
            "start_date": start,
            "end_date": contract.end,
            "quote_id": quote_id,
            "created": at,
            "support_level": product.support_level,
        },
        [ContractLineVersion(at, at, None, is_trial)],
    )
    contract.lines.append(line)
    if root is None:
        contract.roots[product_key] = line
        if product.support_level:
            _entitle(world, contract, line, start, at, product.support_level)
    return line


def _entitle(world: World, contract: ContractDraft, line: LineDraft, start: date, at: datetime, level: str) -> None:
    at += timedelta(minutes=4)
    facts: dict[str, object] = {
        "id": world.numbers.salesforce("550"),
        "name": f"{level} support - {contract.account.name}",
        "account_id": contract.account.id,
        "legal_entity_id": contract.entity,
        "contract_line_id": line.id,
        "start_date": start,
        "created": at,
    }
    contract.entitlements[line.id] = (facts, [EntitlementVersion(at, at, "Active", contract.end, level)])


def end_trial(contract: ContractDraft, at: datetime) -> None:
    """The lines are billed from now on."""
    for line in contract.lines:
        line.versions.append(ContractLineVersion(at, at, None, False))


def drop_product(contract: ContractDraft, product_key: str, on: date, at: datetime) -> None:
    """Terminate a product's lines; its entitlement ends with them."""
    root = contract.roots.pop(product_key)
    for line in contract.lines:
        if line.facts["root_id"] == root.id:
            line.versions.append(ContractLineVersion(at, at, on, line.versions[-1].is_trial))
    if root.id in contract.entitlements:
        versions = contract.entitlements[root.id][1]
        later = at + timedelta(minutes=4)
        versions.append(EntitlementVersion(later, later, "Active", on, versions[-1].level))


def cancel(contract: ContractDraft, on: date, notice: datetime, ended: datetime) -> None:
    """Terminate everything: announced at `notice`, over at `ended`."""
    for product_key in list(contract.roots):
        drop_product(contract, product_key, on, notice)
    contract.versions.append(ContractVersion(ended, ended, "Cancelled", on))


def amend(
    world: World, rng: Random, contract: ContractDraft, product_key: str, delta: int, on: date, drops: bool = False
) -> None:
    """An amendment from a day on: an opportunity, a quote, and a line with the difference (or a termination)."""
    zone = BY_ID[contract.entity].zone
    at = moment(zone, on - DAY * rng.randrange(1, 4), rng.random())
    _, quote_id = sell(
        world, rng, contract.account, contract.entity, "Amendment", on, contract.end, [(product_key, delta)],
        contract.id, at, contract.currency,
    )  # fmt: skip
    if drops:
        drop_product(contract, product_key, on, at)
    else:
        add_line(world, contract, product_key, delta, on, at, quote_id)


def court(world: World, rng: Random, account: AccountDraft) -> None:
    """An opportunity that is open or lost, without a quote that was accepted."""
    at = account.created + timedelta(days=rng.randrange(5, 30))
    versions = [OpportunityVersion(at, at, "Prospecting")]
    if rng.random() < 0.5:
        lost = at + timedelta(days=rng.randrange(5, 25), minutes=3)
        versions.append(OpportunityVersion(lost, lost, "Closed Lost"))
    world.company.opportunities.append(
        Opportunity(
            world.numbers.salesforce("006"), account.id, f"{account.name} - New", "New Business",
            list_price("platform_business", account.currency) * 12, account.currency, (at + timedelta(days=45)).date(),
            at, tuple(versions),
        )
    )  # fmt: skip


def note_late(world: World, account: AccountDraft, at: datetime, shown_at: datetime) -> None:
    """An opportunity saved just before a nightly extraction that the CRM shows only after it, with its old stamp."""
    world.company.opportunities.append(
        Opportunity(
            world.numbers.salesforce("006"), account.id, f"{account.name} - Expansion", "New Business",
            list_price("platform_team", account.currency) * 12, account.currency, (at + timedelta(days=60)).date(), at,
            (OpportunityVersion(at, shown_at, "Prospecting"),),
        )
    )  # fmt: skip
