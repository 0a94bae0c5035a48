"""Tables of the intake: what was read, and which records could not be."""

from __future__ import annotations

from tieout.schema.canonical import _c, _r
from tieout.schema.tables import Table

INTAKE: tuple[Table, ...] = (
    Table(
        "quarantine",
        "Records that could not become canonical rows; one row per distinct record, however often it was landed.",
        ("source", "object", "record_digest"),
        (
            _r("source", "text", "configured source"),
            _r("object", "text", "the source's object, e.g. invoices"),
            _r("record_digest", "text", "SHA-256 of the record as landed"),
            _r("raw_ref", "text", "landed page and position"),
            _c("source_id", "text", "the record's id, where it can be read"),
            _c("legal_entity_id", "text", "legal entity of the source; null where it belongs to the group"),
            _c("entity", "text", "canonical entity the record would have become"),
            _r("reason_code", "text", "kind of fault, e.g. not_a_number"),
            _r("reason", "text", "a sentence naming field and value"),
            _c("field", "text", "the field at fault"),
            _c("value", "text", "its value, masked and cut"),
            _c("amount", "money", "the money that waits behind the record, where it can be read"),
            _c("currency", "text", "its currency, where it can be read"),
            _r("fetched_at", "instant", "when the record was read from its source"),
            _r("superseded", "bool", "a later reading of the record has become a canonical row"),
            _r("first_seen_run", "text", "run that first set it aside"),
        ),
        "result",
    ),
    Table(
        "conformed_extracts",
        "Extracts that have been conformed, with their counts: records = rows + merged + quarantined.",
        ("source", "object", "extract_id"),
        (
            _r("source", "text", "configured source"),
            _r("object", "text", "the source's object"),
            _r("extract_id", "text", "landed extract"),
            _r("records", "int", "records landed"),
            _r("rows", "int", "records that were the newest version of their object when conformed"),
            _r("merged", "int", "records that repeated another one or were older than it"),
            _r("quarantined", "int", "records set aside"),
            _r("run_id", "text", "run that conformed it"),
        ),
        "result",
    ),
    Table(
        "usage_quarantine",
        "Usage events that are readable but cannot be counted.",
        ("source", "event_id"),
        (
            _r("source", "text", "configured source"),
            _r("source_id", "text", "the event's id in that source"),
            _r("event_id", "text", "the sender's id"),
            _r("raw_ref", "text", "landed page and position"),
            _r("subscription_source_id", "text", "billing subscription the event names"),
            _r("meter", "text", "what it counts"),
            _r("quantity", "quantity", "how much"),
            _c("legal_entity_id", "text", "legal entity, where the subscription is known"),
            _r("reason_code", "text", "kind of fault, e.g. unknown_subscription"),
            _r("reason", "text", "a sentence naming the value"),
        ),
        "result",
    ),
    Table(
        "crosswalk",
        "Which canonical id a source's record has, and how that was decided.",
        ("entity", "source", "source_id"),
        (
            _r("entity", "text", "customer or product"),
            _r("source", "text", "configured source"),
            _r("source_id", "text", "the record's id in that source"),
            _c("canonical_id", "text", "canonical id; null where none could be found"),
            _r("decided_by", "text", "how it was decided", "own", "shared_id", "mapping", "rule", "none"),
            _r("candidates", "int", "canonical ids that fitted; more than one leaves it undecided"),
            _c("valid_from", "date", "first day of an explicit mapping"),
            _c("valid_to", "date", "first day after it"),
        ),
        "result",
    ),
)
