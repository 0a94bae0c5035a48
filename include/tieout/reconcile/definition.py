"""A reconciliation as data: what is compared with what, by which rules, and who looks after the differences."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    field_validator,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from tieout.ids import content_hash
from tieout.money import currencies
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
    "counterpart", "probability", "working",
    "present_name", "absent_name", "left_name", "right_name", "left_record", "right_record", "left_rows", "right_rows",
    "left_amount", "right_amount", "left_value", "right_value", "left_date", "right_date", "left_period",
    "right_period",
)  # fmt: skip

_MIRROR = {"missing_left": "missing_right", "missing_right": "missing_left"}
_CARDINALITY_MIRROR = {"1:1": "1:1", "1:N": "N:1", "N:1": "1:N", "N:N": "N:N"}
_SIDE_MIRROR = {"left": "right", "right": "left", None: None}
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


def _refuse_unknown_currencies(amounts: Mapping[str, Any]) -> None:
    """Raise ValueError for a code that no row can have: what is set for it would never count."""
    known = {code for code, _, _ in currencies()}
    for code in amounts:
        if code not in known and code != "default":
            likely = f"; did you mean {code.upper()}?" if code.upper() in known else ""
            raise ValueError(f"{code} is no ISO 4217 currency{likely}")


def _as_written(cardinality: Any) -> Any:
    """`1:1` without quotes is a number to YAML: one minute and one second."""
    return "1:1" if cardinality == 61 else cardinality


Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=60)]
Column = Annotated[str, Field(min_length=1, max_length=128)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Extract(_Part):
    """Takes the part of a text that a regular expression (RE2) finds: its first group, if it has one."""

    extract: str
    every: bool = False
    """Take all parts found, not only the first: the row then names several references (N:N passes)."""

    @field_validator("extract")
    @classmethod
    def _compiles(cls, value: str) -> str:
        import pyarrow as pa
        import pyarrow.compute as pc

        try:
            pc.match_substring_regex(pa.array([""]), value)  # the engine's dialect too: it has no look-around
        except pa.ArrowInvalid as error:
            raise ValueError(f"not a regular expression: {error}") from None
        return value

    @property
    def group(self) -> int:
        """Which group is taken: the first, or the whole find where the pattern has none."""
        plain = re.sub(r"\\.|\[[^\]]*\]", "", self.extract)
        return 1 if re.search(r"\((?!\?)|\(\?P?<", plain) else 0


class Split(_Part):
    """Takes every part of a text between separators: the row then names several references (N:N passes)."""

    split: str = Field(min_length=1)


Normaliser = (
    Literal["trim", "collapse_spaces", "upper", "lower", "strip_leading_zeros", "digits_only", "nfc", "nfkc"]
    | Extract
    | Split
)


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

    @model_validator(mode="after")
    def _splits_once(self) -> Key:
        if sum(map(_gives_several, self.normalise)) > 1:
            raise ValueError("only one of the normalisers may give several values")
        return self

    @property
    def is_several(self) -> bool:
        """Whether one row may have several values of this key."""
        return any(map(_gives_several, self.normalise))


def _gives_several(step: Normaliser) -> bool:
    return isinstance(step, Split) or (isinstance(step, Extract) and step.every)


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
    reason: Column | None = None
    """A column that says why the row may differ or stand alone, such as `wrong tier`: the reason of its break where
    nothing else gives one."""
    working: Column | None = None
    """A column that shows how what is compared comes about: sentences have it as `{working}`."""
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

    @field_validator("minor_units")
    @classmethod
    def _are_of_currencies(cls, value: int | dict[str, int]) -> int | dict[str, int]:
        if isinstance(value, dict):
            _refuse_unknown_currencies(value)
        return value

    @model_validator(mode="after")
    def _allows_something(self) -> Tolerance:
        if self.percent < 0 or any(u < 0 for u in self._units):
            raise ValueError("a tolerance cannot be negative")
        if self.combine == "lesser" and any(self._units) != (self.percent > 0):
            raise ValueError(
                "`combine: lesser` needs both `minor_units` and `percent`: the lesser of one and none is none"
            )
        return self

    @property
    def _units(self) -> list[int]:
        return [self.minor_units] if isinstance(self.minor_units, int) else list(self.minor_units.values())

    @property
    def is_zero(self) -> bool:
        """Whether only equal amounts agree."""
        return not any(self._units) and not self.percent


DayCount = Literal["calendar", "business"]


class DayWindow(_Part):
    """By how many days the right date may lie after the left one; negative means before."""

    earliest: int = 0
    latest: int = 0
    count: DayCount = "calendar"
    """`business` counts working days by the definition's `calendars`: from Friday to Monday is one day."""

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
    """Status and text: the left system's words in a common vocabulary, both normalised as the column is; others stay
    as they are."""
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


