"""`sources.yaml`: which systems are read, through which connection, and how carefully."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from tieout.settings import load_config
from tieout.sources.client import Rate

Kind = Literal["stripe", "salesforce", "zendesk", "files", "http", "erp"]

OBJECTS: dict[str, tuple[str, ...]] = {
    "stripe": (
        "events",
        "customers",
        "products",
        "prices",
        "subscriptions",
        "invoices",
        "credit_notes",
        "charges",
        "refunds",
        "disputes",
        "balance_transactions",
        "payouts",
        "payout_transactions",
    ),
    "salesforce": (
        "Account",
        "Product2",
        "Contract",
        "SBQQ__Quote__c",
        "SBQQ__Subscription__c",
        "Opportunity",
        "Entitlement",
    ),
    "zendesk": ("organizations", "users", "tickets"),
    "files": ("usage", "bank", "provisioning", "fx_rates", "revenue_schedules", "entity_transfers"),
    "http": ("usage",),
    "erp": ("gl_accounts", "periods", "gl_entries", "trial_balance"),
}
"""The objects each kind of source reads unless its entry names fewer."""

_OVERLAP = {"stripe": timedelta(hours=1), "salesforce": timedelta(minutes=30)}
_SAFETY_LAG = {
    "stripe": timedelta(minutes=1),
    "salesforce": timedelta(minutes=10),
    "zendesk": timedelta(minutes=1),
}
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def _duration(value: Any) -> Any:
    match = re.fullmatch(r"(\d+)\s*([smhd])", value) if isinstance(value, str) else None
    if isinstance(value, timedelta):
        return value
    if not match:
        raise ValueError("a duration is a whole number and one of s, m, h, d, such as 10m")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def _rate(value: Any) -> Any:
    match = re.fullmatch(r"(\d+)/(second|minute|hour|day)", value) if isinstance(value, str) else None
    if isinstance(value, Rate):
        return value
    if not match or int(match[1]) < 1:
        raise ValueError("a rate is a number of requests per second, minute, hour or day, such as 20/second")
    return Rate(int(match[1]), match[2])


def _instant(value: Any) -> Any:
    if isinstance(value, date) and not isinstance(value, datetime):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    if isinstance(value, datetime) and value.tzinfo is None:
        return value.replace(tzinfo=UTC)
    return value


Duration = Annotated[timedelta, BeforeValidator(_duration)]


class Feed(BaseModel):
    """How an HTTP API lists its records. Paths into an answer are keys joined by dots."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str
    """Below the connection's host, such as `/v1/events`."""
    records: str = "data"
    """Where the list stands in an answer; empty where the answer is the list itself."""
    cursor: str | None = None
    """Where an answer says how to ask for the next page; the last page has nothing there."""
    cursor_param: str = "cursor"
    page_param: str | None = None
    """Pages by number, from 1 to the first empty one, in place of a cursor."""
    size_param: str | None = None
    size: Annotated[int, Field(ge=1, le=100_000)] = 1000
    since_param: str | None = None
    """What asks for records from an instant on, as the API dates them; without it everything is read each time."""
    until_param: str | None = None
    """What asks for records before an instant."""
    total: str | None = None
    """Where an answer says how many records the window has in all: the control total."""

    @model_validator(mode="after")
    def _one_way_to_page(self) -> Feed:
        if self.cursor and self.page_param:
            raise ValueError("pages go by `cursor` or by `page_param`, not by both")
        return self


def mapped_as(kind: str) -> str:
    """The kind whose contract and mappings (the folder in `conform/`) a kind of source goes by."""
    return "files" if kind == "http" else kind


class SourceConfig(BaseModel):
    """One source: what kind of system it is, where it is, what is read from it and how."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{1,40}$")]
    kind: Kind
    connection: str
    legal_entity: str | None = None
    """The legal entity everything in this source belongs to; none for a source the whole group shares."""
    objects: tuple[Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,79}$")], ...] = ()
    """What to read; all objects of the kind, if empty."""
    start: Annotated[datetime | None, BeforeValidator(_instant)] = None
    """Nothing created (Salesforce, Zendesk: changed) before this instant is read; none reads everything there is."""
    overlap: Duration | None = None
    """How far each window reaches back into the one before it, for records that become visible late."""
    safety_lag: Duration | None = None
    """How far behind the vendor's clock a window ends."""
    rate: Annotated[Rate | None, BeforeValidator(_rate)] = None
    """At most so many requests; none leaves it to the vendor to slow us down."""
    contract: str | None = None
    """The source contract the records are held against; the kind's own, if none."""
    api_version: str | None = None
    """Salesforce: the API version, such as v62.0. Stripe's is pinned by its contract."""
    bulk_above: int = 2000
    """Salesforce: windows with more records than this are read through Bulk API 2.0."""
    second_listing: bool = True
    """Stripe: walk first loads and the event feed a second time, from the other end, to prove that they are whole."""
    page_rows: Annotated[int, Field(ge=1, le=1_000_000)] = 20_000
    """Files: records per landed page."""
    feed: Feed | None = None
    """HTTP: how the API lists its records."""
    archive: Annotated[str | None, Field(pattern=r"^[A-Za-z0-9_.-]{1,40}$")] = None
    """Files: folder beside the feeds that a file moves to once it is landed; none leaves it where it is."""
    erp: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,40}$")] = "tryton"
    """ERPs: the name of the file in `erp/` that says which adapter it takes and what is where in it."""
    ledger: str = "main"
    """ERPs: the ledger it keeps; entities that name this one in entities.yaml are posted to here."""
    unpacked_gb: Annotated[int, Field(ge=1, le=1000)] = 16
    """Files: gigabytes a file may have once unpacked; a larger one is set aside whole."""

    @model_validator(mode="after")
    def _defaults_of_the_kind(self) -> SourceConfig:
        known = OBJECTS[self.kind]
        if (self.kind == "http") != (self.feed is not None):
            raise ValueError("a source of kind http, and no other, needs `feed`")
        if self.kind not in ("salesforce", "files"):  # theirs are the customer's own: custom objects, feeds
            unknown = [name for name in self.objects if name not in known]
            if unknown:
                raise ValueError(f"{self.kind} has no object {', '.join(unknown)}; it has {', '.join(known)}")
        self.__dict__.update(
            objects=self.objects or known,
            overlap=_OVERLAP.get(self.kind, timedelta(0)) if self.overlap is None else self.overlap,
            safety_lag=_SAFETY_LAG.get(self.kind, timedelta(0)) if self.safety_lag is None else self.safety_lag,
            contract=self.contract or mapped_as(self.kind),
        )
        return self

    @property
    def reach_back(self) -> timedelta:
        """The overlap of this source."""
        return self.overlap or timedelta(0)

    @property
    def lag(self) -> timedelta:
        """The safety lag of this source."""
        return self.safety_lag or timedelta(0)


class Sources(BaseModel):
    """All sources, by unique name."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sources: tuple[SourceConfig, ...]

    @model_validator(mode="after")
    def _names_are_unique(self) -> Sources:
        names = [source.name for source in self.sources]
        if len(names) != len(set(names)):
            raise ValueError(f"source names repeat: {sorted(names)}")
        return self


def load_sources(path: Path) -> tuple[SourceConfig, ...]:
    """Read and check `sources.yaml`. Raises ConfigError naming file, line and field."""
    return load_config(Sources, path).sources
