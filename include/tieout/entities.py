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


StreamName = Literal["billing", "cash", "release", "accrual", "revaluation"]


class Turn(BaseModel):
    """From a day on, a stream is posted by Tieout, or only verified because somebody else posts it."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    mode: Literal["post", "verify"]
    since: date = Field(alias="from")


class Author(BaseModel):
    """Somebody else who posts a stream: an ERP's own revenue module, a vendor's connector; `until` is the last day."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    stream: StreamName
    by: str
    since: date = Field(alias="from")
    until: date | None = None


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
    streams: dict[StreamName, Literal["post", "verify"] | tuple[Turn, ...]] = Field(default_factory=dict)
    """Who posts: `post` (if not named) or `verify`, or by turns, each from a day on."""
    authors: tuple[Author, ...] = ()
    """Who else posts streams of this entity, and when."""
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

    def posting_spans(self, stream: StreamName) -> tuple[tuple[date, date | None], ...]:
        """The days on which Tieout posts a stream, each span from a first day to before another (None: without end)."""
        given = self.streams.get(stream, "post")
        if stream == "revaluation" and self.revaluation == "erp":
            return ()
        if not isinstance(given, tuple):
            return ((date.min, None),) if given == "post" else ()
        turns = sorted(given, key=lambda turn: turn.since)
        ends: list[date | None] = [turn.since for turn in turns[1:]] + [None]
        return tuple((t.since, end) for t, end in zip(turns, ends, strict=True) if t.mode == "post")

    def posts(self, stream: StreamName, on: date) -> bool:
        """Whether Tieout posts a stream's events of a day."""
        return any(start <= on and (end is None or on < end) for start, end in self.posting_spans(stream))

    @model_validator(mode="after")
    def _turns_follow_each_other(self) -> LegalEntity:
        for stream, given in self.streams.items():
            days = [turn.since for turn in given] if isinstance(given, tuple) else []
            if len(days) != len(set(days)):
                raise ValueError(f"stream {stream} has two turns from one day on")
        return self

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