class Deduction(_Part):
    """Amounts that one side's first amount is already reduced by, such as a processor's fee."""

    part: Literal["fee", "withholding"]
    left: Column | None = None
    right: Column | None = None

    @model_validator(mode="after")
    def _has_a_column(self) -> Deduction:
        if not (self.left or self.right):
            raise ValueError("name the column of the deducted amount, `left` or `right`")
        return self


class Conversion(_Part):
    """What a side's first amount was converted from, and by which rate."""

    amount: Column
    """The amount in its original currency."""
    rate: Column
    source: Column | None = None
    """Where the rate comes from, such as a bank."""


class Conversions(_Part):
    """Both sides' conversions: where their rates differ, that much of a difference is the exchange rate's."""

    left: Conversion
    right: Conversion


class TaxLines(_Part):
    """The side whose rows are tax lines: tells a tax rounded per line from one rounded on the total."""

    side: Literal["left", "right"]
    net: Column
    rate: Column
    """In percent."""


class SideConditions(_Part):
    """SQL conditions on the rows that take part in a pass."""

    left: str | None = None
    right: str | None = None


class KeyedPass(_Part):
    """Rows whose keys are equal belong together: they match, or they are a break that names what differs.

    In an `N:N` pass a row may name several references, and all rows that are connected by any of them belong together.
    """

    method: Literal["keyed"] = "keyed"
    name: Name
    cardinality: Annotated[Literal["1:1", "1:N", "N:1", "N:N"], BeforeValidator(_as_written)] = "1:1"
    by: tuple[Key, ...] = Field(min_length=1)
    where: SideConditions = SideConditions()
    accept: Literal["automatic", "suggested", "only_if_unambiguous"] = "automatic"
    shortfall: Literal["partial_payment", "unexplained"] = "unexplained"
    """What it means where the paying side sums to less than the other, but not to nothing."""
    payer: Literal["left", "right"] | None = None
    """The paying side of a `1:1` or `N:N` pass; elsewhere it is the `N` side."""
    max_rows: int = Field(default=10_000, ge=2)
    """`N:N`: more connected rows than this are not judged by their sums; they are one `ambiguous` break."""

    @model_validator(mode="after")
    def _fits_its_cardinality(self) -> KeyedPass:
        if self.cardinality in ("1:1", "N:N"):
            if self.shortfall == "partial_payment" and self.payer is None:
                raise ValueError(f"a partial payment in a pass {self.cardinality} needs `payer`: left or right")
        elif self.payer is not None:
            raise ValueError("`payer` is for 1:1 and N:N passes; elsewhere the N side pays")
        if self.cardinality != "N:N" and any(key.is_several for key in self.by):
            raise ValueError("a row names several references (`split`, `every`) only in an N:N pass")
        return self

    @property
    def paying_side(self) -> Literal["left", "right"]:
        """The side whose rows are summed against what is due."""
        return self.payer or ("right" if self.cardinality == "1:N" else "left")


class SearchedAmount(_Part):
    """The amounts a search compares, and how far they may differ."""

    left: Column
    right: Column
    tolerance: Tolerance = Tolerance()


