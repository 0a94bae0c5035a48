"""`reconcile`: two sides and a definition in, matches, breaks and totals out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

from tieout import schema
from tieout.errors import DefinitionError
from tieout.ids import canonical_json
from tieout.reconcile.buckets import aside_matches, can_set_aside, keep_differing
from tieout.reconcile.definition import BREAK_TYPES, Definition, FuzzyPass, KeyedPass, SearchPass
from tieout.reconcile.definition_file import load_definition
from tieout.reconcile.explain import explain as explain_groups
from tieout.reconcile.fuzzy import run_fuzzy_pass
from tieout.reconcile.groups import start_groups
from tieout.reconcile.keyed import run_keyed_pass
from tieout.reconcile.leftover import settle_leftovers
from tieout.reconcile.search import run_search_pass
from tieout.reconcile.session import Rows, Session, open_session
from tieout.reconcile.sides import (
    SIDES,
    check_columns,
    control_totals,
    make_rows,
    unknown_currencies,
)
from tieout.reconcile.subset import run_subset_pass
from tieout.reconcile.totals import count_totals
from tieout.reconcile.verdicts import bind_verdicts, dissolve_rejected, settle_accepted
from tieout.reconcile.working_days import make_working_days

if TYPE_CHECKING:
    from tieout.lake.engine import Engine

# From here on it pays to list identical pairs by themselves instead of taking them through the passes.
MANY_ROWS = 50_000
OUTCOMES = ("all", "matched", "break", "excluded")
# The lake's tables add the business date and the life of a break; a reconciliation by itself knows neither.
_NOT_OURS = {"business_date", "measure", "cause", "state", "change", "first_seen", "age_days", "days_seen", "break_id"}


@dataclass(frozen=True, slots=True)
class Summary:
    """The figures of a reconciliation."""

    definition_id: str
    definition_hash: str
    as_of: date | None
    matched: int
    """Matches, suggested ones not among them."""
    breaks: int
    breaks_by_type: dict[str, int]
    left_rows: dict[str, int]
    """Rows by outcome: all, matched, break, excluded."""
    right_rows: dict[str, int]
    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Per fuzzy pass the prior and the likelihoods it weighed by, as the definition may give them."""


@dataclass(frozen=True)
class Reconciliation:
    """What a reconciliation found. Tables are Arrow tables, or Parquet paths when `out` was given."""

    matches: pa.Table | Path
    breaks: pa.Table | Path
    totals: pa.Table | Path
    summary: Summary


def result_schema(table: Literal["matches", "breaks", "totals"]) -> pa.Schema:
    """The columns of a result table as `reconcile` returns it."""
    return pa.schema([f for f in schema.table(table).arrow if f.name not in _NOT_OURS])


def reconcile(
    definition: Definition | Mapping[str, Any] | Path | str,
    left: Rows,
    right: Rows,
    *,
    engine: Engine | None = None,
    as_of: date | None = None,
    matches: Literal["all", "differing"] = "all",
    out: Path | None = None,
    explain: bool = False,
    verdicts: pa.Table | None = None,
) -> Reconciliation:
    """Reconcile two sides and say of every row whether it matched, broke or was excluded, and why.

    `left` and `right` are Arrow tables, a Parquet path or glob, or the Parquet files of a lake table. `as_of` is the
    day from which lags are counted (default: the latest economic date of either side). `matches="differing"` lists only
    matches that needed a tolerance; identical ones count in totals and summary. With `out` the result tables are
    written there as Parquet, with `summary.json`; a long list of matches or breaks is in no particular order there.
    `explain=True` prints the SQL that ran. `verdicts` (columns:
    `tieout.reconcile.VERDICTS`) is what people said of earlier suggestions.

    Raises DefinitionError for a definition that cannot work, DataError for inputs that lack a column or have a type
    that is not exact. The result depends on the rows alone, not on their order.
    """
    rules = load_definition(definition)
    if matches not in ("all", "differing"):
        raise DefinitionError("unknown choice of matches", got=matches, expected="all or differing")
    with open_session(engine) as session:
        aside, found, broken = _run(session, rules, left, right, as_of, verdicts, identical=matches == "all")
        summary = _summary(session, rules, as_of, aside)
        queries: dict[Literal["matches", "breaks", "totals"], str] = {
            "matches": f"FROM (\n{found}\n) ORDER BY legal_entity_id, pass_name, match_key, ordinal",
            "breaks": f"FROM (\n{broken}\n) ORDER BY legal_entity_id, break_key, ordinal",
            "totals": "SELECT * FROM totals ORDER BY legal_entity_id, currency, period, outcome, detail",
        }
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            if matches == "all" and aside:  # millions of rows, which a sort would have to hold
                queries["matches"] = found
            if summary.breaks > MANY_ROWS:
                queries["breaks"] = broken
            written = canonical_json(asdict(summary)) + "\n"
            (out / "summary.json").write_text(written, encoding="utf-8")
        tables = {
            table: session.arrow(table, query, result_schema(table))
            if out is None
            else session.write(query, result_schema(table), out / f"{table}.parquet")
            for table, query in queries.items()
        }
        if explain:
            print(session.explained())
    return Reconciliation(tables["matches"], tables["breaks"], tables["totals"], summary)


