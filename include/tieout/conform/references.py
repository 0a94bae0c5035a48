"""What conforming looks up besides the records: currencies, legal entities, and finance's mappings with their dates."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pyarrow as pa

from tieout.entities import Entities, load_entities
from tieout.erp.charts import load_charts
from tieout.errors import ConfigError
from tieout.money import currencies
from tieout.settings import Settings
from tieout.sources.config import load_sources

_FOREVER = date(9999, 12, 31)


@dataclass(frozen=True, slots=True)
class MappedId:
    """One row of a mapping file: a source's id and what it stands for from one day to before another."""

    source: str
    """Name or kind of a source, or `*`."""
    source_id: str
    canonical_id: str
    family: str | None
    valid_from: date
    valid_to: date


def currency_table() -> pa.Table:
    """Columns vendor (`iso` or `stripe`), code, digits: every active currency and its minor-unit digits."""
    rows = [
        {"vendor": vendor, "code": code, "digits": digits}
        for code, iso, stripe in currencies()
        for vendor, digits in (("iso", iso), ("stripe", stripe))
    ]
    return pa.Table.from_pylist(
        rows, schema=pa.schema([("vendor", pa.string()), ("code", pa.string()), ("digits", pa.int32())])
    )


def legal_entity_table(entities: Entities) -> pa.Table:
    """Columns id, zone, functional_currency."""
    rows = [{"id": e.id, "zone": e.zone, "functional_currency": e.functional_currency} for e in entities.entities]
    return pa.Table.from_pylist(
        rows, schema=pa.schema([("id", pa.string()), ("zone", pa.string()), ("functional_currency", pa.string())])
    )


CONTROLLED_ROLES = frozenset(
    {"receivable", "processor_clearing", "cash_in_transit", "deferred_revenue", "tax_payable", "customer_credit",
     "unbilled_receivable"}
)  # fmt: skip
"""Roles whose accounts only Tieout should post to; anything else there is listed as a foreign entry."""


def account_role_table(settings: Settings) -> pa.Table:
    """Columns legal_entity_id, source (`*` = every one), account, role, is_controlled, from `mappings/accounts.csv`.

    Accounts that a ledger numbers otherwise (`mappings/charts.csv`) have the role of ours, with the ERP's source.
    """
    mapped = []
    with settings.config_file("mappings/accounts.csv").open(encoding="utf-8-sig", newline="") as stream:
        for line in csv.DictReader(stream):
            mapped.append((line["legal_entity_id"].strip(), line["account"].strip(), line["role"].strip()))
    rows = [(entity, "*", account, role) for entity, account, role in mapped]
    charts = load_charts(settings)
    if charts.rows:
        sources = [s for s in load_sources(settings.config_file("sources.yaml")) if s.kind == "erp"]
        for entity in load_entities(settings.config_file("entities.yaml")).entities:
            for source in (s for s in sources if s.legal_entity in (None, entity.id)):
                chart = charts.of(entity.id, source.ledger)
                rows += [
                    (entity.id, source.name, chart[account], role)
                    for owner, account, role in mapped
                    if owner in ("*", entity.id) and account in chart
                ]
    names = ("legal_entity_id", "source", "account", "role")
    shape = pa.schema([(name, pa.string()) for name in names] + [("is_controlled", pa.bool_())])
    told = [dict(zip(names, row, strict=True)) | {"is_controlled": row[3] in CONTROLLED_ROLES} for row in rows]
    return pa.Table.from_pylist(told, schema=shape)


def mapped_ids(settings: Settings, name: str) -> tuple[MappedId, ...]:
    """The rows of `mappings/<name>.csv`; none if the configuration has no such file.

    Columns: source (a source's name or kind, or `*`), source_id, canonical_id, optionally family, valid_from, valid_to
    (the first day after; empty = still valid). Raises ConfigError, naming file and line, for a missing column, a date
    that is none, and two rows that hold for one id on one day.
    """
    try:
        path = settings.config_file(f"mappings/{name}.csv")
    except ConfigError:
        return ()
    with path.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.DictReader(stream)
        missing = [c for c in ("source", "source_id", "canonical_id") if c not in (reader.fieldnames or ())]
        if missing:
            raise ConfigError("mapping file lacks columns", record=str(path), got=missing)
        rows = tuple(_row(line, f"{path}:{n}") for n, line in enumerate(reader, start=2))
    _refuse_overlaps(rows, path)
    return rows


def mapping_table(rows: Iterable[MappedId], sources: Mapping[str, str]) -> pa.Table:
    """The rows as a table with one row per configured source (`sources`: name to kind) each row applies to."""
    listed = [
        {
            "source": name,
            "source_id": r.source_id,
            "canonical_id": r.canonical_id,
            "family": r.family,
            "valid_from": r.valid_from,
            "valid_to": r.valid_to,
        }
        for r in rows
        for name, kind in sources.items()
        if r.source in ("*", name, kind)
    ]
    shape = pa.schema(
        [(c, pa.string()) for c in ("source", "source_id", "canonical_id", "family")]
        + [("valid_from", pa.date32()), ("valid_to", pa.date32())]
    )
    return pa.Table.from_pylist(listed, schema=shape)


def _row(line: dict[str, str | None], where: str) -> MappedId:
    def day(column: str, otherwise: date) -> date:
        text = (line.get(column) or "").strip()
        try:
            return date.fromisoformat(text) if text else otherwise
        except ValueError:
            raise ConfigError(
                "not a date", record=f"{where}, column {column}", got=text, expected="2026-03-31"
            ) from None

    def filled(column: str) -> str:
        text = (line[column] or "").strip()
        if not text:
            raise ConfigError("a mapping needs source, source_id and canonical_id", record=f"{where}, column {column}")
        return text

    return MappedId(
        source=filled("source"),
        source_id=filled("source_id"),
        canonical_id=filled("canonical_id"),
        family=(line.get("family") or "").strip() or None,
        valid_from=day("valid_from", date.min),
        valid_to=day("valid_to", _FOREVER),
    )


def _refuse_overlaps(rows: Iterable[MappedId], path: Path) -> None:
    last: dict[tuple[str, str], MappedId] = {}
    for row in sorted(rows, key=lambda r: (r.source, r.source_id, r.valid_from)):
        before = last.get((row.source, row.source_id))
        if before is not None and row.valid_from < before.valid_to:
            raise ConfigError(
                "two rows of a mapping hold on the same day",
                record=f"{path}: {row.source} {row.source_id}",
                got=f"{before.canonical_id} until {before.valid_to}, {row.canonical_id} from {row.valid_from}",
                remedy="end the first row on the day the second begins",
            )
        last[row.source, row.source_id] = row