class SearchPass(_Part):
    """Looks for single counterparts of rows that carry no common key: same fields, same amount, near in time."""

    method: Literal["search"]
    name: Name
    cardinality: Annotated[Literal["1:1"], BeforeValidator(_as_written)] = "1:1"
    by: tuple[Key, ...] = Field(min_length=1)
    amount: SearchedAmount
    window: DayWindow
    where: SideConditions = SideConditions()
    accept: Literal["automatic", "suggested", "only_if_unambiguous"] = "only_if_unambiguous"
    rivals: Literal["pair", "refuse"] = "pair"
    """Rows that could take several others where `accept` is `suggested`: paired, so that the most rows find one, with
    the others listed as rivals; or refused as `ambiguous`."""
    identity: Literal["left", "right"] = "left"
    """The side whose row names the break."""

    @model_validator(mode="after")
    def _refuses_what_it_suggests(self) -> SearchPass:
        if self.rivals == "refuse" and self.accept == "automatic":
            raise ValueError("to match no row that has rivals, say `accept: only_if_unambiguous`")
        return self

    @property
    def pairs_rivals(self) -> bool:
        """Whether rows with several candidates are paired at all."""
        return self.accept == "automatic" or (self.accept == "suggested" and self.rivals == "pair")


class Likelihood(_Part):
    """How often pairs are on each level of a comparison: those that belong together (`m`), and those that do not."""

    m: tuple[Decimal, ...]
    u: tuple[Decimal, ...]

    @model_validator(mode="after")
    def _are_shares(self) -> Likelihood:
        for shares in (self.m, self.u):
            if any(not 0 < share <= 1 for share in shares) or abs(sum(shares, Decimal(0)) - 1) > Decimal("0.01"):
                raise ValueError("m and u are shares above 0 that add up to 1")
        return self

    def fits(self, levels: int) -> None:
        """Raise ValueError unless there is one share for each of so many levels."""
        if len(self.m) != levels or len(self.u) != levels:
            raise ValueError(f"m and u need one share for each of the {levels} levels")


class FuzzyAmount(SearchedAmount):
    """The amounts a fuzzy pass compares: within the tolerance, and told apart by how far they differ."""

    levels: tuple[Annotated[int, Field(ge=0)], ...] = (0,)
    """Minor units, rising: equal (0), by at most so many, …; the last level is the rest within the tolerance."""
    likelihood: Likelihood | None = None

    @model_validator(mode="after")
    def _levels_rise(self) -> FuzzyAmount:
        if list(self.levels) != sorted(set(self.levels)):
            raise ValueError("levels must rise")
        if self.likelihood:
            self.likelihood.fits(len(self.levels) + 1)
        return self


class FuzzyWindow(DayWindow):
    """The days a counterpart may be away, and which lags are told apart."""

    levels: tuple[int, ...] | None = None
    """The last day of each level but the last, rising; without them each day is a level of its own."""
    likelihood: Likelihood | None = None

    @model_validator(mode="after")
    def _levels_lie_inside(self) -> FuzzyWindow:
        if self.levels is None and self.latest - self.earliest > 31:
            raise ValueError("a window of more than 32 days needs `levels`")
        inside = range(self.earliest, self.latest)
        if list(self.ends) != sorted(set(self.ends)) or not set(self.ends) <= set(inside):
            raise ValueError("levels must rise, and lie from `earliest` to the day before `latest`")
        if self.likelihood:
            self.likelihood.fits(len(self.ends) + 1)
        return self

    @property
    def ends(self) -> tuple[int, ...]:
        """The last day of each level but the last."""
        return tuple(range(self.earliest, self.latest)) if self.levels is None else self.levels


class TextLikeness(_Part):
    """Two texts, such as a payment's memo and an invoice's number, and how alike they are."""

    name: Name
    left: Column
    right: Column
    normalise: tuple[Normaliser, ...] = ()
    measure: Literal["jaro_winkler", "levenshtein", "jaccard"] = "jaro_winkler"
    """`levenshtein`: the share of characters that need no change; `jaccard`: of characters that both have."""
    levels: tuple[Annotated[Decimal, Field(gt=0, lt=1)], ...] = (Decimal("0.95"), Decimal("0.85"))
    """Falling: beside equal texts those that are at least so alike, …; the last level is all other texts."""
    likelihood: Likelihood | None = None

    @model_validator(mode="after")
    def _levels_fall(self) -> TextLikeness:
        if list(self.levels) != sorted(set(self.levels), reverse=True):
            raise ValueError("levels must fall")
        if self.likelihood:
            self.likelihood.fits(len(self.levels) + 2)
        return self


