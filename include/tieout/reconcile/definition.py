"""A reconciliation as data: what is compared with what, by which rules, and who looks after the differences."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, field_validator, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from tieout.ids import content_hash
from tieout.schema import BREAK_TYPES

BreakType = Literal[
    "missing_left",
    "missing_right",
    "duplicate",
    "amount",
    "currency",
    "timing",
    "cut_off",
    "status",
    "attribute",
    "mapping",
    "orphan",
    "ambiguous",
    "suggested_match",
]
__all__ = ["BREAK_TYPES", "Definition"]

PLACEHOLDERS = (
    "key", "entity", "label", "record", "amount", "value", "difference", "parts", "field", "reason", "rivals",
    "present_name", "absent_name", "left_name", "right_name", "left_record", "right_record", "left_rows", "right_rows",
    "left_amount", "right_amount", "left_value", "right_value", "left_date", "right_date", "left_period",
    "right_period",
)  # fmt: skip

_MIRROR = {"missing_left": "missing_right", "missing_right": "missing_left"}
_CARDINALITY_MIRROR = {"1:1": "1:1", "1:N": "N:1", "N:1": "1:N"}
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=60)]
Column = Annotated[str, Field(min_length=1, max_length=128)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Extract(_Part):
    """Takes the first part of a text that a regular expression finds (its first group, if it has one)."""

    extract: str

    @field_validator("extract")
    @classmethod
    def _compiles(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        return value


Normaliser = Literal["trim", "collapse_spaces", "upper", "lower", "strip_leading_zeros", "digits_only", "nfc"] | Extract


class Key(_Part):
    """One pair of columns that must be equal, after normalising both. A plain column name means both sides."""

    left: Column
    right: Column
    normalise: tuple[Normaliser, ...] = ()

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"anyOf": [{"type": "string", "minLength": 1}, handler(core)]}

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return {"left": value, "right": value} if isinstance(value, str) else value


class Exclusion(_Part):
    """Rows left out with a reason: `always`, or only those for which no pass found a counterpart."""

    when: str
    """An SQL condition over the side's columns."""
    reason: str = Field(min_length=3)
    applies: Literal["always", "unmatched"] = "always"


class Evidence(_Part):
    """A text column which, where it is filled, proves why a row cannot be matched (its text is the reason)."""

    type: Literal["orphan", "mapping"]
    column: Column
    applies: Literal["always", "unmatched"] = "unmatched"


class Side(_Part):
    """One record of the facts: which columns play which part."""

    name: str = Field(min_length=1)
    """How sentences call the system: `billing`, `the ledger`."""
    record: str = "record"
    """How sentences call one row: `invoice`."""
    sql: str | None = None
    """File of the query that makes this side from canonical tables; not read by `reconcile` itself."""
    entity: Column = "legal_entity_id"
    currency: Column | None = None
    amount: Column | None = None
    date: Column | None = None
    """The economic date: ages breaks and decides what is only a matter of timing."""
    period: Column | None = None
    """The fiscal period's name; without it the calendar month of `date`."""
    id: tuple[Column, ...] = Field(min_length=1)
    """Columns that name one row for people who look it up."""
    identity: tuple[Column, ...] = ()
    """Columns that make the key of a break of an unmatched row; without it the first keyed pass's key, else `id`."""
    label: Column | None = None
    """A column that tells people what the row is about, such as the customer's name."""
    cause: Column | None = None
    """A column naming what the row goes back to, such as its ledger entry: breaks of one cause count once at stake."""
    filter: str | None = None
    """An SQL condition; rows outside it are excluded with the reason "outside the filter"."""
    exclude: tuple[Exclusion, ...] = ()
    evidence: tuple[Evidence, ...] = ()

    @model_validator(mode="after")
    def _money_has_a_currency(self) -> Side:
        if self.amount is not None and self.currency is None:
            raise ValueError("an amount needs the column of its currency")
        return self


class Tolerance(_Part):
    """How far two amounts may differ: whole minor units per currency, and a percentage of the larger amount."""

    minor_units: int | dict[str, int] = 0
    """Per currency with an optional `default`; one number means every currency."""
    percent: Decimal = Decimal(0)
    combine: Literal["greater", "lesser"] = "greater"
    """Which of the two limits counts where both are given."""
    direction: Literal["both", "left_higher", "right_higher"] = "both"
    """`left_higher` tolerates only differences where the left amount is the higher one."""

    @model_validator(mode="after")
    def _not_negative(self) -> Tolerance:
        units = [self.minor_units] if isinstance(self.minor_units, int) else list(self.minor_units.values())
        if self.percent < 0 or any(u < 0 for u in units):
            raise ValueError("a tolerance cannot be negative")
        return self

    @property
    def is_zero(self) -> bool:
        """Whether only equal amounts agree."""
        units = [self.minor_units] if isinstance(self.minor_units, int) else list(self.minor_units.values())
        no_units, no_percent = not any(units), not self.percent
        return (no_units and no_percent) or (self.combine == "lesser" and (no_units or no_percent))


