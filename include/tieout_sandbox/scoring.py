"""How well a run's breaks agree with the answer key: per type what was planted, found and invented."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import Any, NamedTuple

from tieout_sandbox.company.model import Label


class BreakId(NamedTuple):
    """What must agree for a break to be the planted one; `entity` is empty where the record belongs to nobody."""

    definition_id: str
    entity: str
    break_key: str
    break_type: str


@dataclass(frozen=True, slots=True)
class Score:
    """Planted and found breaks of one run."""

    planted: frozenset[BreakId]
    reported: frozenset[BreakId]

    @property
    def found(self) -> frozenset[BreakId]:
        """Planted breaks that were reported."""
        return self.planted & self.reported

    @property
    def invented(self) -> frozenset[BreakId]:
        """Reported breaks that nobody planted."""
        return self.reported - self.planted

    @property
    def missed(self) -> frozenset[BreakId]:
        """Planted breaks that were not reported."""
        return self.planted - self.reported

    @property
    def precision(self) -> float:
        """Share of the reported breaks that are planted; 0/0 counts as 1."""
        return _share(len(self.found), len(self.reported))

    @property
    def recall(self) -> float:
        """Share of the planted breaks that were reported; 0/0 counts as 1."""
        return _share(len(self.found), len(self.planted))

    def by_type(self) -> dict[str, dict[str, int]]:
        """Counts per break type."""
        counted = {
            name: Counter(b.break_type for b in getattr(self, name)) for name in ("planted", "found", "invented")
        }
        types = sorted({t for counter in counted.values() for t in counter})
        return {t: {name: counter[t] for name, counter in counted.items()} for t in types}


def score(breaks: Iterable[dict[str, Any]], labels: Iterable[Label], business_date: date) -> Score:
    """Compare rows of the `breaks` table of one business date with the labels that its run must find."""
    planted = frozenset(
        BreakId(label.definition_id, label.legal_entity_id or "", label.break_key, label.break_type)
        for label in labels
        if label.is_visible(business_date)
    )
    reported = frozenset(
        BreakId(b["definition_id"], b["legal_entity_id"] or "", b["break_key"], b["break_type"]) for b in breaks
    )
    return Score(planted, reported)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 1.0
