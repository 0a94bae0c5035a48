"""Identifiers that are the same whenever they are made from the same business content."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

KEY_SEPARATOR = "|"


def canonical_json(value: Any) -> str:
    """One text for one value: sorted keys, no spaces, decimals and dates as text. Raises TypeError on floats."""

    def plain(v: Any) -> Any:
        if isinstance(v, float):
            raise TypeError(f"a float has no exact text: {v!r}")
        if isinstance(v, Decimal):
            return format(v, "f")
        if isinstance(v, datetime | date):
            return v.isoformat()
        if isinstance(v, dict):
            return {str(k): plain(x) for k, x in v.items()}
        if isinstance(v, list | tuple):
            return [plain(x) for x in v]
        return v

    return json.dumps(plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def sha256_hex(content: str | bytes) -> str:
    """SHA-256 of text (as UTF-8) or bytes, in hexadecimal."""
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()


def content_hash(value: Any) -> str:
    """SHA-256 of a value's canonical JSON."""
    return sha256_hex(canonical_json(value))


def canonical_key(*parts: object) -> str:
    """The key of a record over its columns: their texts joined by `|`."""
    return KEY_SEPARATOR.join("" if p is None else str(p) for p in parts)


def correlation_id(source: str, source_id: str) -> str:
    """Follows one business object from raw page to journal line: 16 hex digits of its source and id."""
    return sha256_hex(f"{source}:{source_id}")[:16]


@dataclass(frozen=True, slots=True, order=True)
class Slot:
    """Where a summarised journal belongs: one slot holds at most one effective content."""

    legal_entity_id: str
    ledger: str
    period: str  # YYYY-MM
    stream: str
    business_date: date

    def __str__(self) -> str:
        return "/".join((self.legal_entity_id, self.ledger, self.period, self.stream, self.business_date.isoformat()))

    @classmethod
    def parse(cls, text: str) -> Slot:
        """The slot that `str(slot)` wrote."""
        entity, ledger, period, stream, day = text.split("/")
        return cls(entity, ledger, period, stream, date.fromisoformat(day))

    @classmethod
    def of(cls, key: str) -> Slot:
        """The slot in a run key, or in a batch's id. Raises ValueError where it is none."""
        return cls.parse("/".join(key.removeprefix("TIEOUT/").split("/")[:5]))


def run_key(slot: Slot, version: int, chunk: tuple[int, int] | None = None) -> str:
    """The long key an ERP journal carries: slot, version and, in a chunked batch, `n/N`."""
    suffix = f"/{chunk[0]}of{chunk[1]}" if chunk and chunk[1] > 1 else ""
    return f"TIEOUT/{slot}/v{version}{suffix}"


def mirror_key(long_key: str, number: int = 1) -> str:
    """The key of the mirror that reverses a journal; `number` where the ERP held the journal several times."""
    return f"{long_key}/reversed" + (f"/{number}" if number > 1 else "")


def mirror_of(long_key: str) -> str:
    """The key of the journal that a mirror reverses; any other key is its own."""
    return long_key.partition("/reversed")[0]


def short_key(long_key: str) -> str:
    """The 16-character form for ERPs with short reference fields (SAP's DocumentReferenceID has 16)."""
    return "T" + sha256_hex(long_key)[:15].upper()
