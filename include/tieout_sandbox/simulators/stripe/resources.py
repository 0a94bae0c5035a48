"""Which Stripe objects can be listed and read, by what filters, and what their stored form leaves out.

Documents hold only what varies; `TEMPLATES` has every other field of the object at this API version, in the value an
account without that feature sees. A price, tax rate or line inside another object is stored by id.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Resource:
    """One listable object.

    `ranges` and `equals` map a parameter to the SQL it filters; `parent` is the parameter (or URL part) that selects
    by the documents' `parent` column.
    """

    name: str  # in the URL, and the documents' collection
    noun: str  # in error messages
    permission: str  # of restricted keys
    ranges: dict[str, str] = field(default_factory=dict)
    equals: dict[str, str] = field(default_factory=dict)
    booleans: dict[str, str] = field(default_factory=dict)
    lists: dict[str, str] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    parent: str = ""
    parent_required: bool = False
    order: str = "stamp DESC, id DESC"

    @property
    def known(self) -> set[str]:
        """Every parameter its list takes."""
        names = {"limit", "starting_after", "ending_before", "expand", *self.ignored}
        names |= {*self.ranges, *self.equals, *self.booleans, *self.lists}
        return names | ({self.parent} if self.parent else set())


def _json(name: str) -> str:
    return f"json_extract(body, '$.{name}')"


def _resource(name: str, noun: str, permission: str, equals: str = "", **more: Any) -> Resource:
    return Resource(
        name,
        noun,
        permission,
        ranges={"created": "stamp"} | {r: _json(r) for r in more.pop("ranges", ())},
        equals={e: _json(e) for e in equals.split()},
        booleans={b: _json(b) for b in more.pop("booleans", ())},
        **more,
    )


RESOURCES: dict[str, Resource] = {
    r.name: r
    for r in (
        _resource("customers", "customer", "rak_customer", "email", ignored=("test_clock",)),
        _resource(
            "products", "product", "rak_product", booleans=("active", "shippable"), lists={"ids": "id"}, ignored=("url",)
        ),
        _resource(
            "prices",
            "price",
            "rak_plan",
            "currency product type",
            booleans=("active",),
            lists={"lookup_keys": _json("lookup_key")},
            ignored=("recurring",),
        ),
        _resource("tax_rates", "tax rate", "rak_tax_rate", booleans=("active", "inclusive")),
        _resource(
            "subscriptions",
            "subscription",
            "rak_subscription",
            "customer collection_method",
            ranges=("current_period_end", "current_period_start"),
            ignored=("automatic_tax", "test_clock", "status", "price"),
        ),
        _resource(
            "invoices",
            "invoice",
            "rak_invoice",
            "customer status subscription collection_method",
            ranges=("due_date",),
        ),
        _resource(
            "invoiceitems", "invoice item", "rak_invoice", "customer", parent="invoice", ignored=("pending",)
        ),
        _resource("credit_notes", "credit note", "rak_credit_note", "customer", parent="invoice"),
        _resource("charges", "charge", "rak_charge", "customer payment_intent transfer_group"),
        _resource("payment_intents", "payment_intent", "rak_payment_intent", "customer"),
        _resource("refunds", "refund", "rak_charge", "payment_intent", parent="charge"),
        _resource("disputes", "dispute", "rak_dispute", "payment_intent", parent="charge"),
        _resource(
            "balance_transactions",
            "balance transaction",
            "rak_balance_transaction_source",
            "currency source type",
            parent="payout",
        ),
        _resource("payouts", "payout", "rak_payout", "destination status", ranges=("arrival_date",)),
        _resource(
            "events",
            "event",
            "rak_event",
            "type",
            lists={"types": _json("type")},
            ignored=("delivery_success",),
        ),
    )
}

_POSITION = "stamp, id"  # lines keep the order of their document: their stamp is their position
LINES = Resource("lines", "line item", "rak_invoice", order=_POSITION)
CREDIT_NOTE_LINES = Resource("credit_note_lines", "credit note line item", "rak_credit_note", order=_POSITION)

SUBSCRIPTION_STATUSES = (
    "active all canceled ended incomplete incomplete_expired past_due paused trialing unpaid".split()
)

ID_PREFIXES = {
    "cus": "customers",
    "prod": "products",
    "price": "prices",
    "txr": "tax_rates",
    "sub": "subscriptions",
    "in": "invoices",
    "ii": "invoiceitems",
    "cn": "credit_notes",
    "ch": "charges",
    "pi": "payment_intents",
    "re": "refunds",
    "dp": "disputes",
    "txn": "balance_transactions",
    "po": "payouts",
}

_ADDRESS = {"city": None, "country": None, "line1": None, "line2": None, "postal_code": None, "state": None}
_OFF: dict[str, Any] = {"enabled": False, "liability": None}
_EVIDENCE = dict.fromkeys(
    "access_activity_log billing_address cancellation_policy cancellation_policy_disclosure cancellation_rebuttal "
    "customer_communication customer_email_address customer_name customer_purchase_ip customer_signature "
    "duplicate_charge_documentation duplicate_charge_explanation duplicate_charge_id product_description receipt "
    "refund_policy refund_policy_disclosure refund_refusal_explanation service_date service_documentation "
    "shipping_address shipping_carrier shipping_date shipping_documentation shipping_tracking_number "
    "uncategorized_file uncategorized_text".split()
)

TEMPLATES: dict[str, dict[str, Any]] = {
    "customers": {
        "object": "customer",
        "address": None,
        "balance": 0,
        "currency": None,
        "default_source": None,
        "delinquent": False,
        "description": None,
        "discount": None,
        "email": None,
        "invoice_prefix": None,
        "invoice_settings": {
            "custom_fields": None,
            "default_payment_method": None,
            "footer": None,
            "rendering_options": None,
        },
        "livemode": False,
        "metadata": {},
        "name": None,
        "next_invoice_sequence": 1,
        "phone": None,
        "preferred_locales": [],
        "shipping": None,
        "tax_exempt": "none",
        "test_clock": None,
    },
    "products": {
        "object": "product",
        "active": True,
        "default_price": None,
        "description": None,
        "images": [],
        "livemode": False,
        "marketing_features": [],
        "metadata": {},
        "package_dimensions": None,
        "shippable": None,
        "statement_descriptor": None,
        "tax_code": None,
        "unit_label": None,
        "url": None,
    },
    "prices": {
        "object": "price",
        "active": True,
        "billing_scheme": "per_unit",
        "custom_unit_amount": None,
        "livemode": False,
        "lookup_key": None,
        "metadata": {},
        "nickname": None,
        "recurring": None,
        "tax_behavior": "exclusive",
        "tiers_mode": None,
        "transform_quantity": None,
        "type": "recurring",
        "unit_amount": None,
        "unit_amount_decimal": None,
    },
    "tax_rates": {
        "object": "tax_rate",
        "active": True,
        "country": None,
        "description": None,
        "inclusive": False,
        "jurisdiction": None,
        "jurisdiction_level": None,
        "livemode": False,
        "metadata": {},
        "state": None,
    },
    "subscriptions": {
        "object": "subscription",
        "application": None,
        "application_fee_percent": None,
        "automatic_tax": _OFF,
        "billing_cycle_anchor_config": None,
        "billing_thresholds": None,
        "cancel_at": None,
        "cancel_at_period_end": False,
        "canceled_at": None,
        "cancellation_details": {"comment": None, "feedback": None, "reason": None},
        "collection_method": "charge_automatically",
        "days_until_due": None,
        "default_payment_method": None,
        "default_source": None,
        "default_tax_rates": [],
        "description": None,
        "discount": None,
        "discounts": [],
        "ended_at": None,
        "invoice_settings": {"account_tax_ids": None, "issuer": {"type": "self"}},
        "latest_invoice": None,
        "livemode": False,
        "metadata": {},
        "next_pending_invoice_item_invoice": None,
        "on_behalf_of": None,
        "pause_collection": None,
        "payment_settings": {
            "payment_method_options": None,
            "payment_method_types": None,
            "save_default_payment_method": "off",
        },
        "pending_invoice_item_interval": None,
        "pending_setup_intent": None,
        "pending_update": None,
        "schedule": None,
        "test_clock": None,
        "transfer_data": None,
        "trial_end": None,
        "trial_settings": {"end_behavior": {"missing_payment_method": "create_invoice"}},
        "trial_start": None,
    },
    "subscription_items": {
        "object": "subscription_item",
        "billing_thresholds": None,
        "discounts": [],
        "metadata": {},
        "tax_rates": [],
    },
    "invoices": {
        "object": "invoice",
        "account_country": None,
        "account_name": None,
        "account_tax_ids": None,
        "amount_shipping": 0,
        "application": None,
        "application_fee_amount": None,
        "attempt_count": 0,
        "attempted": False,
        "auto_advance": False,
        "automatic_tax": {"enabled": False, "liability": None, "status": None},
        "billing_reason": "subscription_cycle",
        "charge": None,
        "collection_method": "charge_automatically",
        "custom_fields": None,
        "customer_address": None,
        "customer_email": None,
        "customer_name": None,
        "customer_phone": None,
        "customer_shipping": None,
        "customer_tax_exempt": "none",
        "customer_tax_ids": [],
        "default_payment_method": None,
        "default_source": None,
        "default_tax_rates": [],
        "description": None,
        "discount": None,
        "discounts": [],
        "due_date": None,
        "effective_at": None,
        "ending_balance": None,
        "footer": None,
        "from_invoice": None,
        "hosted_invoice_url": None,
        "invoice_pdf": None,
        "issuer": {"type": "self"},
        "last_finalization_error": None,
        "latest_revision": None,
        "livemode": False,
        "metadata": {},
        "next_payment_attempt": None,
        "number": None,
        "on_behalf_of": None,
        "paid": False,
        "paid_out_of_band": False,
        "payment_intent": None,
        "payment_settings": {
            "default_mandate": None,
            "payment_method_options": None,
            "payment_method_types": None,
        },
        "post_payment_credit_notes_amount": 0,
        "pre_payment_credit_notes_amount": 0,
        "quote": None,
        "receipt_number": None,
        "rendering": None,
        "shipping_cost": None,
        "shipping_details": None,
        "starting_balance": 0,
        "statement_descriptor": None,
        "subscription": None,
        "subscription_details": {"metadata": None},
        "tax": None,
        "test_clock": None,
        "total_discount_amounts": [],
        "total_tax_amounts": [],
        "transfer_data": None,
        "webhooks_delivered_at": None,
    },
    "lines": {
        "object": "line_item",
        "discount_amounts": [],
        "discountable": True,
        "discounts": [],
        "livemode": False,
        "metadata": {},
        "proration": False,
        "proration_details": {"credited_items": None},
        "subscription": None,
        "tax_amounts": [],
        "tax_rates": [],
    },
    "invoiceitems": {
        "object": "invoiceitem",
        "description": None,
        "discountable": True,
        "discounts": [],
        "invoice": None,
        "livemode": False,
        "metadata": {},
        "proration": False,
        "subscription": None,
        "tax_rates": [],
        "test_clock": None,
    },
    "credit_notes": {
        "object": "credit_note",
        "amount_shipping": 0,
        "customer_balance_transaction": None,
        "discount_amount": 0,
        "discount_amounts": [],
        "effective_at": None,
        "livemode": False,
        "memo": None,
        "metadata": {},
        "out_of_band_amount": None,
        "reason": None,
        "refund": None,
        "shipping_cost": None,
        "status": "issued",
        "tax_amounts": [],
        "voided_at": None,
    },
    "credit_note_lines": {
        "object": "credit_note_line_item",
        "description": None,
        "discount_amount": 0,
        "discount_amounts": [],
        "livemode": False,
        "quantity": None,
        "tax_amounts": [],
        "tax_rates": [],
        "type": "custom_line_item",
        "unit_amount": None,
        "unit_amount_decimal": None,
        "unit_amount_excluding_tax": None,
    },
    "charges": {
        "object": "charge",
        "amount_refunded": 0,
        "application": None,
        "application_fee": None,
        "application_fee_amount": None,
        "balance_transaction": None,
        "billing_details": {"address": _ADDRESS, "email": None, "name": None, "phone": None},
        "calculated_statement_descriptor": "EXAMPLE SAAS",
        "captured": True,
        "customer": None,
        "description": None,
        "disputed": False,
        "failure_balance_transaction": None,
        "failure_code": None,
        "failure_message": None,
        "fraud_details": {},
        "invoice": None,
        "livemode": False,
        "metadata": {},
        "on_behalf_of": None,
        "outcome": {
            "network_status": "approved_by_network",
            "reason": None,
            "risk_level": "normal",
            "seller_message": "Payment complete.",
            "type": "authorized",
        },
        "paid": True,
        "payment_intent": None,
        "payment_method": None,
        "payment_method_details": None,
        "receipt_email": None,
        "receipt_number": None,
        "receipt_url": None,
        "refunded": False,
        "review": None,
        "shipping": None,
        "source_transfer": None,
        "statement_descriptor": None,
        "statement_descriptor_suffix": None,
        "transfer_data": None,
        "transfer_group": None,
    },
    "payment_intents": {
        "object": "payment_intent",
        "amount_capturable": 0,
        "amount_details": {"tip": {}},
        "application": None,
        "application_fee_amount": None,
        "automatic_payment_methods": None,
        "canceled_at": None,
        "cancellation_reason": None,
        "capture_method": "automatic",
        "client_secret": None,
        "confirmation_method": "automatic",
        "customer": None,
        "description": None,
        "invoice": None,
        "last_payment_error": None,
        "latest_charge": None,
        "livemode": False,
        "metadata": {},
        "next_action": None,
        "on_behalf_of": None,
        "payment_method": None,
        "payment_method_configuration_details": None,
        "payment_method_options": {},
        "payment_method_types": ["card"],
        "processing": None,
        "receipt_email": None,
        "review": None,
        "setup_future_usage": None,
        "shipping": None,
        "statement_descriptor": None,
        "statement_descriptor_suffix": None,
        "transfer_data": None,
        "transfer_group": None,
    },
    "refunds": {
        "object": "refund",
        "balance_transaction": None,
        "metadata": {},
        "payment_intent": None,
        "reason": None,
        "receipt_number": None,
        "source_transfer_reversal": None,
        "transfer_reversal": None,
    },
    "disputes": {
        "object": "dispute",
        "evidence": _EVIDENCE,
        "evidence_details": {"due_by": None, "has_evidence": False, "past_due": False, "submission_count": 0},
        "is_charge_refundable": False,
        "livemode": False,
        "metadata": {},
        "payment_intent": None,
    },
    "balance_transactions": {
        "object": "balance_transaction",
        "description": None,
        "exchange_rate": None,
        "fee_details": [],
    },
    "payouts": {
        "object": "payout",
        "application_fee": None,
        "application_fee_amount": None,
        "automatic": True,
        "balance_transaction": None,
        "description": "STRIPE PAYOUT",
        "destination": None,
        "failure_balance_transaction": None,
        "failure_code": None,
        "failure_message": None,
        "livemode": False,
        "metadata": {},
        "method": "standard",
        "original_payout": None,
        "reconciliation_status": "completed",
        "reversed_by": None,
        "source_type": "card",
        "statement_descriptor": None,
        "type": "bank_account",
    },
    "events": {
        "object": "event",
        "api_version": "2024-06-20",
        "livemode": False,
        "pending_webhooks": 0,
        "request": {"id": None, "idempotency_key": None},
    },
}
