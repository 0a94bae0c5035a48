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
    """pass_name, left_id, right_id of claimed pairs that are not true."""
    missed: pa.Table
    """left_id, right_id of true pairs that no match and no suggestion claims."""


def measure(
    found: Reconciliation, truth: Rows, *, passes: Sequence[str] = (), engine: Engine | None = None
) -> Measurement:
    """Compare what a reconciliation found (with `matches="all"`) with the pairs that are known to be true.

    `truth` has the columns `left_id` and `right_id`, the ids as the definition names rows; a pair there twice counts
    once. `passes` is the order of the definition's passes; without it the passes come in order of name. Raises
    DataError where truth lacks a column or a match lists only the first of its rows.
    """
    with open_session(engine) as session:
        types = session.bind("truth_given", truth)
        lacking = [c for c in ("left_id", "right_id") if c not in types]
        if lacking:
            raise DataError("the truth lacks columns", expected="left_id, right_id", got=", ".join(types))
        matches, breaks = (session.bind(f"measured_{n}", getattr(found, n)) for n in ("matches", "breaks"))
        _refuse_cut(session)
        session.make("claims", _claims("probability" in matches, "probability" in breaks))
        session.make(
            "truth",
            "SELECT DISTINCT left_id::VARCHAR AS left_id, right_id::VARCHAR AS right_id FROM truth_given\n"
            "WHERE left_id IS NOT NULL AND right_id IS NOT NULL",
        )
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
                "SELECT pass_name, left_id, right_id FROM claims ANTI JOIN truth USING (left_id, right_id)"
                " ORDER BY pass_name, left_id, right_id"
            ).to_arrow_table(),
            missed=session.connection.sql(
                "SELECT left_id, right_id FROM truth ANTI JOIN claims USING (left_id, right_id)"
                " ORDER BY left_id, right_id"
            ).to_arrow_table(),
        )


def _refuse_cut(session: Session) -> None:
    cut = session.rows(
        "SELECT match_key FROM measured_matches WHERE left_ids LIKE '%; and % more' OR right_ids LIKE '%; and % more'"
        " LIMIT 1"
    )
    if cut:
        raise DataError(
            "a match has more rows than it lists, so its pairs cannot be judged",
            record=cut[0][0],
            remedy="measure on a sample whose groups have at most 50 rows a side",
        )


def _claims(matches_scored: bool, breaks_scored: bool) -> str:
    parts = []
    for table, is_suggested, scored in (("matches", "false", matches_scored), ("breaks", "true", breaks_scored)):
        probability = "probability" if scored else "NULL"
        where = "WHERE break_type = 'suggested_match'" if table == "breaks" else ""
        parts.append(
            f"SELECT pass_name, {is_suggested} AS is_suggested, {probability}::DECIMAL(18, 9) AS probability,\n"
            f"    unnest(string_split(left_ids, '; ')) AS left_id, string_split(right_ids, '; ') AS right_list\n"
            f"  FROM measured_{table} {where}"
        )
    union = "\n  UNION ALL\n  ".join(parts)
    return f"SELECT pass_name, is_suggested, probability, left_id, unnest(right_list) AS right_id\nFROM (\n  {union}\n)"


def _score(session: Session, name: str, which: str, taken: str) -> Score:
    """The score of some claims over the true pairs none of whose rows the claims in `taken` have."""
    free = " AND ".join(f"{s}_id NOT IN (SELECT {s}_id FROM claims WHERE {taken})" for s in ("left", "right"))
    claimed, right, true = session.rows(
        f"SELECT (SELECT count(*) FROM claims WHERE {which}),\n"
        f"  (SELECT count(*) FROM (SELECT DISTINCT left_id, right_id FROM claims WHERE {which})"
        " SEMI JOIN truth USING (left_id, right_id)),\n"
        f"  (SELECT count(*) FROM truth WHERE {free})"
    )[0]
    return Score(name, claimed, right, true)


def _calibration(session: Session) -> tuple[Calibration, ...]:
    rows = session.rows(
        f"SELECT least(floor(probability * {_BINS})::INT, {_BINS - 1}) AS bin, count(*), sum(probability),\n"
        "  count(t.left_id)\nFROM claims LEFT JOIN truth t USING (left_id, right_id)\n"
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
    """Labelled pairs from a CSV file, or the path of a Parquet one as it is."""
    if path.suffix != ".csv":
        return path
    import csv

    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    names = list(rows[0]) if rows else ["left_id", "right_id"]
    return pa.table({name: pa.array([row[name] for row in rows], pa.string()) for name in names})
