"""Which breaks a person means: a filter over what the store keeps of them, answered in the database."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Numeric, Select, String, case, func, literal_column, or_, select
from sqlalchemy.orm import Session

from tieout.errors import DataError
from tieout.store.breaks import CLOSED, BreakNightRow, BreakRow, BreakVerdictRow

_ROWS = 20_000
SQLITE_VALUE = (
    "CAST(breaks.value AS BIGINT)",
    "CASE WHEN instr(breaks.value, '.') > 0"
    " THEN substr(substr(breaks.value, instr(breaks.value, '.') + 1) || '000000', 1, 6) ELSE '000000' END",
)
POSTGRESQL_VALUE = "CAST(breaks.value AS NUMERIC(38, 6))"
_PREFIX = 6
_WHOLE = 32


@dataclass(frozen=True, slots=True)
class Filter:
    """Conditions that all hold. Without states: every break that is neither closed nor written off."""

    definition_id: str | None = None
    legal_entity_id: str | None = None
    owner: str | None = None
    """The team, or the person it is assigned to."""
    states: tuple[str, ...] = ()
    break_type: str | None = None
    currency: str | None = None
    min_age: int | None = None
    """Days since the first economic date, counted to the newest business date recorded."""
    min_amount: Decimal | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing is asked for."""
        return self == Filter()


@dataclass(frozen=True, slots=True)
class Listed:
    """A break as a list shows it."""

    break_id: str
    definition_id: str
    legal_entity_id: str
    break_key: str
    break_type: str
    state: str
    owner: str
    assignee: str | None
    currency: str | None
    value: Decimal | None
    economic_date: date | None
    first_seen: date
    last_seen: date
    cap: Decimal | None
    expires: date | None
    verdict: str | None
    sentence: str


def count(session: Session, wanted: Filter) -> int:
    """How many breaks a filter finds."""
    return session.scalar(_where(select(func.count()).select_from(BreakRow), session, wanted)) or 0


def listed(session: Session, wanted: Filter, limit: int | None = None) -> Iterator[Listed]:
    """The breaks a filter finds, the largest amounts first."""
    verdict = (
        select(func.min(BreakVerdictRow.verdict))
        .where(BreakVerdictRow.break_id == BreakRow.break_id)
        .correlate(BreakRow)
        .scalar_subquery()
    )
    newest = (
        select(BreakNightRow.business_date)
        .where(BreakNightRow.definition_id == BreakRow.definition_id)
        .correlate(BreakRow)
        .scalar_subquery()
    )
    seen = case((BreakRow.state.in_(CLOSED), BreakRow.last_seen), else_=func.coalesce(newest, BreakRow.last_seen))
    special: dict[str, Any] = {"verdict": verdict, "last_seen": seen}
    columns = [special[n] if n in special else getattr(BreakRow, n) for n in Listed.__dataclass_fields__]
    whole, rest = _amount(session)
    query = _where(select(*columns), session, wanted)
    query = query.order_by(whole.desc().nulls_last(), rest.desc(), BreakRow.break_id).limit(limit)
    for rows in session.execute(query.execution_options(yield_per=_ROWS)).partitions(_ROWS):
        yield from (Listed(*row) for row in rows)


def chosen_ids(session: Session, wanted: Filter) -> list[str]:
    """The ids of the breaks a filter finds, in order."""
    return list(session.scalars(_where(select(BreakRow.break_id), session, wanted).order_by(BreakRow.break_id)))


def full_id(session: Session, start: str) -> str:
    """The id that begins so. Raises DataError unless exactly one does."""
    start = start.lower()
    if len(start) < _PREFIX or not start.isalnum():
        raise DataError("not a break's id", got=start, expected=f"at least {_PREFIX} of its 32 hex digits")
    query = select(BreakRow.break_id).where(BreakRow.break_id >= start, BreakRow.break_id < start + "g").limit(2)
    found = list(session.scalars(query))
    if len(found) != 1:
        fault = "several breaks have ids that begin so" if found else "no break has this id"
        raise DataError(fault, got=start, remedy="`tieout breaks list --json` shows them in full")
    return found[0]


def whole_ids(session: Session, given: Sequence[str]) -> list[str]:
    """Ids or beginnings of them, such as a list shows, as whole ids; what begins no id or several stays as it is."""
    return [one if len(one) == _WHOLE else _whole_id(session, one) for one in given]


def _whole_id(session: Session, start: str) -> str:
    try:
        return full_id(session, start)
    except DataError:
        return start


def _where(query: Select[Any], session: Session, wanted: Filter) -> Select[Any]:
    exact = {"definition_id": wanted.definition_id, "legal_entity_id": wanted.legal_entity_id}
    exact |= {"break_type": wanted.break_type, "currency": wanted.currency}
    for name, value in exact.items():
        if value is not None:
            query = query.where(getattr(BreakRow, name) == value)
    if wanted.owner is not None:
        query = query.where(or_(BreakRow.owner == wanted.owner, BreakRow.assignee == wanted.owner))
    settled = BreakRow.state.in_((*CLOSED, "written_off"))
    query = query.where(BreakRow.state.in_(wanted.states) if wanted.states else ~settled)
    if wanted.min_age is not None:
        newest = session.scalar(select(func.max(BreakNightRow.business_date)))
        if newest is not None:
            begun = func.coalesce(BreakRow.economic_date, BreakRow.first_seen)
            query = query.where(begun <= newest - timedelta(days=wanted.min_age))
    if wanted.min_amount is not None:
        query = query.where(_at_least(session, wanted.min_amount))
    return query


def _amount(session: Session) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
    """An amount as two columns that order exactly: amounts are texts, which SQLite could only compare as floats.

    Word for word what the index `breaks_by_value` is over, so that the largest of a million are found without a sort.
    """
    if session.get_bind().dialect.name != "sqlite":
        return literal_column(POSTGRESQL_VALUE, Numeric(38, 6)), literal_column(POSTGRESQL_VALUE, Numeric(38, 6))
    whole, places = SQLITE_VALUE
    return literal_column(whole, BigInteger), literal_column(places, String)


def _at_least(session: Session, amount: Decimal) -> ColumnElement[bool]:
    whole, rest = _amount(session)
    if session.get_bind().dialect.name != "sqlite":
        return whole >= amount
    units = int(amount)
    places = f"{amount - units:.6f}".partition(".")[2]
    return or_(whole > units, (whole == units) & (rest >= places))
