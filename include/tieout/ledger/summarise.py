"""Accounting events to summarised journals: pure, set-based, exact.

Events become signed legs by the posting rules, legs become the difference to what earlier batches carry, the
difference becomes lines per slot, side, account and dimensions. Nothing is netted; each line keeps the source rows
that add up to it; debits equal credits in every journal; what cannot be mapped waits with its whole document.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from tieout import schema
from tieout.errors import LedgerError
from tieout.ids import content_hash, sha256_hex
from tieout.lake.engine import Engine, engine
from tieout.ledger.buckets import make_legs
from tieout.ledger.events import EVENTS, minor_units, statement
from tieout.ledger.late import UNITS, LateTest, hold
from tieout.ledger.placement import Placement
from tieout.ledger.rules import Rules, rules_table

CARRIED = pa.schema(
    [
        pa.field("legal_entity_id", pa.string()),
        pa.field("event_id", pa.string()),
        pa.field("event_date", pa.date32()),
        pa.field("leg", pa.int64()),
        pa.field("account", pa.string()),
        pa.field("role", pa.string()),
        pa.field("event_type", pa.string()),
        pa.field("product_family", pa.string()),
        pa.field("tax_code", pa.string()),
        pa.field("currency", pa.string()),
        pa.field("signed", pa.decimal128(18, 4)),
        pa.field("document_number", pa.string()),
        pa.field("source", pa.string()),
        pa.field("source_id", pa.string()),
        pa.field("correlation_id", pa.string()),
        pa.field("raw_ref", pa.string()),
        pa.field("transaction_currency", pa.string()),
        pa.field("transaction_signed", pa.decimal128(18, 4)),
        pa.field("rate", pa.decimal128(28, 12)),
        pa.field("rate_source", pa.string()),
    ]
)
"""A leg that an earlier batch carries, debit positive: `signed` in `currency`, the functional one; without a
transaction currency both are the same."""


@dataclass(frozen=True, slots=True)
class Journals:
    """Result tables of `tieout.schema`: journals, journal_lines, journal_drilldown; and the events that wait.

    `late` (`tieout.ledger.late.UNITS`) are those among them that somebody must decide about, or has.
    """

    headers: pa.Table
    lines: pa.Table
    drilldown: pa.Table
    held: pa.Table
    late: pa.Table = field(default_factory=UNITS.empty_table)

    def batch_hashes(self) -> dict[tuple[str, int], str]:
        """The content hash of each (slot, version): SHA-256 over the hashes of its journals in order."""
        found: dict[tuple[str, int], list[str]] = {}
        rows = self.headers.select(["slot", "version", "run_key", "content_hash"]).sort_by("run_key").to_pylist()
        for row in rows:
            found.setdefault((row["slot"], row["version"]), []).append(row["content_hash"])
        return {key: sha256_hex("\n".join(hashes)) for key, hashes in found.items()}


def by_month(day: date) -> Placement:
    """The placement of a ledger `main` in calendar months whose periods are all open."""
    return Placement("main", f"{day:%Y-%m}", day, "main", f"{day:%Y-%m}")


def summarise(
    events: pa.Table | Path | str,
    rules: Rules,
    *,
    as_of: date | None = None,
    carried: pa.Table | None = None,
    placement: Callable[[date], Placement] = by_month,
    late: LateTest | None = None,
    version: Callable[[str], int] = lambda slot: 1,
    line_limit: int = 500,
    drilldown: bool | Path | Literal["view"] = True,
    session: Engine | None = None,
) -> Journals:
    """Journals for events (`tieout.ledger.events.EVENTS`, an Arrow table or Parquet files).

    * `as_of`: events dated after it are left out.
    * `carried`: legs (`CARRIED`) that earlier batches hold; the journals then are the difference to them.
    * `placement`: event date → slot's ledger, period and date; a date other than the event's own puts the legs into
      the stream `prior_period`.
    * `late`: what such late entries are tested against; those that fail wait, and so does what was decided not to be
      posted. Without it none is held.
    * `version`: slot → the version its journals get.
    * `drilldown`: the source rows as a table, written to that Parquet file instead, or left out. `"view"`: neither,
      but checked, and left in `session` as the view `journal_part` over the events, to read single lines of millions.
    * `line_limit`: lines an ERP journal may have; a longer slot is split between events, each part balanced.

    Raises LedgerError if an account cannot be split or something would not balance: that is a fault of ours.
    """
    if session is None:
        if drilldown == "view":
            raise LedgerError("a drill-down as a view lives in a session", remedy="give the session")
        with engine() as own:
            return summarise(
                events,
                rules,
                as_of=as_of,
                carried=carried,
                placement=placement,
                late=late,
                version=version,
                line_limit=line_limit,
                drilldown=drilldown,
                session=own,
            )
    _bind(session, events, rules, as_of, carried)
    session.execute(statement("event"))
    _bind_apart(session, placement, late)
    make_legs(session, rules)
    session.execute(statement("difference"))
    session.bind("place", _places(session, placement))
    session.execute(statement("placed"))
    units = hold(session, late) if late else UNITS.empty_table()
    session.bind("slot_version", _versions(session, version))
    session.bind("slot_chunk", _chunks(session, line_limit))
    session.execute(statement("lines"))
    lines = session.sql("SELECT * FROM journal_line ORDER BY run_key, line_no").cast(
        schema.table("journal_lines").arrow
    )
    _check_balance(session)
    parts = None
    if drilldown is not False:
        session.execute(statement("drilldown"))
        if drilldown == "view":
            _check_parts(session, "journal_part")
        else:
            parts = _drilldown(session, drilldown if isinstance(drilldown, Path) else None)
    return Journals(_headers(session, lines, rules), lines, parts, _held(session), units)


def _bind(
    session: Engine, events: pa.Table | Path | str, rules: Rules, as_of: date | None, carried: pa.Table | None
) -> None:
    session.bind("minor_unit", minor_units())
    session.bind("every_event", _whole(events), EVENTS)
    # Parquet files tell their latest date unread; asking each of millions of events costs a tenth of the pass over them
    latest = None if as_of is None else session.scalar("SELECT max(event_date) FROM every_event")
    is_cut = as_of is not None and latest is not None and latest > as_of
    within = f"WHERE event_date <= DATE '{as_of}'" if is_cut else ""
    session.execute(f"CREATE OR REPLACE TEMP VIEW within_event AS SELECT * FROM every_event {within}")
    session.bind("rule", pa.Table.from_pylist(rules_table(rules)))
    roles = {"conversion": [rules.postings.conversion_role], "residue": [rules.postings.residue_role]}
    session.bind("role_of", pa.table(roles))
    session.bind(
        "account_map",
        pa.table(
            {
                "legal_entity_id": pa.array([a.legal_entity_id for a in rules.accounts], pa.string()),
                "role": pa.array([a.role for a in rules.accounts], pa.string()),
                "product_family": pa.array([a.product_family for a in rules.accounts], pa.string()),
                "tax_code": pa.array([a.tax_code for a in rules.accounts], pa.string()),
                "currency": pa.array([a.currency for a in rules.accounts], pa.string()),
                "account": pa.array([a.account for a in rules.accounts], pa.string()),
                "valid_from": pa.array([a.valid_from for a in rules.accounts], pa.date32()),
                "valid_to": pa.array([a.valid_to for a in rules.accounts], pa.date32()),
            }
        ),
    )
    session.bind("carried_leg", CARRIED.empty_table() if carried is None else carried.cast(CARRIED))


def _whole(events: pa.Table | Path | str) -> pa.Table | Path | str:
    """The events with every column of `EVENTS`: those about currencies may be missing."""
    if not isinstance(events, pa.Table):
        return events
    for column in EVENTS:
        if column.nullable and column.name not in events.column_names:
            events = events.append_column(column, pa.nulls(events.num_rows, column.type))
    return events


def _bind_apart(session: Engine, placement: Callable[[date], Placement], late: LateTest | None) -> None:
    """What events are looked at one by one for: the dates that are posted elsewhere, and units decided about."""
    days = [] if late is None else [day for (day,) in session.rows("SELECT DISTINCT event_date FROM within_event")]
    session.bind("late_day", pa.table({"event_date": pa.array([d for d in days if placement(d).on != d], pa.date32())}))
    units = [] if late is None else [decision.unit for decision in late.decisions]
    session.bind("decided", pa.table({"unit": pa.array(units, pa.string())}))


def _places(session: Engine, placement: Callable[[date], Placement]) -> pa.Table:
    days = session.rows("SELECT DISTINCT legal_entity_id, event_date FROM due ORDER BY ALL")
    placed = [(entity, day, placement(day)) for entity, day in days]
    return pa.table(
        {
            "legal_entity_id": pa.array([e for e, _, _ in placed], pa.string()),
            "event_date": pa.array([d for _, d, _ in placed], pa.date32()),
            "ledger": pa.array([p.ledger for _, _, p in placed], pa.string()),
            "target_period": pa.array([p.period for _, _, p in placed], pa.string()),
            "target_date": pa.array([p.on for _, _, p in placed], pa.date32()),
            "origin_ledger": pa.array([p.origin_ledger for _, _, p in placed], pa.string()),
            "origin_period": pa.array([p.origin_period for _, _, p in placed], pa.string()),
            "is_prior_year": pa.array([p.is_prior_year for _, _, p in placed], pa.bool_()),
        }
    )


def _versions(session: Engine, version: Callable[[str], int]) -> pa.Table:
    slots = [slot for (slot,) in session.rows("SELECT DISTINCT slot FROM placed ORDER BY slot")]
    return pa.table(
        {"slot": pa.array(slots, pa.string()), "version": pa.array([version(s) for s in slots], pa.int64())}
    )


def _chunks(session: Engine, limit: int) -> pa.Table:
    """Which journal of its slot each event goes to: journals are filled in order, one functional currency each.

    Events of one type stay together where their lines fit into a journal; else they are dealt out by the lines they
    reach. Raises LedgerError where a single event has more lines than a journal may have.
    """
    units = _units(session, limit)
    rows: list[dict[str, Any]] = []
    current: tuple[str, str] | None = None
    chunk, filled = 0, set[str]()
    of_slot: dict[str, int] = {}
    for slot, currency, event_type, shape, lines in units:
        if len(lines) > limit:
            raise LedgerError(
                "an event has more lines than a journal of the ERP may have",
                record=f"{slot} {event_type}",
                expected=f"at most {limit}",
                got=len(lines),
                remedy="map fewer accounts or dimensions, or raise the line limit",
            )
        if current is None or current[0] != slot:
            chunk = 0
        if current != (slot, currency) or len(filled | lines) > limit:
            chunk, filled = chunk + 1, set()
        current, filled = (slot, currency), filled | lines
        of_slot[slot] = chunk
        rows.append({"slot": slot, "currency": currency, "event_type": event_type, "shape": shape, "chunk": chunk})
    text, whole = pa.string(), pa.int64()
    shape_of = [("slot", text), ("currency", text), ("event_type", text), ("shape", whole), ("chunk", whole)]
    for row in rows:
        row["chunks"] = of_slot[row["slot"]]
    return pa.Table.from_pylist(rows, schema=pa.schema([*shape_of, ("chunks", whole)]))


def _units(session: Engine, limit: int) -> list[tuple[str, str, str, int, set[str]]]:
    """What stays together, in order: (slot, currency, event type, shape, lines); shape 0 is the whole event type."""
    groups = session.rows("""
        SELECT slot, currency, event_type, any_value(event_order), list(DISTINCT concat_ws('|',
          event_type, posted_side, account, role, product_family, tax_code, transaction_currency))
        FROM placed GROUP BY slot, currency, event_type
    """)
    too_long = [group[:3] for group in groups if len(group[4]) > limit]
    if not too_long:
        session.execute("CREATE OR REPLACE TEMP VIEW parted AS SELECT *, 0 AS shape FROM placed")
        return [(*g[:3], 0, set(g[4])) for g in sorted(groups, key=lambda g: (g[0], g[1], g[3], g[2]))]
    names = ("slot", "currency", "event_type")
    session.bind("too_long", pa.Table.from_pylist([dict(zip(names, g, strict=True)) for g in too_long]))
    session.execute(statement("shapes"))
    shapes = session.rows(
        "SELECT slot, currency, event_type, shape, any_value(lines) FROM event_part"
        " GROUP BY slot, currency, event_type, shape ORDER BY slot, currency, event_type, shape"
    )
    units = []
    for slot, currency, event_type, order, lines in groups:
        if (slot, currency, event_type) not in too_long:
            units.append((order, slot, currency, event_type, 0, set(lines)))
            continue
        units += [
            (order, *s[:4], {f"{event_type}|{line}" for line in s[4]})
            for s in shapes
            if s[:3] == (slot, currency, event_type)
        ]
    units.sort(key=lambda u: (u[1], u[2], u[0], u[3], u[4]))
    return [u[1:] for u in units]


def _drilldown(session: Engine, out: Path | None) -> pa.Table | Path:
    """The source rows of every line, checked to add up to it; unordered where they are written to a file."""
    shape = schema.table("journal_drilldown").arrow
    query = f"SELECT {', '.join(shape.names)} FROM journal_part"
    if out is not None:
        session.bind("written_part", session.copy(query, out))
        _check_parts(session, "written_part")
        return out
    found = session.sql(f"{query} ORDER BY run_key, line_no, event_id, leg, event_date").cast(shape)
    session.bind("listed_part", found)
    _check_parts(session, "listed_part")
    return found


def _headers(session: Engine, lines: pa.Table, rules: Rules) -> pa.Table:
    rows = session.rows("""
        SELECT n.run_key, any_value(n.slot), any_value(v.version), any_value(p.legal_entity_id), any_value(p.ledger),
          any_value(p.period), any_value(p.slot_stream), any_value(p.slot_date), any_value(n.currency),
          sum(CASE n.posted_side WHEN 'debit' THEN n.amount ELSE 0 END),
          sum(CASE n.posted_side WHEN 'credit' THEN n.amount ELSE 0 END),
          count(*), CAST(sum(n.row_count) AS BIGINT)
        FROM numbered AS n
        JOIN slot_version AS v USING (slot)
        JOIN (
          SELECT DISTINCT slot, legal_entity_id, ledger, period, slot_stream, slot_date FROM placed
        ) AS p USING (slot)
        GROUP BY n.run_key ORDER BY n.run_key
    """)
    content: dict[str, list[list[str]]] = {}
    for line in lines.to_pylist():
        foreign = line["transaction_currency"] != line["currency"]
        content.setdefault(line["run_key"], []).append(
            [line[n] for n in ("account", "product_family", "tax_code", "side", "currency", "description")]
            + [format(line["amount"], "f")]
            + ([line["transaction_currency"], format(line["transaction_amount"], "f")] if foreign else [])
        )
    names = (
        "run_key", "slot", "version", "legal_entity_id", "ledger", "period", "stream", "business_date", "currency",
        "debit", "credit", "line_count", "row_count",
    )  # fmt: skip
    headers = []
    for row in rows:
        header = dict(zip(names, row, strict=True))
        header["accounting_date"] = header["business_date"]
        header["content_hash"] = content_hash([header["accounting_date"], content[header["run_key"]]])
        header["kind"] = "original" if header["version"] == 1 else "difference"
        header["origin"] = f"TIEOUT/{header['slot']}/v1" if header["version"] > 1 else None
        header["rules"] = rules.digest
        headers.append(header)
    return pa.Table.from_pylist(headers, schema=schema.table("journals").arrow)


def _held(session: Engine) -> pa.Table:
    shape = schema.table("journal_held").arrow
    columns = ", ".join(f"coalesce({n}, 0) AS {n}" if n == "amount" else n for n in shape.names)
    return session.sql(f"SELECT {columns} FROM held ORDER BY event_id, event_date, state").cast(shape)


def _check_balance(session: Engine) -> None:
    """Our own boundary: every journal balances, in functional currency and in each transaction currency."""
    unbalanced = session.rows("""
        SELECT run_key, currency, sum(CASE posted_side WHEN 'debit' THEN amount ELSE -amount END) AS difference
        FROM numbered GROUP BY run_key, currency HAVING difference <> 0
        UNION ALL
        SELECT run_key, transaction_currency,
          sum(CASE posted_side WHEN 'debit' THEN transaction_amount ELSE -transaction_amount END) AS difference
        FROM numbered GROUP BY run_key, transaction_currency HAVING difference <> 0
    """)
    if unbalanced:
        key, currency, difference = unbalanced[0]
        raise LedgerError(
            "a journal does not balance", record=f"{key} in {currency}", expected=Decimal(0), got=difference
        )


def _check_parts(session: Engine, parts: str) -> None:
    """Our own boundary: every line is the sum of its source rows."""
    torn = session.rows(f"""
        SELECT coalesce(l.run_key, d.run_key), coalesce(l.line_no, d.line_no) FROM numbered AS l
        FULL JOIN (
          SELECT run_key, line_no, sum(amount) AS amount, sum(transaction_amount) AS foreign_amount, count(*) AS n
          FROM {parts} GROUP BY run_key, line_no
        ) AS d ON d.run_key = l.run_key AND d.line_no = l.line_no
        WHERE l.amount IS DISTINCT FROM d.amount OR l.row_count IS DISTINCT FROM d.n
          OR l.transaction_amount IS DISTINCT FROM d.foreign_amount
    """)
    if torn:
        raise LedgerError("a journal line is not the sum of its source rows", record=f"{torn[0][0]} line {torn[0][1]}")
