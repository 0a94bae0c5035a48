"""What shapes the workflows: names of sources and entities, read from configuration without building anything."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from tieout.settings import Settings, load_yaml

LEDGER_KIND = "erp"


@dataclass(frozen=True, slots=True)
class SourceEntry:
    """A configured source: its name and which kind of system it is."""

    name: str
    kind: str


@lru_cache(maxsize=1)
def _sources() -> tuple[SourceEntry, ...]:
    entries: list[dict[str, Any]] = load_yaml(Settings.from_env().last_approved().config_file("sources.yaml"))[
        "sources"
    ]
    return tuple(SourceEntry(e["name"], e["kind"]) for e in entries)


def vendor_sources(*kinds: str) -> list[str]:
    """Names of the sources that feed canonical data, of these kinds only where any are given."""
    return [s.name for s in _sources() if s.kind != LEDGER_KIND and (not kinds or s.kind in kinds)]


@lru_cache(maxsize=1)
def entity_ids() -> tuple[str, ...]:
    """Ids of the configured legal entities."""
    entries: list[dict[str, Any]] = load_yaml(Settings.from_env().last_approved().config_file("entities.yaml"))[
        "entities"
    ]
    return tuple(e["id"] for e in entries)
