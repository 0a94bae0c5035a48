"""Ids in the vendors' own forms, the same for the same seed and key."""

from __future__ import annotations

import base64
import hashlib

_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_CHECK = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"


def stripe_id(prefix: str, seed: int, key: str) -> str:
    """`prefix_` and 24 letters and digits, by hash of the key."""
    digest = hashlib.blake2b(f"{seed}/{prefix}/{key}".encode(), digest_size=18).digest()
    return f"{prefix}_{base64.b64encode(digest, altchars=b'aZ').decode()}"


def salesforce_id(prefix: str, number: int) -> str:
    """18 characters: the object's key prefix, the number in base 62, and Salesforce's own case checksum."""
    digits = ""
    while number:
        number, rest = divmod(number, 62)
        digits = _BASE62[rest] + digits
    short = f"{prefix}5f{digits:0>10}"
    check = ""
    for start in (0, 5, 10):
        bits = sum(1 << i for i, c in enumerate(short[start : start + 5]) if c.isupper())
        check += _CHECK[bits]
    return short + check


class Numbering:
    """Counters for the systems that number their records, started where the seed says."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._last: dict[str, int] = {}

    def next(self, kind: str) -> int:
        """1, 2, 3 … for each kind."""
        self._last[kind] = self._last.get(kind, 0) + 1
        return self._last[kind]

    def salesforce(self, prefix: str) -> str:
        """The next id of a Salesforce object, by its key prefix."""
        return salesforce_id(prefix, (self._seed % 1000) * 10_000_000 + self.next(prefix))

    def zendesk(self, kind: str) -> int:
        """The next Zendesk id of organisations or users."""
        base = {"organization": 360_000_000_000, "user": 370_000_000_000}[kind]
        return base + (self._seed % 1000) * 1_000_000 + self.next(kind)
