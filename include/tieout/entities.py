"""The legal entities of the group, as finance configures them in `entities.yaml`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, time, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from tieout.errors import ConfigError, DataError
from tieout.money import minor_digits
from tieout.settings import load_config

EntityId = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]{1,15}$")]


LedgerName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,39}$")]


class LedgerInForce(BaseModel):
    """A ledger of an entity and the accounting dates it takes: from its cut-over date to the next one's."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    ledger: LedgerName
    since: date = Field(alias="from")
    """The cut-over date: the first accounting date that is posted here."""
    history_from: date | None = None
    """Journals of earlier ledgers dated from here to the day before the cut-over are replayed into this one."""
    parallel_until: date | None = None
    """After the next ledger took over: its journals are copied into this one up to this date."""


class LateMateriality(BaseModel):
    """What late entries of one account and origin period may add up to before a person decides; functional currency."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    net: str
    gross: str

    @field_validator("net", "gross")
    @classmethod
    def _is_an_amount(cls, value: str) -> str:
        try:
            amount = Decimal(value)
        except InvalidOperation:
            raise ValueError(f"{value} is no amount") from None
        if not amount.is_finite() or amount < 0:
            raise ValueError(f"{value} is no limit")
        return value


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


APPROVABLE = ("billing", "cash", "release", "accrual", "revaluation", "prior_period")
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

    @property
    def names(self) -> tuple[str, ...]:
        """Everything the person may be called where something is asked for or decided."""
        return (self.name, self.id) if self.id else (self.name,)


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

    def names_of(self, who: str) -> tuple[str, ...]:
        """Everything else that who signs in by this name, or id, is called here."""
        called = {who.strip().casefold()}
        same = (p for p in (*self.approvers, *self.escalate_to) if called & {n.casefold() for n in p.names})
        return tuple(dict.fromkeys(name for person in same for name in person.names))

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
    ledger: LedgerName = "main"
    ledgers: tuple[LedgerInForce, ...] = ()
    """Where the entity changes its ERP: each ledger with its cut-over date, oldest first. Empty: `ledger` alone."""
    fiscal_calendar: Literal["months", "4-4-5", "4-5-4", "5-4-4"] = "months"
    fiscal_year_start: date = date(2025, 1, 1)
    closures: tuple[date, ...] = ()
    go_live: date
    go_live_signatures: int = Field(default=1, ge=1, le=2)
    """How many people sign the opening position before anything is posted."""
    go_live_waiver: str = ""
    """Why nobody needs to: posting does not wait for a signature, and the audit log says this."""
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
    restatement: Literal["difference", "reverse_and_repost"] = "difference"
    """What is posted where a day's content changed: what differs, or all of it taken back and posted anew."""
    approval: Approval = Approval()
    late_materiality: LateMateriality | None = None
    """Above it a late event is held for a decision; none = only events of a prior fiscal year are."""

    @model_validator(mode="before")
    @classmethod
    def _first_ledger(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("ledgers") and "ledger" not in values:
            first = values["ledgers"][0]
            return values | {"ledger": first["ledger"] if isinstance(first, dict) else first.ledger}
        return values

    @model_validator(mode="after")
    def _ledgers_follow_each_other(self) -> LegalEntity:
        names, starts = [one.ledger for one in self.ledgers], [one.since for one in self.ledgers]
        if len(names) != len(set(names)):
            raise ValueError(f"ledgers repeat: {names}")
        if starts != sorted(set(starts)):
            raise ValueError("ledgers stand in the order of their cut-over dates, no two on one day")
        if self.ledgers and (self.ledger not in names or starts[0] != self.go_live):
            raise ValueError("the first of the ledgers takes over on the go-live date")
        for position, one in enumerate(self.ledgers):
            if one.history_from and not (position and self.go_live <= one.history_from < one.since):
                raise ValueError(f"{one.ledger}: history_from lies between go-live and the cut-over of a later ledger")
            following = starts[position + 1] if position + 1 < len(starts) else None
            if one.parallel_until and not (following and one.parallel_until >= following):
                raise ValueError(f"{one.ledger}: parallel_until lies after the cut-over of the next ledger")
        return self

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

    @property
    def in_force(self) -> tuple[LedgerInForce, ...]:
        """Every ledger of the entity with its cut-over date, oldest first."""
        return self.ledgers or (LedgerInForce.model_validate({"ledger": self.ledger, "from": self.go_live}),)

    def ledger_on(self, day: date) -> str:
        """The ledger that takes an accounting date; the first one also what lies before go-live."""
        listed = self.in_force
        return next((one.ledger for one in reversed(listed) if one.since <= day), listed[0].ledger)

    def of_ledger(self, ledger: str) -> LegalEntity:
        """The entity as one of its ledgers sees it."""
        return self if ledger == self.ledger else self.model_copy(update={"ledger": ledger})

    @property
    def taken_over_on(self) -> date:
        """The first date its ledger holds our journals of: the cut-over, or where its replayed history begins."""
        own = next(one for one in self.in_force if one.ledger == self.ledger)
        return own.history_from or own.since

    @property
    def copied_span(self) -> tuple[date, date] | None:
        """The dates, both included, whose journals are copied into its ledger from the one in force; None: none are."""
        starts = [one.since for one in self.in_force]
        own = next(one for one in self.in_force if one.ledger == self.ledger)
        if own.history_from:
            return own.history_from, max(own.since - timedelta(days=1), own.parallel_until or date.min)
        if own.parallel_until:
            return starts[starts.index(own.since) + 1], own.parallel_until
        return None


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