class DayWindow(_Part):
    """By how many calendar days the right date may lie after the left one; negative means before."""

    earliest: int = 0
    latest: int = 0

    @model_validator(mode="after")
    def _ordered(self) -> DayWindow:
        if self.earliest > self.latest:
            raise ValueError("earliest must not be after latest")
        return self


class Comparison(_Part):
    """A field that must agree once two sides are joined. Earlier ones name the break where several differ."""

    name: Name
    kind: Literal["amount", "number", "date", "status", "text"]
    left: Column
    right: Column
    tolerance: Tolerance = Tolerance()
    """Amounts and numbers; for a number a minor unit is 1."""
    window: DayWindow | None = None
    """Dates: without it any two dates of one period agree."""
    periods: bool = True
    """Dates: whether both must fall into one period (a difference is a `cut_off` break)."""
    left_values: dict[str, str] = Field(default_factory=dict)
    """Status and text: the left system's words in a common vocabulary; others stay as they are."""
    right_values: dict[str, str] = Field(default_factory=dict)
    normalise: tuple[Normaliser, ...] = ()
    type: BreakType | None = None
    """The break type of a difference, where it is not the kind's own."""
    part: Literal["tax"] | None = None
    """An amount that is contained in the first amount field and explains that much of its difference."""

    @property
    def break_type(self) -> str:
        """The break type of a difference in this field (for dates: of one inside a period)."""
        own = {"amount": "amount", "number": "attribute", "date": "timing", "status": "status", "text": "attribute"}
        return self.type or own[self.kind]


class SideConditions(_Part):
    """SQL conditions on the rows that take part in a pass."""

    left: str | None = None
    right: str | None = None


class KeyedPass(_Part):
    """Rows whose keys are equal belong together: they match, or they are a break that names what differs."""

    method: Literal["keyed"] = "keyed"
    name: Name
    cardinality: Literal["1:1", "1:N", "N:1"] = "1:1"
    by: tuple[Key, ...] = Field(min_length=1)
    where: SideConditions = SideConditions()
    accept: Literal["automatic", "suggested", "only_if_unambiguous"] = "automatic"
    shortfall: Literal["partial_payment", "unexplained"] = "unexplained"
    """What it means where the `N` side sums to less than the one record, but not to nothing."""

    @field_validator("cardinality", mode="before")
    @classmethod
    def _many_to_many(cls, value: Any) -> Any:
        if value == "N:N":
            raise ValueError(
                "N:N is not supported yet: split it into a 1:N and an N:1 pass, or group one side in its query"
            )
        return value


class SearchedAmount(_Part):
    """The amounts a search compares, and how far they may differ."""

    left: Column
    right: Column
    tolerance: Tolerance = Tolerance()


class SearchPass(_Part):
    """Looks for single counterparts of rows that carry no common key: same fields, same amount, near in time."""

    method: Literal["search"]
    name: Name
    cardinality: Literal["1:1"] = "1:1"
    by: tuple[Key, ...] = Field(min_length=1)
    amount: SearchedAmount
    window: DayWindow
    where: SideConditions = SideConditions()
    accept: Literal["automatic", "suggested", "only_if_unambiguous"] = "only_if_unambiguous"
    identity: Literal["left", "right"] = "left"
    """The side whose row names the break."""


Pass = Annotated[KeyedPass | SearchPass, Field(discriminator="method")]


class Lag(_Part):
    """A counterpart that is missing is only `timing` while the row is younger than this many calendar days."""

    type: Literal["missing_left", "missing_right"]
    days: int = Field(ge=1)


