"""What a person does with breaks: look at one, choose many, decide, with evidence kept by its content."""

from __future__ import annotations

import csv
import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any

from tieout.breaks.inputs import bind_sides, configured_definition, side_queries
from tieout.errors import ConfigError, DataError
from tieout.ids import content_hash
from tieout.lake.engine import engine
from tieout.lake.tables import Lake
from tieout.reconcile import Definition
from tieout.reconcile.sql import joined
from tieout.reconcile.sql import name as quoted
from tieout.settings import Settings, private_folder
from tieout.store import Store
from tieout.store.break_acts import Act, Done, Evidence, Pair, Refusal, carry_out, consider, standings
from tieout.store.break_list import full_id
from tieout.store.breaks import BreakRow, Change, history, seen_until
from tieout.store.write_offs import ToWriteOff

ID_COLUMN = "break_id"
_CUT = "; and "
_MORE = "…"
# a fuzzy pass lists each rival with how probable it is
_PROBABILITY = re.compile(r" \(\d+\.\d %\)$")


@dataclass(frozen=True, slots=True)
class Shown:
    """All there is to know about one break."""

    kept: Mapping[str, Any]
    """Where its life stands."""
    found: Mapping[str, Any]
    """Its row of the result table as it was last found: sentence, parts, rivals, ids."""
    history: tuple[Change, ...]
    rows: Mapping[str, tuple[Mapping[str, Any], ...]]
    """The rows behind it by side, as the published tables have them now."""


def show(break_id: str, *, store: Store, lake: Lake, settings: Settings, rows: bool = True) -> Shown:
    """One break by its id or the beginning of it. Raises DataError for an unknown one."""
    with store.reading() as session:
        identity = full_id(session, break_id)
        row = session.get(BreakRow, identity)
        assert row is not None  # noqa: S101  its id was just found
        kept = {c: getattr(row, c) for c in BreakRow.__table__.columns.keys() if c != "content"}  # noqa: SIM118
        kept["last_seen"] = seen_until(session, row)
        past = history(session, identity, people=True)
    found = _last_found(kept, store=store, lake=lake, settings=settings)
    behind: dict[str, tuple[Mapping[str, Any], ...]] = {}
    if rows and found:
        behind = _rows_behind(kept, found, store=store, lake=lake, settings=settings)
    return Shown(kept, found, tuple(past), behind)


def _last_found(kept: Mapping[str, Any], *, store: Store, lake: Lake, settings: Settings) -> dict[str, Any]:
    with engine(settings) as session:
        lake.bind(session, store.published(), ["breaks"])
        table = session.sql(
            "SELECT * FROM breaks WHERE definition_id = $definition_id AND legal_entity_id = $legal_entity_id\n"
            "AND break_key = $break_key AND ordinal = $ordinal AND business_date <= $last_seen\n"
            "ORDER BY business_date DESC LIMIT 1",
            {c: kept[c] for c in ("definition_id", "legal_entity_id", "break_key", "ordinal", "last_seen")},
        )
    found = table.to_pylist()
    return found[0] if found else {}


def _rows_behind(
    kept: Mapping[str, Any], found: Mapping[str, Any], *, store: Store, lake: Lake, settings: Settings
) -> dict[str, tuple[Mapping[str, Any], ...]]:
    definition = configured_definition(settings, kept["definition_id"])
    behind = {}
    with engine(settings) as session:
        sides = bind_sides(
            session,
            side_queries(settings, definition),
            lake=lake,
            snapshot=store.published(),
            store=store,
            settings=settings,
            business_date=kept["last_seen"],
        )
        for side_name, side in (("left", definition.left), ("right", definition.right)):
            session.bind(f"{side_name}_rows_behind", [str(sides[side_name])])
            row_id = joined([f"{quoted(column)}::VARCHAR" for column in side.id])
            ids = [one for one in found[f"{side_name}_ids"].split("; ") if one]
            table = session.sql(
                f"SELECT * FROM {side_name}_rows_behind WHERE {row_id} IN (SELECT unnest($ids::VARCHAR[]))\n"
                f"AND coalesce({quoted(side.entity)}::VARCHAR, '') = $entity ORDER BY ALL",
                {"ids": ids, "entity": kept["legal_entity_id"]},
            )
            behind[side_name] = tuple(table.to_pylist())
    return behind


