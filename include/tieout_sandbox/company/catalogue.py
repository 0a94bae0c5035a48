"""The entities and what they sell. Product ids are the same for every seed: the shipped product mapping names them."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Literal

from tieout_sandbox.company.identifiers import salesforce_id, stripe_id
from tieout_sandbox.company.model import Entity, Family, Interval, Price, PriceTier, Product

CREATED = datetime(2025, 9, 1, 12, 0, tzinfo=UTC)
UNMAPPED = "analytics_addon"
"""Sold only by planted contracts, missing from the product mapping."""

ENTITIES: tuple[Entity, ...] = (
    Entity(
        "US", "Northwind Cloud Inc.", "USD", "America/Los_Angeles", "US", "acct_1NwCloudUS000001", "stripe_us",
        "021000021-4400123", "txr_1NwCloudUSsalestax0001", "Sales Tax", Decimal("8.25"),
    ),
    Entity(
        "DE", "Northwind Cloud GmbH", "EUR", "Europe/Berlin", "DE", "acct_1NwCloudDE000001", "stripe_de",
        "DE89370400440532013000", "txr_1NwCloudDEvat000000001", "VAT", Decimal(19),
    ),
    Entity(
        "JP", "Northwind Cloud KK", "JPY", "Asia/Tokyo", "JP", "acct_1NwCloudJP000001", "stripe_jp",
        "0001-123-4567890", "txr_1NwCloudJPconsumption1", "Consumption Tax", Decimal(10),
    ),
)  # fmt: skip
BY_ID = {e.id: e for e in ENTITIES}

# key, name, family, kind, price per unit and month in USD / EUR / JPY, meter, unit, support level
_PRODUCTS: tuple[
    tuple[str, str, Family, str, tuple[str, str, str] | None, str | None, str | None, str | None], ...
] = (
    ("seat_standard", "Standard seat", "seats", "seat", ("24.90", "22.90", "3200"), None, None, None),
    ("seat_pro", "Pro seat", "seats", "seat", ("49.95", "45.95", "6480"), None, None, None),
    ("platform_team", "Platform Team", "platform", "tier", ("199.00", "189.00", "26500"), None, None, None),
    ("platform_business", "Platform Business", "platform", "tier", ("649.50", "599.50", "84300"), None, None, None),
    ("platform_enterprise", "Platform Enterprise", "platform", "tier", ("2450.00", "2250.00", "318000"), None, None,
     None),
    ("usage_api", "API calls", "usage", "usage", ("0.0021", "0.0019", "0.31"), "api_calls", "call", None),
    ("usage_storage", "Storage", "usage", "usage", ("0.00043", "0.00041", "0.06"), "storage", "gb_hour", None),
    ("support_premium", "Premium support", "support", "support", ("149.00", "139.00", "19800"), None, None, "Premium"),
    ("support_gold", "Gold support", "support", "support", ("499.00", "459.00", "64900"), None, None, "Gold"),
    ("onboarding", "Onboarding package", "platform", "other", ("1200.00", "1100.00", "158000"), None, None, None),
    (UNMAPPED, "Analytics add-on", "platform", "other", ("320.00", "295.00", "42000"), None, None, None),
    ("usage_events", "Event stream", "usage", "usage", None, "events", "event", None),
    ("usage_compute", "Compute", "usage", "usage", None, "compute", "minute", None),
)  # fmt: skip

# tiered prices: mode, then per tier its last unit and the price per unit in USD / EUR / JPY
_TIERED: dict[str, tuple[Literal["graduated", "volume"], tuple[tuple[int | None, tuple[str, str, str]], ...]]] = {
    "usage_events": ("graduated", (
        (1_000, ("0", "0", "0")), (10_000, ("0.0030", "0.0028", "0.45")), (None, ("0.0019", "0.0017", "0.28")),
    )),
    "usage_compute": ("volume", (
        (10_000, ("0.0120", "0.0110", "1.8")), (40_000, ("0.0100", "0.0095", "1.5")),
        (None, ("0.0082", "0.0075", "1.2")),
    )),
}  # fmt: skip
_CURRENCIES = ("USD", "EUR", "JPY")


def _product(number: int, row: tuple) -> Product:
    key, name, family, kind, _, meter, unit, level = row
    return Product(
        key=key,
        name=name,
        family=family,
        kind=kind,
        crm_id=salesforce_id("01t", 1000 + number),
        stripe_ids={e.id: stripe_id("prod", 0, f"{e.id}/{key}") for e in ENTITIES},
        mapped=key != UNMAPPED,
        created=CREATED,
        meter=meter,
        unit=unit,
        support_level=level,
    )


PRODUCTS: dict[str, Product] = {row[0]: _product(n, row) for n, row in enumerate(_PRODUCTS)}
_LIST_PRICES = {
    (row[0], currency): Decimal(row[4][i]) for row in _PRODUCTS if row[4] for i, currency in enumerate(_CURRENCIES)
}


def list_price(product_key: str, currency: str) -> Decimal:
    """List price per unit and month; of metered products without tiers per unit; of one-off products once."""
    return _LIST_PRICES[product_key, currency]


def cents(amount: Decimal, currency: str) -> Decimal:
    """`amount` at the currency's minor unit, half away from zero."""
    return amount.quantize(Decimal(1) if currency == "JPY" else Decimal("0.01"), rounding=ROUND_HALF_UP)