def _run(
    session: Session,
    rules: Definition,
    left: Rows,
    right: Rows,
    as_of: date | None,
    verdicts: pa.Table | None,
    *,
    identical: bool,
) -> tuple[int, str, str]:
    """Run every step; gives how many identical pairs were set aside and are in no group, and the queries for what is
    listed: matches and breaks."""
    start_groups(session)
    if rules.normalises("nfkc"):
        session.teach_nfkc()
    types = {}
    for side, rows in zip(SIDES, (left, right), strict=True):
        types[side] = session.bind(f"{side}_input", rows)
        check_columns(rules, side, types[side])
    if rules.counts_working_days:
        make_working_days(session, rules, as_of)
    unknown = {}
    for side in SIDES:
        session.make(f"{side}_all", control_totals(rules, side, types[side]))
        unknown[side] = sorted(code for (code,) in session.rows(unknown_currencies(side)))
        session.make(f"{side}_links", "SELECT NULL::BIGINT AS row_no, NULL::BIGINT AS group_id WHERE false")
        session.make(f"{side}_refusals", "SELECT NULL::BIGINT AS row_no, NULL::VARCHAR AS reason WHERE false")
    occurring = session.rows("SELECT DISTINCT currency FROM (FROM left_all UNION ALL FROM right_all)")
    session.currencies = frozenset(code for (code,) in occurring if code is not None)
    aside = 0
    # what people decided may part a pair that looks the same: then every row is looked at
    decided = verdicts is not None and verdicts.num_rows > 0
    worth = not identical or session.rows("SELECT coalesce(sum(rows), 0) FROM left_all")[0][0] >= MANY_ROWS
    if worth and not decided and can_set_aside(rules):
        aside = keep_differing(session, rules, types, unknown)
    else:
        for side in SIDES:
            make_rows(session, rules, side, types[side], unknown[side])
    bind_verdicts(session, verdicts)
    settle_accepted(session)
    for index, match_pass in enumerate(rules.passes, 1):
        if isinstance(match_pass, KeyedPass):
            run_keyed_pass(session, rules, match_pass, index)
        elif isinstance(match_pass, SearchPass):
            run_search_pass(session, rules, match_pass, index)
        elif isinstance(match_pass, FuzzyPass):
            run_fuzzy_pass(session, rules, match_pass, index)
        else:
            run_subset_pass(session, rules, match_pass, index)
        dissolve_rejected(session, index)
    settle_leftovers(session, rules, as_of or (_latest_day(session) if rules.lags else None))
    listed_aside = aside_matches(rules) if identical and aside else None
    matches, breaks = explain_groups(session, rules, identical=identical, aside=listed_aside)
    count_totals(session, rules, aside=aside)
    return aside, matches, breaks


def _latest_day(session: Session) -> date | None:
    found: date | None = session.rows(
        "SELECT max(day) FROM (SELECT max(latest) AS day FROM left_all UNION ALL SELECT max(latest) FROM right_all)"
    )[0][0]
    return found


def _summary(session: Session, rules: Definition, as_of: date | None, aside: int) -> Summary:
    counts = dict(session.rows("SELECT break_type, count(*) FROM groups GROUP BY ALL"))
    matched = counts.pop(None, 0)
    rows = session.rows("SELECT outcome, sum(left_rows)::BIGINT, sum(right_rows)::BIGINT FROM totals GROUP BY outcome")
    outcomes = {outcome: (left, right) for outcome, left, right in rows}
    return Summary(
        definition_id=rules.id,
        definition_hash=rules.content_hash,
        as_of=as_of,
        matched=aside + matched,
        breaks=sum(counts.values()),
        breaks_by_type={t: counts[t] for t in BREAK_TYPES if t in counts},
        left_rows={o: outcomes.get(o, (0, 0))[0] for o in OUTCOMES},
        right_rows={o: outcomes.get(o, (0, 0))[1] for o in OUTCOMES},
        models=session.models,
    )
