"""A lake and a store in a temporary folder, and rows of canonical tables with sensible defaults."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest

from tieout import breaks, schema
from tieout.lake.tables import Lake
from tieout.settings import SHIPPED_CONFIG, Settings
from tieout.store import Store
from tieout_sandbox.testing import fresh_store

DAY = date(2026, 3, 29)
NOW = datetime(2026, 3, 30, 9, tzinfo=UTC)


class House:
    """A small Tieout: `put` canonical rows, `run` a definition."""

    def __init__(self, home: Path) -> None:
        self.settings = Settings(home, SHIPPED_CONFIG, str(home / "lake"), f"sqlite:///{home / 'store.sqlite'}")
        self.lake = Lake(self.settings.lake)
        fresh_store(home / "store.sqlite")
        self.store = Store(self.settings.store, clock=lambda: NOW)
        self.runs = 0

    def put(self, table: str, *rows: dict) -> None:
        """Replace a table's rows and publish it."""
        shape = schema.table(table).arrow
        defaults = {
            "source": "src", "source_version": "1", "legal_entity_id": "US", "correlation_id": "c", "raw_ref": "r",
            "is_deleted": False, "currency": "USD", "occurred_at": NOW, "accounting_date": DAY,
        }  # fmt: skip
        full = []
        for number, row in enumerate(rows, 1):
            values = {
                k: v for k, v in (defaults | {"source_id": f"{table}-{number}"} | row).items() if k in shape.names
            }
            full.append({"id": f"src:{values.get('source_id')}"} | values if "id" in shape.names else values)
        exact = [{k: _exact(shape.field(k).type, v) for k, v in row.items()} for row in full]
        version = self.lake.write(table, pa.Table.from_pylist(exact, schema=shape))
        self.store.publish("setup", {table: version})

    def run(self, definition_id: str, day: date = DAY, **kwargs: object):
        self.runs += 1
        run_id = f"run-{self.runs}"
        self.store.start_run(run_id, "nightly", day)
        return breaks.run(
            definition_id, day, lake=self.lake, store=self.store, settings=self.settings, run_id=run_id, **kwargs
        )

    def found(self, definition_id: str, day: date = DAY) -> set[tuple[str, str, str]]:
        """(entity, key, type) of every break; nothing its sentence names may be missing."""
        rows = self.run(definition_id, day).breaks.to_pylist()
        assert [b["sentence"] for b in rows if "–" in b["sentence"]] == []
        return {(b["legal_entity_id"], b["break_key"], b["break_type"]) for b in rows}


def _exact(kind: pa.DataType, value: object) -> object:
    if pa.types.is_decimal(kind) and value is not None:
        return Decimal(str(value)).quantize(Decimal(1).scaleb(-kind.scale))
    return value


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


@pytest.fixture(scope="session")
def new_house() -> type[House]:
    """For what several tests of a module begin with: made once in a folder of its own, to be copied."""
    return House
