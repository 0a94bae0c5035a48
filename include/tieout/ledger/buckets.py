"""Events that are alike, summed before the posting rules are applied: a journal of millions of events costs one pass.

Events of one type, day, currency, dimensions and signs reach the same lines on the same sides, so the rules see one
row, a bucket, for all of them. An event stands apart, and is looked at by itself, if it is in another currency, waits,
does not balance, is carried already, is late or decided about, or shares its document with one of these. What a line
holds is the same either way: in a bucket every amount has one sign.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import pyarrow as pa

from tieout.lake.engine import Engine
from tieout.ledger.events import statement
from tieout.ledger.rules import Rules

_SUMMED = ("net", "tax", "gross", "deferred", "recognised", "to_receivable", "to_credit", "rounding")
Sides = tuple[tuple[str, ...], tuple[str, ...]]
"""The amounts a rule debits and those it credits, without what it does both with."""
Spans = Mapping[str, tuple[Any, Any]]
"""The least and the greatest value of each amount that the events' rules use and that is not zero everywhere."""


def make_legs(session: Engine, rules: Rules) -> None:
    """Fill `leg`, `held` and `waiting` from the events, those that are alike as buckets (`plain_bucket`).

    The engine has `seen_event`, `carried_leg`, `late_day` (event dates that are posted elsewhere) and `decided` (units
    that somebody decided about).
    """
    sides = {name: _sides(rules, name) for name in sorted(_present(session) & set(rules.postings.events))}
    named: set[str] = {line.amount for name in sides for line in rules.postings.events[name].lines}
    spans = {name: span for name, span in _spans(session).items() if name in named and span != (0, 0)}
    used = list(spans)
    session.execute(
        _PLAIN.format(
            pattern=_pattern(used),
            balance=_balance(sides, spans),
            known="".join(f" AND {name} IS NOT NULL" for name in used),
        )
    )
    reasons = [reason for table, reason in _REASONS.items() if session.scalar(f"SELECT count(*) FROM {table}")]
    session.execute(_APART.format(reasons=" OR ".join(reasons) or "false"))
    if not reasons:
        _fill_at_once(session, sides, spans)
        if session.scalar("SELECT count(*) FROM bucket WHERE NOT is_plain"):
            session.execute(_APART_UNLIKE)
    else:
        session.execute(_APART_UNLIKE)
    _apply_rules(session, used, is_filled=not reasons)
    unmapped = session.rows(
        "SELECT DISTINCT document_id FROM waiting WHERE document_id IN (SELECT bucket_id FROM plain_bucket)"
    )
    if unmapped:
        # a document waits whole: those of these buckets are looked at event by event
        session.bind("unmapped", pa.table({"bucket_id": pa.array([key for (key,) in unmapped], pa.string())}))
        session.execute(_APART_UNMAPPED)
        _apply_rules(session, used, is_filled=False)


def _apply_rules(session: Engine, used: Collection[str], *, is_filled: bool) -> None:
    """Legs of buckets and of the events that stand apart; `is_filled`: the buckets of all events are there already."""
    apart = session.scalar("SELECT count(*) FROM apart")
    among = (
        "(legal_entity_id, document_id, event_date) IN (SELECT (legal_entity_id, document_id, event_date) FROM apart)"
    )
    alike = f"is_plain AND NOT {among}" if apart else "is_plain"
    session.execute(f"CREATE OR REPLACE TEMP VIEW alike_event AS SELECT * FROM plain_event WHERE {alike}")
    if apart or not is_filled:
        session.execute("CREATE OR REPLACE TEMP TABLE bucket AS" + _grouped(used, "alike_event"))
    session.execute(f"CREATE OR REPLACE TEMP TABLE plain_bucket AS {_NAMED}")
    own = f"SELECT * FROM seen_event WHERE {among if apart else 'false'}"
    session.execute(
        f"CREATE OR REPLACE TEMP VIEW event AS {own} UNION ALL BY NAME SELECT"
        " bucket_id AS event_id, bucket_id AS document_id, currency AS event_currency, currency AS into_currency,"
        " false AS is_foreign, * EXCLUDE (bucket_id, family_key, tax_key, pattern, is_plain) FROM plain_bucket"
    )
    session.execute(statement("legs"))
    if apart and session.scalar("SELECT count(*) FROM event WHERE is_foreign"):  # only what stands apart may be foreign
        session.execute(statement("macros") + statement("legs_foreign"))
    session.execute(statement("mapped"))