def pairs_of(
    break_ids: Sequence[str], *, store: Store, lake: Lake, settings: Settings, counterparts: Sequence[str] = ()
) -> dict[str, Pair]:
    """The rows a verdict on each break is about; a break is missing where that is not clear.

    A suggested match names them itself. Of an ambiguous break `counterparts` must be among its rivals, several where
    they belong to it together, or, where that list was cut short, rows of the side it lists; a suggestion whose list of
    rows was cut short has no verdict.
    """
    with store.reading() as session:
        kept = {one: session.get(BreakRow, one) for one in break_ids}
        seen = {one: seen_until(session, row) for one, row in kept.items() if row is not None}
    found = {}
    definitions: dict[str, Definition] = {}
    with engine(settings) as session:
        lake.bind(session, store.published(), ["breaks"])
        for row in kept.values():
            if row is not None and row.definition_id not in definitions:
                definitions[row.definition_id] = configured_definition(settings, row.definition_id)
        wanted = {
            (row.definition_id, row.legal_entity_id, row.break_key, row.ordinal): identity
            for identity, row in kept.items()
            if row is not None
        }
        dates = sorted(set(seen.values()))
        table = session.sql(
            "SELECT * FROM breaks WHERE business_date IN (SELECT unnest($dates::DATE[]))\n"
            "AND break_type IN ('suggested_match', 'ambiguous') AND break_key IN (SELECT unnest($keys::VARCHAR[]))",
            {"dates": dates, "keys": [key for _, _, key, _ in wanted]},
        )
    for row in table.to_pylist():
        identity = wanted.get((row["definition_id"], row["legal_entity_id"], row["break_key"], row["ordinal"]))
        if identity is None or row["business_date"] != seen[identity]:
            continue
        if pair := _pair(definitions[row["definition_id"]], row, counterparts):
            found[identity] = pair
    if counterparts and found:
        found = _with_amounts(found, kept, seen, definitions, store=store, lake=lake, settings=settings)
    return found


def write_offs_of(
    break_ids: Sequence[str], *, store: Store, lake: Lake, settings: Settings
) -> dict[str, ToWriteOff | str]:
    """What of each break can be written off, and where; or why nothing can. An unknown id is missing."""
    return {
        one: _to_write_off(row, store=store, lake=lake, settings=settings)
        for one in break_ids
        if (row := _kept(one, store)) is not None
    }


def _kept(break_id: str, store: Store) -> Mapping[str, Any] | None:
    with store.reading() as session:
        row = session.get(BreakRow, break_id)
        if row is None:
            return None
        kept = {c: getattr(row, c) for c in BreakRow.__table__.columns.keys()}  # noqa: SIM118
        return kept | {"last_seen": seen_until(session, row)}


def _to_write_off(kept: Mapping[str, Any], *, store: Store, lake: Lake, settings: Settings) -> ToWriteOff | str:
    definition = configured_definition(settings, kept["definition_id"])
    if not kept["legal_entity_id"]:
        return "it belongs to no legal entity, so there is no ledger to write it off in"
    found = _last_found(kept, store=store, lake=lake, settings=settings)
    difference, currency = _difference(found), kept["currency"]
    if difference is None or abs(difference) != kept["value"] or currency is None:
        return "its two sides differ in no amount that could be written off"
    direction = "left_higher" if difference > 0 else "right_higher"
    of_type = definition.write_off.get(kept["break_type"])
    account = getattr(of_type, direction) if of_type else None
    if account is None:
        higher = definition.left.name if difference > 0 else definition.right.name
        return (
            f"{definition.id} names no account for a write-off of a break of type {kept['break_type']} where {higher}"
            f" has more; settle it where it arose, or name one (write_off.{kept['break_type']}.{direction})"
        )
    written = kept["written_off"] or Decimal(0)
    if written and kept["written_off_currency"] != currency:
        return f"{written.normalize():f} {kept['written_off_currency']} of it is written off; reverse that first"
    left = difference - written
    if left * difference <= 0:
        return f"{abs(written).normalize():f} {currency} of it is written off already, which is all of it"
    ((side, role),) = account.items()
    return ToWriteOff(left, currency, role, side)


def _difference(found: Mapping[str, Any]) -> Decimal | None:
    """Left − right; of a break that has one side only, that side's amount."""
    amounts = found.get("left_amount"), found.get("right_amount")
    if found.get("difference") is not None:
        return Decimal(found["difference"])
    match amounts:
        case (Decimal() as left, None):
            return left
        case (None, Decimal() as right):
            return -right
    return None


def _pair(definition: Definition, row: Mapping[str, Any], counterparts: Sequence[str]) -> Pair | None:
    if row["break_type"] == "suggested_match":
        if counterparts or _CUT in row["left_ids"] or _CUT in row["right_ids"]:
            return None
        return Pair(row["left_ids"], row["right_ids"], row["left_amount"], row["right_amount"])
    rivals = {_PROBABILITY.sub("", rival) for rival in (row["rivals"] or "").split("; ")}
    named = next((p.identity for p in definition.passes if p.name == row["pass_name"] and p.method != "keyed"), None)
    if not counterparts or named is None or not (rivals.issuperset(counterparts) or _MORE in rivals):
        return None
    chosen = "; ".join(sorted(set(counterparts)))
    if named == "left":
        return Pair(row["left_ids"], chosen, row["left_amount"], None)
    return Pair(chosen, row["right_ids"], None, row["right_amount"])


