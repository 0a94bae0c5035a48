"""The quarantine: records that could not become rows, each with a reason in words and the money behind it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tieout.lake.engine import Engine
    from tieout.lake.tables import Lake

LONGEST_VALUE = 120
"""Characters of a faulty value that are kept; enough to recognise it, too few to hold a document."""


@dataclass(frozen=True, slots=True)
class QuarantineLine:
    """One line of the overview: records of one object set aside for one reason."""

    source: str
    object: str
    reason_code: str
    records: int
    example: str
    amounts: Mapping[str, Decimal]
    """The money that waits behind them, by currency, as far as it can be read."""


def masked(text: str) -> str:
    """SQL of a faulty value fit for a report: cut, without e-mail addresses, long digit runs and control characters."""
    shown = f"left({text}, {LONGEST_VALUE + 1})"
    for pattern, substitute in (
        (r"[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+", "***@***"),
        (r"[0-9]{13,}", "***"),
        (r"[\x00-\x1f\x7f]", "?"),
    ):
        shown = f"regexp_replace({shown}, '{pattern}', '{substitute}', 'g')"
    return f"CASE WHEN length({text}) > {LONGEST_VALUE} THEN left({shown}, {LONGEST_VALUE}) || '…' ELSE {shown} END"


def sentence(fault: str) -> str:
    """SQL of the reason in words, from a fault struct `{code, field, value, expected}` whose value is masked."""
    return (
        f"CASE WHEN {fault}.code = 'missing' THEN {fault}.field || ' is missing' "
        f"WHEN {fault}.expected LIKE 'file set aside: %' THEN 'the whole ' || {fault}.expected "
        f"WHEN {fault}.field = '' THEN 'the record cannot be read: it ' || {fault}.expected "
        f"WHEN {fault}.value IS NULL THEN {fault}.field || ' ' || {fault}.expected "
        f"ELSE {fault}.field || ' holds ''' || {fault}.value || ''' where ' || {fault}.expected || ' is expected' END"
    )


def overview(engine: Engine, lake: Lake, snapshot: Mapping[str, int]) -> list[QuarantineLine]:
    """What waits in the quarantine of a snapshot, without records a later reading has made good."""
    lake.bind(engine, snapshot, ["quarantine"])
    lines = engine.rows(
        """
        SELECT source, object, reason_code, sum(records)::BIGINT, min(example),
               map_from_entries(list((currency, amount)) FILTER (amount IS NOT NULL))
        FROM (
          SELECT source, object, reason_code, currency, count(*) AS records, min(reason) AS example,
            sum(amount) AS amount
          FROM quarantine WHERE NOT superseded GROUP BY ALL
        )
        GROUP BY source, object, reason_code ORDER BY ALL
        """
    )
    return [QuarantineLine(s, o, code, n, example, dict(sums or {})) for s, o, code, n, example, sums in lines]