class Definition(_Part):
    """A reconciliation. The same values as its YAML file; see `docs/interfaces.md` for a complete example."""

    id: Name
    title: str = Field(min_length=3)
    left: Side
    right: Side
    passes: tuple[Pass, ...] = Field(min_length=1)
    compare: tuple[Comparison, ...] = ()
    completeness: Literal["both", "left", "right"] = "both"
    """Which side's rows must all have a counterpart; unmatched rows of the other side are excluded with a reason."""
    measure: Literal["balance", "monthly"] = "balance"
    """What the amounts are: money owed, paid or booked, or a price that comes again every month. Never added up."""
    lags: tuple[Lag, ...] = ()
    rounding_minor_units: int = Field(default=1, ge=0)
    """An amount difference of at most so many minor units per row is called rounding."""
    materiality: dict[str, Decimal] = Field(default_factory=dict)
    """Per currency, with an optional `default`: a break worth less is immaterial."""
    owners: dict[BreakType | Literal["default"], str] = Field(default={"default": "finance"})
    actions: dict[BreakType, str] = Field(default_factory=dict)
    """What to do next, per break type, where the standard advice does not fit."""
    sentences: dict[BreakType, str] = Field(default_factory=dict)
    """What a break says, per type, with placeholders such as {key} and {difference}."""
    max_candidates: int = Field(default=5_000_000, ge=1)
    """A search that would have to look at more pairs than this is refused."""

    @model_validator(mode="before")
    @classmethod
    def _method_defaults_to_keyed(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and isinstance(value.get("passes"), list | tuple):
            passes = [{"method": "keyed", **p} if isinstance(p, Mapping) else p for p in value["passes"]]
            return {**value, "passes": passes}
        return value

    @field_validator("owners")
    @classmethod
    def _has_a_default_owner(cls, value: dict[str, str]) -> dict[str, str]:
        if "default" not in value:
            raise ValueError("name a `default` owner")
        return value

    @field_validator("sentences", "actions")
    @classmethod
    def _placeholders_exist(cls, value: dict[str, str]) -> dict[str, str]:
        for break_type, text in value.items():
            unknown = [name for name in _PLACEHOLDER.findall(text) if name not in PLACEHOLDERS]
            if unknown:
                raise ValueError(f"{break_type} uses {{{unknown[0]}}}; known are {', '.join(PLACEHOLDERS)}")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Definition:
        names = [p.name for p in self.passes]
        if len(set(names)) != len(names):
            raise ValueError(f"pass names repeat: {', '.join(names)}")
        fields = [c.name for c in self.compare]
        if len(set(fields)) != len(fields):
            raise ValueError(f"compared fields repeat: {', '.join(fields)}")
        for comparison in self.compare:
            if comparison.kind == "amount" and not (self.left.currency and self.right.currency):
                raise ValueError(
                    f"compare.{comparison.name} is an amount, so both sides need amount and currency columns"
                )
            if comparison.part and comparison.kind != "amount":
                raise ValueError(f"compare.{comparison.name}: only an amount can be part of an amount")
            if comparison.part and comparison is self.first_amount:
                raise ValueError(
                    f"compare.{comparison.name}: the first amount cannot be a part of itself; list the total first"
                )
        for lag in self.lags:
            side = self.right if lag.type == "missing_left" else self.left
            if side.date is None:
                raise ValueError(f"a lag on {lag.type} needs a `date` column on the side that has the row")
        for match_pass in self.passes:
            if isinstance(match_pass, SearchPass) and not (self.left.date and self.right.date):
                raise ValueError(f"pass {match_pass.name} searches by date, so both sides need a `date` column")
        return self

    @property
    def first_amount(self) -> Comparison | None:
        """The amount field whose difference is decomposed, or None."""
        return next((c for c in self.compare if c.kind == "amount"), None)

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 of the definition's content: the version of its rules."""
        return content_hash(self.model_dump(mode="json"))

    def owner(self, break_type: str) -> str:
        """The team that looks after breaks of a type."""
        return self.owners.get(break_type, self.owners["default"])  # type: ignore[call-overload, no-any-return]

    def mirrored(self) -> Definition:
        """The same reconciliation with its sides swapped."""
        data = self.model_dump()
        data["left"], data["right"] = data["right"], data["left"]
        for match_pass in data["passes"]:
            match_pass["cardinality"] = _CARDINALITY_MIRROR[match_pass["cardinality"]]
            match_pass["by"] = [_swapped(k) for k in match_pass["by"]]
            match_pass["where"] = _swapped(match_pass["where"])
            if match_pass["method"] == "search":
                match_pass["amount"] = _swapped(match_pass["amount"])
                match_pass["amount"]["tolerance"] = _mirrored_tolerance(match_pass["amount"]["tolerance"])
                match_pass["window"] = _mirrored_window(match_pass["window"])
                match_pass["identity"] = {"left": "right", "right": "left"}[match_pass["identity"]]
        for field in data["compare"]:
            field["left"], field["right"] = field["right"], field["left"]
            field["left_values"], field["right_values"] = field["right_values"], field["left_values"]
            field["tolerance"] = _mirrored_tolerance(field["tolerance"])
            field["window"] = _mirrored_window(field["window"])
            field["type"] = _MIRROR.get(field["type"], field["type"])
        for lag in data["lags"]:
            lag["type"] = _MIRROR[lag["type"]]
        data["completeness"] = {"left": "right", "right": "left"}.get(data["completeness"], "both")
        for table in ("owners", "actions", "sentences"):
            data[table] = {_MIRROR.get(k, k): v for k, v in data[table].items()}
        return Definition.model_validate(data)


def _swapped(pair: dict[str, Any]) -> dict[str, Any]:
    return {**pair, "left": pair["right"], "right": pair["left"]}


def _mirrored_window(window: dict[str, int] | None) -> dict[str, int] | None:
    return window and {"earliest": -window["latest"], "latest": -window["earliest"]}


def _mirrored_tolerance(tolerance: dict[str, Any]) -> dict[str, Any]:
    flipped = {"left_higher": "right_higher", "right_higher": "left_higher"}
    return {**tolerance, "direction": flipped.get(tolerance["direction"], "both")}