def _with_amounts(
    pairs: Mapping[str, Pair],
    kept: Mapping[str, BreakRow | None],
    seen: Mapping[str, date],
    definitions: Mapping[str, Definition],
    *,
    store: Store,
    lake: Lake,
    settings: Settings,
) -> dict[str, Pair]:
    """The pairs with the amounts that the chosen candidates have in the published tables."""
    complete = {}
    for identity, pair in pairs.items():
        row = kept[identity]
        assert row is not None  # noqa: S101  its pair was found
        ids = {"left_ids": pair.left_ids, "right_ids": pair.right_ids}
        about = {
            "definition_id": row.definition_id,
            "legal_entity_id": row.legal_entity_id,
            "last_seen": seen[identity],
        }
        behind = _rows_behind(about, ids, store=store, lake=lake, settings=settings)
        definition = definitions[row.definition_id]
        amounts: dict[str, Decimal | None] = {}
        for side_name, side in (("left", definition.left), ("right", definition.right)):
            values = [r[side.amount] for r in behind[side_name] if r[side.amount] is not None] if side.amount else []
            amounts[side_name] = sum(values, Decimal(0)).quantize(Decimal("0.000001")) if values else None
        # of a list of rivals that was cut short any row may be named that there is
        if all(len(behind[side]) >= len(ids[f"{side}_ids"].split("; ")) for side in behind):
            complete[identity] = Pair(pair.left_ids, pair.right_ids, amounts["left"], amounts["right"])
    return complete


def read_ids(path: Path) -> list[str]:
    """The ids in a CSV file's column `break_id`, or its only column; other columns are for the reader's own notes.

    Raises ConfigError or DataError where there is no such file or column.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError("the list of breaks cannot be read", record=str(path), got=error.strerror) from None
    except UnicodeDecodeError as error:
        raise DataError("the list of breaks is not in UTF-8", record=str(path), got=error.reason) from None
    # spreadsheets write semicolons where a comma is the decimal point
    separator = ";" if ";" in text.partition("\n")[0] else ","
    rows = [row for row in csv.reader(StringIO(text), delimiter=separator) if any(cell.strip() for cell in row)]
    if not rows:
        raise DataError("the list of breaks is empty", record=str(path))
    header = [cell.strip() for cell in rows[0]]
    if ID_COLUMN in header:
        place, body = header.index(ID_COLUMN), rows[1:]
    elif len(header) == 1:
        place, body = 0, rows
    else:
        raise DataError("no column names the breaks", record=str(path), expected=ID_COLUMN, got=header)
    return [row[place].strip() for row in body if len(row) > place and row[place].strip()]


def fingerprint(path: Path) -> Evidence:
    """A file as evidence: its content's hash, name and size. Raises ConfigError or DataError where there is none."""
    return _read_evidence(path)[0]


def keep_evidence(path: Path, settings: Settings) -> Evidence:
    """Copy a file into the evidence folder under its content's hash, where nobody overwrites it."""
    evidence, content = _read_evidence(path)
    kept = evidence_path(settings, evidence.sha256)
    if not kept.exists():
        started = private_folder(kept.parent) / f".{evidence.sha256}.{os.getpid()}"
        started.write_bytes(content)
        started.chmod(0o400)
        started.replace(kept)  # whole or not at all
    return evidence


def _read_evidence(path: Path) -> tuple[Evidence, bytes]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError("the evidence cannot be read", record=str(path), got=error.strerror) from None
    if not content:
        raise DataError("the evidence is empty", record=str(path))
    return Evidence(hashlib.sha256(content).hexdigest(), path.name, len(content)), content


def evidence_path(settings: Settings, sha256: str) -> Path:
    """Where a kept file is."""
    return settings.evidence / "breaks" / sha256[:2] / sha256


@dataclass(frozen=True, slots=True)
class Preview:
    """What a bulk act would do: how much of it, and the mark that confirms exactly this."""

    done: Done
    amounts: Mapping[str, Decimal]
    """Sum of the values by currency."""
    mark: str


def preview(act: Act, break_ids: Sequence[str], store: Store) -> Preview:
    """What an act would do to breaks. The mark changes when their states, values or rows do, or the act does."""
    with store.reading() as session:
        done = consider(session, act, break_ids)
        at = standings(session, [identity for identity, _, _ in done.changed])
    amounts: dict[str, Decimal] = {}
    values = []
    for identity, before, _ in done.changed:
        value, currency = at[identity].value, at[identity].currency
        values.append([identity, before, value, currency])
        if value is not None and currency is not None:
            amounts[currency] = amounts.get(currency, Decimal(0)) + value
    said = [act.action, act.actor, act.reason, act.assignee, act.cap, act.cap_currency, act.expires]
    said += [file.sha256 for file in act.evidence]
    # which rows are matched, and what is written off, is the break's own and may be another after the next run
    own = [[str(of.get(one)) for one, _, _ in done.changed] for of in (act.pairs or {}, act.write_offs or {})]
    mark = content_hash([said, values, own, [[r.break_id, r.reason] for r in done.refused]])[:12]
    return Preview(done, amounts, mark)


def act_on(act: Act, break_ids: Sequence[str], store: Store, *, partly: bool = False) -> Done:
    """Do it to all of these breaks or, unless `partly`, to none where one is refused."""
    with store.transaction() as session:
        return carry_out(session, act, break_ids, store.now(), partly=partly)


__all__ = [
    "Preview",
    "Refusal",
    "Shown",
    "act_on",
    "evidence_path",
    "fingerprint",
    "keep_evidence",
    "pairs_of",
    "preview",
    "read_ids",
    "show",
    "write_offs_of",
]
