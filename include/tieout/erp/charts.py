"""Charts of accounts that differ: which account of a ledger stands for an account of the posting rules' mapping.

`mappings/charts.csv` has a row per account that a ledger numbers otherwise; without one both use the same code.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tieout.errors import ConfigError
from tieout.settings import Settings

_COLUMNS = ("legal_entity_id", "ledger", "account", "ledger_account")
_ANY = "*"


@dataclass(frozen=True, slots=True)
class ChartRow:
    """An account of the mapping and the ledger's own account for it; `*` is every entity."""

    legal_entity_id: str
    ledger: str
    account: str
    ledger_account: str


@dataclass(frozen=True, slots=True)
class Charts:
    """Every ledger's own account codes."""

    rows: tuple[ChartRow, ...] = ()

    def of(self, entity: str, ledger: str) -> Mapping[str, str]:
        """Account of the mapping → the ledger's own, where they differ; the entity's own rows before those of all."""
        found: dict[str, str] = {}
        for owner in (_ANY, entity):
            found |= {
                r.account: r.ledger_account for r in self.rows if r.ledger == ledger and r.legal_entity_id == owner
            }
        return found


def load_charts(settings: Settings) -> Charts:
    """Read `mappings/charts.csv`. Raises ConfigError naming file and line."""
    return read_charts(settings.config_file("mappings/charts.csv"))


def read_charts(path: Path) -> Charts:
    """Read a chart mapping. Raises ConfigError where a column lacks, a cell is empty or an account stands twice."""
    found: dict[tuple[str, str, str], ChartRow] = {}
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        if reader.fieldnames is None or set(reader.fieldnames) != set(_COLUMNS):
            raise ConfigError("wrong columns", record=str(path), expected=list(_COLUMNS), got=reader.fieldnames)
        for line in reader:
            where = f"{path}:{reader.line_num}"
            values = [(line[name] or "").strip() for name in _COLUMNS]
            row = ChartRow(values[0] or _ANY, *values[1:])
            if not all(values[1:]):
                raise ConfigError("a row needs ledger, account and ledger_account", record=where)
            key = (row.legal_entity_id, row.ledger, row.account)
            if key in found:
                raise ConfigError("an account stands twice", record=where, got=row.account)
            found[key] = row
    return Charts(tuple(found.values()))
