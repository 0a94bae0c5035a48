"""How each meter is summed up: what `meters.yaml` says, else what billing's prices say, else by adding."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tieout.settings import load_config

Aggregation = Literal["sum", "count", "max", "last", "unique", "time_weighted", "percentile"]


class Meter(BaseModel):
    """One meter.

    `sum` adds quantities, `count` counts events, `max` and `last` take one of them, `unique` counts different values of
    `value_key`, `time_weighted` weights a level by how long it held (seat-days), `percentile` takes the nearest rank.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    aggregation: Aggregation
    percentile: Decimal | None = Field(default=None, gt=0, le=100, decimal_places=3)
    """Of `percentile` meters: 95 takes the smallest value that at least 95% of the events do not exceed."""

    @model_validator(mode="after")
    def _percentile_has_its_number(self) -> Meter:
        if (self.percentile is None) == (self.aggregation == "percentile"):
            raise ValueError("`percentile: 95` or another number stands on percentile meters, and only there")
        return self


class Meters(BaseModel):
    """`meters.yaml`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    meters: dict[str, Meter] = Field(default_factory=dict)
    late_after_hours: int = Field(default=24, ge=0)
    """How long an event may take from when it happened to when it is received before it is late."""


def load_meters(path: Path) -> Meters:
    """Read and check `meters.yaml`. Raises ConfigError naming file, line and field."""
    return load_config(Meters, path)