def _present(session: Engine) -> set[str]:
    """The event types there are: those of the first events, then of the first others; asking all takes far longer."""
    present: set[str] = set()
    while True:
        others = f"SELECT event_type FROM within_event WHERE event_type NOT IN ({_texts(present)}) LIMIT 100000"
        found = {name for (name,) in session.rows(f"SELECT DISTINCT event_type FROM ({others})")}
        if not found:
            return present
        present |= found


def _texts(names: Collection[str]) -> str:
    return ", ".join("'" + name.replace("'", "''") + "'" for name in sorted(names)) or "''"


def _spans(session: Engine) -> dict[str, tuple[Any, Any]]:
    """The least and the greatest of each amount, which Parquet files tell without being read."""
    asked = ", ".join(f"min({name}), max({name})" for name in _SUMMED)
    found = session.rows(f"SELECT {asked} FROM within_event")[0]
    return dict(zip(_SUMMED, zip(found[::2], found[1::2], strict=True), strict=True))


def _fill_at_once(session: Engine, sides: dict[str, Sides], spans: Spans) -> None:
    """Fill `bucket` in one pass over all events, and in another over those with a negative amount if there are any.

    The first pass groups by comparisons, which cost the engine next to nothing, and puts the pattern together after.
    """
    balances = {name: _balanced(*one, spans) for name, one in sides.items()}
    checks = {one: f"balances_{n}" for n, one in enumerate(dict.fromkeys(balances.values())) if one != "true"}
    signed = [name for name, (least, _) in spans.items() if least is None or least < 0]
    positive = " AND ".join(f"{name} >= 0" for name in signed)
    compared = {f"has_{name}": f"{name} <> 0" for name in spans} | {check: one for one, check in checks.items()}
    if positive:
        compared["is_positive"] = f"coalesce({positive}, false)"
    if session.rows(_UNLIKE):
        compared["is_like"] = "held_reason IS NULL AND NOT is_foreign"
    balanced = " ".join(f"WHEN '{name}' THEN {checks.get(one, 'true')}" for name, one in balances.items())
    plain = [f"coalesce(CASE event_type {balanced} END, false)" if balanced else "false"]
    plain += [f"has_{name} IS NOT NULL" for name in spans] + ["is_like"] * ("is_like" in compared)
    session.execute(
        _COUNTED.format(
            compared="".join(f"{value} AS {name}, " for name, value in compared.items()),
            sums=_sums(spans),
            zeros=_zeros(spans),
            names="".join(f", {name}" for name in spans),
            is_positive="is_positive" if positive else "true",
            pattern=_signs(spans, "CASE WHEN has_{0} THEN {1} ELSE {2} END"),
            is_plain=" AND ".join(plain),
        )
    )
    if session.scalar("SELECT coalesce(bool_or(pattern IS NULL), false) FROM bucket"):
        session.execute("DELETE FROM bucket WHERE pattern IS NULL")
        rest = f"(SELECT * FROM plain_event WHERE ({positive}) IS NOT TRUE)"
        session.execute("INSERT INTO bucket BY NAME " + _grouped(spans, rest))


