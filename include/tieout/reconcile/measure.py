"""How good the matching is: precision, recall and F1 against labelled pairs, and whether probabilities are honest.

A match of several rows counts as every pair of its left and right rows. Recall of a pass is over the true pairs that
earlier passes left to it: none of whose rows they had taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from tieout.errors import DataError
from tieout.reconcile.session import Rows, Session, open_session
from tieout.reconcile.sql import text

if TYPE_CHECKING:
    from tieout.lake.engine import Engine
    from tieout.reconcile.run import Reconciliation

SUGGESTED = "suggested"
"""The name of the score of suggestions: matches that wait for a person."""

_PLACES = Decimal("0.000001")
_BINS = 10
_PAIR = "legal_entity_id, left_id, right_id"


@dataclass(frozen=True, slots=True)
class Score:
    """Pairs claimed, those of them that are true, and the true ones there were to find."""

    name: str
    claimed: int
    right: int
    true: int

    @property
    def precision(self) -> Decimal | None:
        """The share of the claimed pairs that are true; None where nothing was claimed."""
        return _share(self.right, self.claimed)

    @property
    def recall(self) -> Decimal | None:
        """The share of the true pairs that were claimed; None where there were none."""
        return _share(self.right, self.true)

    @property
    def f1(self) -> Decimal | None:
        """The harmonic mean of both; None where there was nothing to claim and nothing claimed."""
        return _share(2 * self.right, self.claimed + self.true)


@dataclass(frozen=True, slots=True)
class Calibration:
    """Pairs whose probability lies from `lower` on and below `upper`, and how many of them are true."""

    lower: Decimal
    upper: Decimal
    pairs: int
    expected: Decimal
    """The mean of their probabilities."""
    right: int

    @property
    def observed(self) -> Decimal:
        """The share that is true: close to `expected` where the probabilities are honest."""
        return (Decimal(self.right) / self.pairs).quantize(_PLACES)


@dataclass(frozen=True)
class Measurement:
    """What `measure` found."""

    whole: Score
    """Every match, whichever pass made it; suggestions are not among them."""
    passes: tuple[Score, ...]
    suggested: Score
    """The suggestions by themselves, over the true pairs that no match had taken."""
    calibration: tuple[Calibration, ...]
    """By tenths of probability, matches and suggestions together; empty where no pass gives one."""
    wrong: pa.Table
    """pass_name, legal_entity_id, left_id, right_id of claimed pairs that are not true; the entity is empty where the
    truth does not tell entities apart."""
    missed: pa.Table
    """legal_entity_id, left_id, right_id of true pairs that no match and no suggestion claims."""


def measure(
    found: Reconciliation, truth: Rows, *, passes: Sequence[str] = (), engine: Engine | None = None
) -> Measurement:
    """Compare what a reconciliation found (with `matches="all"`) with the pairs that are known to be true.

    `truth` has the columns `left_id` and `right_id`, the ids as the definition names rows, and `legal_entity_id` where
    entities number their rows alike; a pair there twice counts once. `passes` is the order of the definition's passes;
    without it the passes come in order of name. Raises DataError where truth lacks a column.
    """
    with open_session(engine) as session:
        types = session.bind("truth_given", truth)
        lacking = [c for c in ("left_id", "right_id") if c not in types]
        if lacking:
            raise DataError("the truth lacks columns", expected="left_id, right_id", got=", ".join(types))
        matches, breaks = (session.bind(f"measured_{n}", getattr(found, n)) for n in ("matches", "breaks"))
        by_entity = "legal_entity_id" in types
        session.make("claims", _claims("probability" in matches, "probability" in breaks, by_entity))
        entity = "coalesce(legal_entity_id::VARCHAR, '')" if by_entity else "''"
        session.make(
            "truth",
            f"SELECT DISTINCT {entity} AS legal_entity_id, left_id::VARCHAR AS left_id, right_id::VARCHAR AS right_id\n"
            "FROM truth_given WHERE left_id IS NOT NULL AND right_id IS NOT NULL",
        )
        if not by_entity:
            _refuse_entities_alike(session)
        there = [name for (name,) in session.rows("SELECT DISTINCT pass_name FROM claims WHERE NOT is_suggested")]
        order = ["accepted", *passes, *sorted(set(there) - {"accepted", *passes})]
        scores, earlier = [], "false"
        for name in order:
            if name in there or name in passes:
                scores.append(_score(session, name, f"NOT is_suggested AND pass_name = {text(name)}", earlier))
                earlier = f"NOT is_suggested AND (pass_name = {text(name)} OR ({earlier}))"
        return Measurement(
            whole=_score(session, "whole", "NOT is_suggested", "false"),
            passes=tuple(scores),
            suggested=_score(session, SUGGESTED, "is_suggested", "NOT is_suggested"),
            calibration=_calibration(session),
            wrong=session.connection.sql(
                f"SELECT pass_name, {_PAIR} FROM claims ANTI JOIN truth USING ({_PAIR}) ORDER BY pass_name, {_PAIR}"
            ).to_arrow_table(),
            missed=session.connection.sql(
                f"SELECT {_PAIR} FROM truth ANTI JOIN claims USING ({_PAIR}) ORDER BY {_PAIR}"
            ).to_arrow_table(),
        )


def _refuse_entities_alike(session: Session) -> None:
    """Raise DataError where a pair of the truth, which names no entity, may be meant of several."""
    alike = session.rows(
        "SELECT left_id || ' and ' || right_id FROM claims SEMI JOIN truth USING (left_id, right_id)\n"
        "GROUP BY left_id, right_id HAVING count(DISTINCT of_entity) > 1 ORDER BY 1 LIMIT 1"
    )
    if alike:
        raise DataError(
            "two legal entities have rows of these ids, so the truth does not say whose pair is true",
            record=alike[0][0],
            remedy="add the column legal_entity_id to the truth",
        )


def _claims(matches_scored: bool, breaks_scored: bool, by_entity: bool) -> str:
    parts = []
    for table, is_suggested, scored in (("matches", "false", matches_scored), ("breaks", "true", breaks_scored)):
        probability = "probability" if scored else "NULL"
        where = "WHERE break_type = 'suggested_match'" if table == "breaks" else ""
        parts.append(
            f"SELECT pass_name, {is_suggested} AS is_suggested, {probability}::DECIMAL(18, 9) AS probability,\n"
            "    legal_entity_id AS of_entity,\n"
            f"    unnest(string_split(left_ids, '; ')) AS left_id, string_split(right_ids, '; ') AS right_list\n"
            f"  FROM measured_{table} {where}"
        )
    union = "\n  UNION ALL\n  ".join(parts)
    entity = "of_entity" if by_entity else "''"
    return (
        f"SELECT DISTINCT pass_name, is_suggested, probability, of_entity, {entity} AS legal_entity_id, left_id,\n"
        f"  unnest(right_list) AS right_id\nFROM (\n  {union}\n)"
    )


def _score(session: Session, name: str, which: str, taken: str) -> Score:
    """The score of some claims over the true pairs none of whose rows the claims in `taken` have."""
    free = " AND ".join(
        f"(legal_entity_id, {s}_id) NOT IN (SELECT legal_entity_id, {s}_id FROM claims WHERE {taken})"
        for s in ("left", "right")
    )
    claimed, right, true = session.rows(
        f"SELECT (SELECT count(*) FROM claims WHERE {which}),\n"
        f"  (SELECT count(*) FROM (SELECT DISTINCT {_PAIR} FROM claims WHERE {which})"
        f" SEMI JOIN truth USING ({_PAIR})),\n"
        f"  (SELECT count(*) FROM truth WHERE {free})"
    )[0]
    return Score(name, claimed, right, true)


def _calibration(session: Session) -> tuple[Calibration, ...]:
    rows = session.rows(
        f"SELECT least(floor(probability * {_BINS})::INT, {_BINS - 1}) AS bin, count(*), sum(probability),\n"
        f"  count(t.left_id)\nFROM claims LEFT JOIN truth t USING ({_PAIR})\n"
        "WHERE probability IS NOT NULL GROUP BY bin ORDER BY bin"
    )
    width = Decimal(1) / _BINS
    return tuple(
        Calibration(bin * width, (bin + 1) * width, pairs, (Decimal(summed) / pairs).quantize(_PLACES), right)
        for bin, pairs, summed, right in rows
    )


def _share(part: int, whole: int) -> Decimal | None:
    return (Decimal(part) / whole).quantize(_PLACES) if whole else None


def as_facts(measured: Measurement) -> dict[str, Any]:
    """The figures as plain values, for JSON."""

    def score(one: Score) -> dict[str, Any]:
        figures = {"precision": one.precision, "recall": one.recall, "f1": one.f1}
        return {"name": one.name, "claimed": one.claimed, "right": one.right, "true": one.true} | figures

    return {
        "whole": score(measured.whole),
        "passes": [score(one) for one in measured.passes],
        "suggested": score(measured.suggested),
        "calibration": [
            {"from": c.lower, "to": c.upper, "pairs": c.pairs, "expected": c.expected, "observed": c.observed}
            for c in measured.calibration
        ],
        "wrong": measured.wrong.num_rows,
        "missed": measured.missed.num_rows,
    }


def read_truth(path: Path) -> pa.Table | Path:
    """Labelled pairs from a CSV file, or the path of a Parquet one as it is. Raises DataError naming the line."""
    if path.suffix.lower() != ".csv":
        return path
    import csv

    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, skipinitialspace=True)
            header = next(reader, [])
            rows = [row for row in reader if row]
            wrong = next((n for n, row in enumerate(rows, 1) if len(row) != len(header)), None)
    except UnicodeDecodeError as error:
        raise DataError("the truth is not in UTF-8", record=str(path), got=error.reason) from None
    if wrong is not None:
        raise DataError(
            "a row of the truth has other columns than its header",
            record=f"{path}, row {wrong}",
            expected=", ".join(header),
            got=", ".join(rows[wrong - 1]),
        )
    columns = list(zip(*rows, strict=True)) or [()] * len(header)
    return pa.table({name: pa.array(values, pa.string()) for name, values in zip(header, columns, strict=True)})
