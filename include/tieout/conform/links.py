"""Linking: what a row takes from other rows: its canonical customer, its product's family, its invoice's number.

The statements stand in `link/<entity>.sql`; an entity without one takes customer and product by its own columns.
Links are made anew from the merged rows on every run, so a mapping added today also reaches last year's rows.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from tieout import schema
from tieout.settings import Settings, load_config

_FOLDER = Path(__file__).parent / "link"

# Entity to the tables its statement reads beside its own rows; in this order, since some read others' linked rows.
LINKS: dict[str, tuple[str, ...]] = {
    "customer": ("crosswalk",),
    "product": ("crosswalk",),
    "price": ("crosswalk",),
    "price_tier": (),
    "contract": ("crosswalk",),
    "contract_line": ("crosswalk",),
    "quote": ("crosswalk",),
    "amendment": ("crosswalk",),
    "opportunity": ("crosswalk",),
    "entitlement": ("crosswalk",),
    "subscription": ("crosswalk",),
    "subscription_item": ("crosswalk", "product"),
    "former_price": ("crosswalk", "product"),
    "payout_transaction": (),
    "balance_transaction": ("merged_payout_transaction",),
    "invoice_line": ("crosswalk", "merged_invoice"),
    "invoice": ("crosswalk", "invoice_line"),
    "invoice_tax_line": (),
    "credit_note": ("crosswalk", "merged_invoice"),
    "credit_note_line": ("invoice_line",),
    "payment_allocation": ("crosswalk", "merged_invoice", "merged_payment"),
    "payment": ("crosswalk", "payment_allocation", "merged_balance_transaction"),
    "refund": ("crosswalk", "merged_payment", "merged_credit_note", "merged_balance_transaction"),
    "billing_event": (),
    "dispute": ("crosswalk", "merged_payment", "merged_billing_event"),
    "payout": (),
    "usage_event": ("crosswalk", "merged_subscription", "merged_product"),
    "bank_line": (),
    "fx_rate": (),
    "revenue_schedule": (),
    "entity_transfer": (),
    "case": ("crosswalk",),
    "provisioning": ("crosswalk", "merged_subscription"),
    "gl_account": (),
    "gl_entry": (),
    "gl_balance": (),
    "period": (),
}


class CrosswalkRules(BaseModel):
    """`conform/crosswalk.yaml`: how customers and products of other systems find the master's."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    master: str = "salesforce"
    """Kind of the source that names customers and products."""
    prefix: str = Field(default="crm:", pattern=r"^[a-z][a-z0-9_]*:$")
    by_name: bool = False
    """Also accept an equal name, where it is unique in the master; off unless finance asks for it."""


def load_rules(settings: Settings) -> CrosswalkRules:
    """Read and check `conform/crosswalk.yaml`. Raises ConfigError naming file and field."""
    return load_config(CrosswalkRules, settings.config_file("conform/crosswalk.yaml"))


@cache
def statement(name: str) -> str:
    """The SQL that links an entity (or builds the crosswalk), as it stands in its file or as its columns imply."""
    path = _FOLDER / f"{name}.sql"
    return path.read_text(encoding="utf-8") if path.exists() else _by_columns(name)


def affected(changed: set[str]) -> list[str]:
    """The entities to link again, in order, when the merged rows of `changed` (or the crosswalk) are new."""
    dirty = {f"merged_{name}" for name in changed} | ({"crosswalk"} & changed)
    for entity, inputs in LINKS.items():
        if f"merged_{entity}" in dirty or dirty.intersection(inputs):
            dirty.add(entity)
    return [entity for entity in LINKS if entity in dirty]


def _by_columns(entity: str) -> str:
    names = schema.table(entity).names
    replaced, joins = [], []
    if "customer_source_id" in names:
        replaced.append("c.canonical_id AS customer_id")
        joins.append("LEFT JOIN customer_of c ON c.source = m.source AND c.source_id = m.customer_source_id")
    if "product_source_id" in names:
        replaced += ["p.canonical_id AS product_id", "p.family AS product_family"]
        day = "coalesce(m.accounting_date, m.start_date, DATE '9999-12-30')"
        joins.append(
            "LEFT JOIN product_mapping p ON p.source = m.source AND p.source_id = m.product_source_id "
            f"AND {day} >= p.valid_from AND {day} < p.valid_to"
        )
    if not replaced:
        return f'SELECT * FROM "merged_{entity}" m'
    return f'SELECT m.* REPLACE ({", ".join(replaced)}) FROM "merged_{entity}" m ' + " ".join(joins)
