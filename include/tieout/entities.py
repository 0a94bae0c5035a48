"""The legal entities of the group, as finance configures them in `entities.yaml`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, time
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from tieout.errors import ConfigError, DataError
from tieout.money import minor_digits
from tieout.settings import load_config

EntityId = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]{1,15}$")]


APPROVABLE = ("billing", "cash", "release", "accrual", "prior_period")
ANY_STREAM = "*"
ALWAYS_APPROVED = ("write_off", "reversal")
"""Streams whose journals a second person approves whatever they amount to."""


class Person(BaseModel):
    """Somebody who signs in to Airflow: by name and, where Airflow's ids are not names, by id too."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1)
    id: str = ""

    @model_validator(mode="before")
    @classmethod
    def _a_name_alone(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @property
    def airflow_id(self) -> str:
        """What Airflow knows the person by."""
        return self.id or self.name


class Approval(BaseModel):
    """From which amount a journal waits for a second person, who that may be, and what happens if nobody answers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    thresholds: dict[str, Decimal] = Field(default_factory=dict)
    """Gross debits in the functional currency, by stream; `*` is every stream not named. None: nothing waits."""
    approvers: tuple[Person, ...] = ()
    """Who may decide. None: whoever Airflow lets answer, and who prepared nothing of it."""
    within_hours: int = Field(default=24, ge=1, le=24 * 14)
    """How long an answer may take before it is escalated; nothing is ever approved by waiting."""
    escalate_to: tuple[Person, ...] = ()
    """Who owns what nobody answered, and may decide too from then on."""

    @field_validator("thresholds", mode="before")
    @classmethod
    def _exact(cls, value: Any) -> Any:
        if isinstance(value, dict) and any(isinstance(amount, float) for amount in value.values()):
            raise ValueError('write amounts in quotes, such as "250000.00": a bare number with a point is not exact')
        return value

    @field_validator("thresholds")
    @classmethod
    def _streams_exist(cls, value: dict[str, Decimal]) -> dict[str, Decimal]:
        unknown = sorted(set(value) - {ANY_STREAM, *APPROVABLE})
        if unknown:
            raise ValueError(
                f"no such stream: {', '.join(unknown)}; there are {', '.join(APPROVABLE)} and {ANY_STREAM}"
            )
        if any(amount < 0 for amount in value.values()):
            raise ValueError("a threshold is not negative")
        return value

    def threshold(self, stream: str) -> Decimal | None:
        """The threshold of a stream; None if its journals need nobody."""
        return self.thresholds.get(stream, self.thresholds.get(ANY_STREAM))


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
    restatement: Literal["difference", "reverse_and_repost"] = "difference"
    """What is posted where a day's content changed: what differs, or all of it taken back and posted anew."""
    approval: Approval = Approval()

    def needs_approval(self, stream: str, gross: Mapping[str, Decimal]) -> bool:
        """Whether gross debits by currency, of every version of a slot together, are a second person's to approve.

        A threshold is in the functional currency; where one is set, any amount in another currency is over it.
        """
        if stream in ALWAYS_APPROVED:
            return True
        threshold = self.approval.threshold(stream)
        if threshold is None:
            return False
        foreign = any(amount for currency, amount in gross.items() if currency != self.functional_currency)
        return foreign or gross.get(self.functional_currency, Decimal(0)) >= threshold

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
    status_checks: tuple[Annotated[int, Field(ge=0)], ...] = (0, 1, 5, 15, 60, 240)
    """Minutes from when a posting's outcome became unknown, then from each check, to the next time the ERP is asked;
    after the last one without an answer the batch goes to a person."""

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