_PLAIN = """
CREATE OR REPLACE TEMP VIEW plain_event AS
SELECT *, {pattern} AS pattern, held_reason IS NULL AND NOT is_foreign AND coalesce({balance}, false){known} AS is_plain
FROM seen_event
"""
_KEYS = "legal_entity_id, event_type, event_date, currency, product_family, tax_code"
_GROUPED = f"""
SELECT {_KEYS}, pattern, is_plain, count(*) AS row_count{{sums}}{{zeros}}
FROM {{source}} GROUP BY {_KEYS}, pattern, is_plain
"""
_UNLIKE = """
SELECT 1 FROM within_event
WHERE held_reason IS NOT NULL OR functional_currency IS NOT NULL OR functional IS NOT NULL
  OR settled_currency IS NOT NULL
LIMIT 1
"""
_COUNTED = f"""
CREATE OR REPLACE TEMP TABLE bucket AS
WITH counted AS (
  SELECT
    {_KEYS}, {{compared}}
    count(*) AS row_count{{sums}}
  FROM seen_event GROUP BY ALL
)
SELECT
  {_KEYS}, row_count{{zeros}}{{names}},
  CASE WHEN {{is_positive}} THEN {{pattern}} END AS pattern, {{is_plain}} AS is_plain
FROM counted
"""
_NAMED = """
SELECT
  'bucket:' || sha256(concat_ws('|', legal_entity_id, event_type, event_date, currency, coalesce(product_family, ''),
    coalesce(tax_code, ''), pattern)) AS bucket_id,
  *, coalesce(product_family, '') AS family_key, coalesce(tax_code, '') AS tax_key
FROM bucket WHERE is_plain
"""
_APART = """
CREATE OR REPLACE TEMP TABLE apart AS
SELECT DISTINCT legal_entity_id, document_id, event_date FROM seen_event WHERE {reasons}
"""
_UNIT = "replace(event_id, 'accrual_reversal:', 'accrual:')"
_REASONS = {
    "carried_leg": f"{_UNIT} IN (SELECT {_UNIT} FROM carried_leg)",
    "late_day": f"{_UNIT} IN (SELECT {_UNIT} FROM seen_event WHERE event_date IN (SELECT event_date FROM late_day))",
    "decided": f"{_UNIT} IN (SELECT unit FROM decided)",
}
"""Table → what it sets apart: a unit (an event with all its dates, an accrual with its reversal) is held whole."""
_APART_UNLIKE = """
INSERT INTO apart SELECT DISTINCT legal_entity_id, document_id, event_date FROM plain_event WHERE NOT is_plain
"""
_APART_UNMAPPED = """
INSERT INTO apart
SELECT DISTINCT e.legal_entity_id, e.document_id, e.event_date
FROM alike_event AS e
JOIN plain_bucket AS b
  ON b.legal_entity_id = e.legal_entity_id AND b.event_type = e.event_type AND b.event_date = e.event_date
  AND b.currency = e.currency AND b.family_key = coalesce(e.product_family, '') AND b.tax_key = coalesce(e.tax_code, '')
  AND b.pattern = e.pattern
JOIN unmapped USING (bucket_id)
"""


def _grouped(used: Collection[str], source: str) -> str:
    return _GROUPED.format(sums=_sums(used), zeros=_zeros(used), source=source)


def _sums(used: Collection[str]) -> str:
    return "".join(f", sum({name}) AS {name}" for name in used)


def _zeros(used: Collection[str]) -> str:
    return "".join(f", CAST(0 AS DECIMAL(38, 4)) AS {name}" for name in _SUMMED if name not in used)


def _pattern(used: Collection[str]) -> str:
    """The signs of an event's amounts as one number."""
    return _signs(used, "CASE WHEN {0} > 0 THEN {1} WHEN {0} < 0 THEN 0 ELSE {2} END")


def _signs(used: Collection[str], digit: str) -> str:
    digits = [digit.format(name, 2 * 3**n, 3**n) for n, name in enumerate(_SUMMED) if name in used]
    return f"CAST({' + '.join(digits) or '0'} AS SMALLINT)"


def _sides(rules: Rules, event_type: str) -> Sides:
    debit, credit = (
        sorted(
            line.amount
            for line in rules.postings.events[event_type].lines
            if line.side == side and line.amount in _SUMMED
        )
        for side in ("debit", "credit")
    )
    for name in tuple(debit):
        if name in credit:
            debit.remove(name)
            credit.remove(name)
    return tuple(debit), tuple(credit)


def _balance(sides: dict[str, Sides], spans: Spans) -> str:
    """Whether an event's legs add up by its rule; null where there is no rule."""
    cases = [f"WHEN '{name}' THEN {_balanced(*one, spans)}" for name, one in sides.items()]
    return f"CASE event_type {' '.join(cases)} END" if cases else "NULL"


def _balanced(debit: tuple[str, ...], credit: tuple[str, ...], spans: Spans) -> str:
    """Whether the amounts add up; in narrow decimals where none is too large, which the engine adds faster."""
    parts = [[name for name in side if name in spans] for side in (debit, credit)]
    known = [abs(bound) for side in parts for name in side for bound in spans[name] if bound is not None]
    narrow = max(known, default=0) < 10**11 and max(map(len, parts)) <= 4
    left, right = (
        " + ".join(f"CAST({name} AS DECIMAL(15, 4))" if narrow and len(side) > 1 else name for name in side) or "0"
        for side in parts
    )
    return "true" if left == right else f"{left} = {right}"
