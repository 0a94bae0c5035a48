"""The one clock all simulators share: it stands still until it is set, so that a night can be repeated exactly."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime


@dataclass(slots=True)
class Clock:
    """An instant in unix seconds."""

    now: int

    def set(self, text: str) -> None:
        """Move to an ISO 8601 instant. Raises ValueError for text without a zone."""
        self.now = parse_instant(text)

    @property
    def iso(self) -> str:
        """As `2026-03-30T09:00:00Z`."""
        return iso(self.now)

    @property
    def http_date(self) -> str:
        """As the `Date` header writes it."""
        return format_datetime(datetime.fromtimestamp(self.now, UTC), usegmt=True)


def parse_instant(text: str) -> int:
    """ISO 8601 text with a zone to unix seconds. Raises ValueError otherwise."""
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    if moment.tzinfo is None:
        raise ValueError(f"an instant needs a zone: {text!r}; write 2026-03-30T09:00:00Z")
    return int(moment.timestamp())


def iso(seconds: int) -> str:
    """Unix seconds as `2026-03-30T09:00:00Z`."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