def charged(price: Price, quantity: int) -> list[tuple[str, int, Decimal]]:
    """What a quantity of usage is billed as, a line each: words that tell the tier, units, and amount per unit."""
    if price.unit_amount is not None:
        return [("", quantity, price.unit_amount)]
    if price.tiers_mode == "volume":
        reached = next(t for t in price.tiers if t.up_to is None or quantity <= t.up_to)
        return [("", quantity, reached.unit_amount)]
    lines, below = [], 0
    for tier in price.tiers:
        units = (quantity if tier.up_to is None else min(quantity, tier.up_to)) - below
        if units <= 0 and below:
            break
        words = (
            f"{below + 1} and above" if tier.up_to is None else f"{'Next' if below else 'First'} {tier.up_to - below}"
        )
        lines.append((words, max(units, 0), tier.unit_amount))
        below = tier.up_to or 0
    return lines


class PriceBook:
    """The prices of all accounts; a price exists once it is asked for."""

    def __init__(self) -> None:
        self.prices: dict[str, Price] = {}
        for entity in ENTITIES:
            for product in PRODUCTS.values():
                if product.key == UNMAPPED:
                    continue
                months: tuple[Interval, ...] = (1,) if product.meter or product.key == "onboarding" else (1, 3, 12)
                for interval in months:
                    self.price(entity, product.key, interval)

    def price(self, entity: Entity, product_key: str, interval: Interval, monthly: Decimal | None = None) -> Price:
        """The entity's price of a product per interval, at list or at a monthly amount of its own."""
        product = PRODUCTS[product_key]
        if product_key in _TIERED:
            return self._tiered(entity, product)
        one_off = product_key == "onboarding"
        amount = list_price(product_key, entity.currency) if monthly is None else monthly
        if product.meter is None and not one_off:
            amount *= interval
        price_id = stripe_id("price", 0, f"{entity.id}/{product_key}/{interval}/{amount}")
        if price_id not in self.prices:
            self.prices[price_id] = Price(
                id=price_id,
                legal_entity_id=entity.id,
                product_key=product_key,
                product_id=product.stripe_ids[entity.id],
                currency=entity.currency,
                unit_amount=amount,
                interval_months=interval,
                usage_type="metered" if product.meter else "licensed",
                created=CREATED,
                one_off=one_off,
            )
        return self.prices[price_id]

    def _tiered(self, entity: Entity, product: Product) -> Price:
        price_id = stripe_id("price", 0, f"{entity.id}/{product.key}/tiers")
        mode, tiers = _TIERED[product.key]
        at = _CURRENCIES.index(entity.currency)
        return self.prices.setdefault(
            price_id,
            Price(
                id=price_id,
                legal_entity_id=entity.id,
                product_key=product.key,
                product_id=product.stripe_ids[entity.id],
                currency=entity.currency,
                unit_amount=None,
                interval_months=1,
                usage_type="metered",
                created=CREATED,
                tiers=tuple(PriceTier(up_to, Decimal(amounts[at])) for up_to, amounts in tiers),
                tiers_mode=mode,
            ),
        )


def product_mapping() -> list[dict[str, str]]:
    """The rows of the shipped `mappings/products.csv`: every product but the unmapped one, in CRM and each account."""
    rows = []
    for product in PRODUCTS.values():
        if not product.mapped:
            continue
        ids = {"salesforce": product.crm_id} | {e.source: product.stripe_ids[e.id] for e in ENTITIES}
        for source, source_id in ids.items():
            rows.append(
                {
                    "source": source,
                    "source_id": source_id,
                    "canonical_id": f"product:{product.key}",
                    "family": product.family,
                    "valid_from": "2025-01-01",
                    "valid_to": "",
                }
            )
    return rows