Share = Annotated[Decimal, Field(gt=0, lt=1)]


class FuzzyPass(_Part):
    """Scores pairs of rows that are alike by Fellegi and Sunter's theory of record linkage.

    Only rows that agree in `by` are compared. Each pair gets the probability that it is one event, by its likelihoods
    and against the rivals of its rows; what the definition does not give of them is learned from the rows themselves.
    """

    method: Literal["fuzzy"]
    name: Name
    cardinality: Annotated[Literal["1:1"], BeforeValidator(_as_written)] = "1:1"
    by: tuple[Key, ...] = Field(min_length=1)
    amount: FuzzyAmount
    window: FuzzyWindow
    texts: tuple[TextLikeness, ...] = ()
    where: SideConditions = SideConditions()
    accept: Literal["automatic", "suggested", "only_if_unambiguous"] = "suggested"
    """`automatic` matches from `threshold` on and suggests below; `only_if_unambiguous` matches only rows that have no
    other candidate at all."""
    threshold: Share | None = None
    """The probability from which a pair is matched without a person."""
    suggest_from: Share = Decimal("0.5")
    """The probability from which a pair is suggested, and rivals together are worth a decision."""
    margin: Annotated[Decimal, Field(ge=0, lt=1)] = Decimal("0.2")
    """A pair of whose rows another candidate comes as close as this in probability is ambiguous."""
    prior: Share | None = None
    """The probability that a pair of rows in reach of each other belongs together before anything else is compared and
    were there no rivals; learned where it is not given."""
    identity: Literal["left", "right"] = "left"
    """The side whose row names the break."""

    @model_validator(mode="after")
    def _knows_when_it_is_sure(self) -> FuzzyPass:
        if self.accept != "suggested" and self.threshold is None:
            raise ValueError(f"`accept: {self.accept}` needs the `threshold` of probability from which it matches")
        if self.threshold is not None and self.threshold < self.suggest_from:
            raise ValueError("`threshold` must not be below `suggest_from`")
        names = ["amount", "lag", *(t.name for t in self.texts)]
        if len(set(names)) != len(names):
            raise ValueError(f"names of texts repeat: {', '.join(names)}")
        return self


class SubsetPass(_Part):
    """Finds which rows of the `N` side add up to one row of the other, such as the invoices of a bulk payment.

    Exact: every combination is considered, and only a sum that a single combination reaches is taken. A row with more
    candidates than `max_items` is not searched; its break says so.
    """

    method: Literal["subset"]
    name: Name
    cardinality: Literal["1:N", "N:1"]
    by: tuple[Key, ...] = Field(min_length=1)
    amount: SearchedAmount
    window: DayWindow
    where: SideConditions = SideConditions()
    accept: Literal["suggested", "only_if_unambiguous"] = "only_if_unambiguous"
    max_items: int = Field(default=20, ge=2, le=30)
    """How many candidates of one row are combined at most."""

    @property
    def identity(self) -> Literal["left", "right"]:
        """The single side: its row names the break."""
        return "left" if self.cardinality == "1:N" else "right"


Pass = Annotated[KeyedPass | SearchPass | FuzzyPass | SubsetPass, Field(discriminator="method")]


class Lag(_Part):
    """A counterpart that is missing is only `timing` while the row is younger than this many days."""

    type: Literal["missing_left", "missing_right"]
    days: int = Field(ge=1)
    count: DayCount = "calendar"


class WorkCalendar(_Part):
    """Which days are worked: Monday to Friday but for public holidays and closures."""

    country: str | None = None
    """ISO 3166 code; without it no public holidays."""
    region: str | None = None
    closures: tuple[date, ...] = ()

    @model_validator(mode="after")
    def _place_is_known(self) -> WorkCalendar:
        if self.country is not None:
            from tieout.calendar.business_days import is_business_day

            try:
                is_business_day(self, date(2026, 1, 2))
            except (NotImplementedError, KeyError):
                place = f"{self.country} {self.region or ''}".strip()
                raise ValueError(f"no public holidays are known for {place}") from None
        return self


