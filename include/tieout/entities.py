"""The legal entities of the group, as finance configures them in `entities.yaml`."""

from __future__ import annotations

from datetime import date, time
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from tieout.errors import ConfigError, DataError
from tieout.money import minor_digits
from tieout.settings import load_config

EntityId = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]{1,15}$")]


class LegalEntity(BaseModel):
    """One legal entity: its currency, its zone (where its accounting dates live), its calendar and ledger."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: EntityId
    name: str
    functional_currency: str
    zone: str
    country: str
    region: str | None = None
    ledger: str = "main"
    fiscal_calendar: Literal["months", "4-4-5", "4-5-4", "5-4-4"] = "months"
    fiscal_year_start: date = date(2025, 1, 1)
    closures: tuple[date, ...] = ()
    go_live: date
    receivable_mode: Literal["gl_control", "per_customer", "documents"] = "gl_control"
    streams: dict[Literal["billing", "cash", "release", "accrual"], Literal["post", "verify"]] = Field(
        default_factory=lambda: dict.fromkeys(("billing", "cash", "release", "accrual"), "post")  # type: ignore[arg-type]
    )
    revaluation: Literal["erp", "tieout"] = "erp"
    """Who revalues open amounts in other currencies at period end."""
    schedule_source: Literal["erp", "file", "tieout"] = "tieout"
    """Where revenue schedules come from: the ERP's own revenue module, a file, or the straight line."""
    write_off: Literal["bad_debt", "allowance"] = "bad_debt"
    """What an uncollectible invoice is charged to."""
    tax_relief: bool = False
    """Whether the tax authority gives back the tax on an uncollectible invoice."""
    rate_days: int = Field(default=7, ge=0)
    """How many days old an exchange rate may be."""
    approval_threshold: str | None = None
    """Gross debits from which a batch waits for approval, as text; none = never."""

    @field_validator("zone")
    @classmethod
    def _zone_exists(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (KeyError, ValueError):
            raise ValueError(f"{value} is no time zone of the IANA database, such as Europe/Berlin") from None
        return value

    @field_validator("functional_currency")
    @classmethod
    def _currency_exists(cls, value: str) -> str:
        try:
            minor_digits(value)
        except DataError as error:
            raise ValueError(str(error)) from None
        return value


class Entities(BaseModel):
    """`entities.yaml`: the group's entities and the moment after which a business date is complete."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    entities: tuple[LegalEntity, ...]
    lag: time = time(1, 0)
    """How long after the last entity's midnight the nightly run starts (hours:minutes)."""

    @model_validator(mode="after")
    def _ids_are_unique(self) -> Entities:
        ids = [e.id for e in self.entities]
        if len(ids) != len(set(ids)):
            raise ValueError(f"entity ids repeat: {sorted(ids)}")
        return self

    def __getitem__(self, entity_id: str) -> LegalEntity:
        """The entity of that id. Raises ConfigError if there is none."""
        for entity in self.entities:
            if entity.id == entity_id:
                return entity
        raise ConfigError("unknown legal entity", got=entity_id, expected=[e.id for e in self.entities])


def load_entities(path: Path) -> Entities:
    """Read and check `entities.yaml`. Raises ConfigError naming file, line and field."""
    return load_config(Entities, path)