Account = Annotated[dict[Literal["debit", "credit"], Name], Field(min_length=1, max_length=1)]


class WriteOff(_Part):
    """Which account takes a difference of one type that is written off, and on which side; the other is the loss."""

    left_higher: Account | None = None
    """Where the left amount is the higher one: `credit` or `debit`, and an account role of the posting rules."""
    right_higher: Account | None = None
    """Where the right amount is the higher one, or nothing is on the left."""

    @model_validator(mode="after")
    def _names_an_account(self) -> WriteOff:
        if self.left_higher is None and self.right_higher is None:
            raise ValueError("name an account where the left amount is higher, where the right one is, or both")
        return self


class Definition(_Part):
    """A reconciliation. The same values as its YAML file; see `docs/interfaces.md` for a complete example."""

    id: Name
    title: str = Field(min_length=3)
    left: Side
    right: Side
    passes: tuple[Pass, ...] = Field(min_length=1)
    compare: tuple[Comparison, ...] = ()
    deductions: tuple[Deduction, ...] = ()
    conversions: Conversions | None = None
    tax_lines: TaxLines | None = None
    completeness: Literal["both", "left", "right"] = "both"
    """Which side's rows must all have a counterpart; unmatched rows of the other side are excluded with a reason."""
    measure: Literal["balance", "monthly"] = "balance"
    """What the amounts are: money owed, paid or booked, or a price that comes again every month. Never added up."""
    lags: tuple[Lag, ...] = ()
    calendars: dict[str, WorkCalendar] = Field(default_factory=dict)
    """Working days per legal entity, with an optional `default`; without one Monday to Friday."""
    rounding_minor_units: int = Field(default=1, ge=0)
    """An amount difference of at most so many minor units per row is called rounding."""
    materiality: dict[str, Decimal] = Field(default_factory=dict)
    """Per currency, with an optional `default`: a break worth less is immaterial."""
    immaterial_limit: dict[str, Decimal] = Field(default_factory=dict)
    """Per currency, with an optional `default`: immaterial breaks of one legal entity that together are worth more are
    watched, because many small differences are one large one."""
    owners: dict[BreakType | Literal["default"], str] = Field(default={"default": "finance"})
    actions: dict[BreakType, str] = Field(default_factory=dict)
    """What to do next, per break type, where the standard advice does not fit."""
    sentences: dict[BreakType, str] = Field(default_factory=dict)
    """What a break says, per type, with placeholders such as {key} and {difference}."""
    write_off: dict[BreakType, WriteOff] = Field(default_factory=dict)
    """Per break type, the account that a written-off difference is taken from. A type that is missing here cannot be
    written off: it is settled where it arose."""
    max_candidates: int = Field(default=5_000_000, ge=1)
    """A search that would have to look at more pairs than this is refused."""

    @model_validator(mode="before")
    @classmethod
    def _method_defaults_to_keyed(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and isinstance(value.get("passes"), list | tuple):
            passes = [{"method": "keyed", **p} if isinstance(p, Mapping) else p for p in value["passes"]]
            return {**value, "passes": passes}
        return value

    @field_validator("materiality", "immaterial_limit")
    @classmethod
    def _limits_are_amounts_of_currencies(cls, value: dict[str, Decimal]) -> dict[str, Decimal]:
        _refuse_unknown_currencies(value)
        if any(amount < 0 for amount in value.values()):
            raise ValueError("a limit cannot be negative")
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
        if self.first_amount is None and (self.deductions or self.conversions):
            raise ValueError("deductions and conversions explain an amount: add one to `compare`")
        if self.tax_lines and not any(c.part == "tax" for c in self.compare):
            raise ValueError("tax_lines explain a tax: add an amount with `part: tax` to `compare`")
        lags = [lag.type for lag in self.lags]
        if len(set(lags)) != len(lags):
            raise ValueError("lags: one for missing_left and one for missing_right, not two of the same type")
        for lag in self.lags:
            side = self.right if lag.type == "missing_left" else self.left
            if side.date is None:
                raise ValueError(f"a lag on {lag.type} needs a `date` column on the side that has the row")
        for match_pass in self.passes:
            if not isinstance(match_pass, KeyedPass) and not (self.left.date and self.right.date):
                raise ValueError(f"pass {match_pass.name} searches by date, so both sides need a `date` column")
        return self

    @property
    def first_amount(self) -> Comparison | None:
        """The amount field whose difference is decomposed, or None."""
        return next((c for c in self.compare if c.kind == "amount"), None)

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 of what the definition sets: the version of its rules. A default written out changes nothing."""
        return content_hash(self.model_dump(mode="json", exclude_defaults=True))

    def normalises(self, step: Normaliser) -> bool:
        """Whether any key or compared field is normalised by a step."""
        steps = [*(k.normalise for p in self.passes for k in p.by), *(c.normalise for c in self.compare)]
        steps += [t.normalise for p in self.passes if isinstance(p, FuzzyPass) for t in p.texts]
        return any(step in found for found in steps)

    @property
    def counts_working_days(self) -> bool:
        """Whether any window or lag counts business days."""
        windows = [p.window for p in self.passes if not isinstance(p, KeyedPass)] + [c.window for c in self.compare]
        return any(counted and counted.count == "business" for counted in (*windows, *self.lags))

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
            if match_pass["method"] == "keyed":
                match_pass["payer"] = _SIDE_MIRROR[match_pass["payer"]]
            else:
                match_pass["amount"] = _swapped(match_pass["amount"])
                match_pass["amount"]["tolerance"] = _mirrored_tolerance(match_pass["amount"]["tolerance"])
                match_pass["window"] = _mirrored_window(match_pass["window"])
            if match_pass["method"] == "fuzzy":
                match_pass["texts"] = [_swapped(t) for t in match_pass["texts"]]
                match_pass["window"] = _mirrored_lags(match_pass["window"])
            if match_pass["method"] in ("search", "fuzzy"):
                match_pass["identity"] = _SIDE_MIRROR[match_pass["identity"]]
        for field in data["compare"]:
            field["left"], field["right"] = field["right"], field["left"]
            field["left_values"], field["right_values"] = field["right_values"], field["left_values"]
            field["tolerance"] = _mirrored_tolerance(field["tolerance"])
            field["window"] = _mirrored_window(field["window"])
            field["type"] = _MIRROR.get(field["type"], field["type"])
        data["deductions"] = [_swapped(d) for d in data["deductions"]]
        data["conversions"] = data["conversions"] and _swapped(data["conversions"])
        if data["tax_lines"]:
            data["tax_lines"]["side"] = _SIDE_MIRROR[data["tax_lines"]["side"]]
        for lag in data["lags"]:
            lag["type"] = _MIRROR[lag["type"]]
        data["completeness"] = {"left": "right", "right": "left"}.get(data["completeness"], "both")
        data["write_off"] = {
            kind: {"left_higher": of["right_higher"], "right_higher": of["left_higher"]}
            for kind, of in data["write_off"].items()
        }
        for table in ("owners", "actions", "sentences", "write_off"):
            data[table] = {_MIRROR.get(k, k): v for k, v in data[table].items()}
        return Definition.model_validate(data)


def _swapped(pair: dict[str, Any]) -> dict[str, Any]:
    return {**pair, "left": pair["right"], "right": pair["left"]}


def _mirrored_window(window: dict[str, Any] | None) -> dict[str, Any] | None:
    return window and {**window, "earliest": -window["latest"], "latest": -window["earliest"]}


def _mirrored_lags(window: dict[str, Any]) -> dict[str, Any]:
    """A mirrored window with its levels mirrored too."""
    levels, likelihood = window["levels"], window["likelihood"]
    return window | {
        "levels": levels and tuple(-end - 1 for end in reversed(levels)),
        "likelihood": likelihood and {name: tuple(reversed(shares)) for name, shares in likelihood.items()},
    }


def _mirrored_tolerance(tolerance: dict[str, Any]) -> dict[str, Any]:
    flipped = {"left_higher": "right_higher", "right_higher": "left_higher"}
    return {**tolerance, "direction": flipped.get(tolerance["direction"], "both")}
