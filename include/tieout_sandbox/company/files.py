"""The drop folder: usage, bank and provisioning files as they arrive, in the formats such feeds come in.

`<folder>/<feed>/dt=YYYY-MM-DD/part-<entity>-….<format>`, one folder per local day of arrival, with `_MANIFEST.json`
listing each file's name, size, SHA-256 and rows. Files of one feed differ in format on purpose.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
from collections.abc import Callable, Iterable
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from tieout_sandbox.company.catalogue import BY_ID
from tieout_sandbox.company.days import local_date
from tieout_sandbox.company.model import Company

FEEDS = ("usage", "bank", "provisioning")
Row = dict[str, Any]


def write_drop(company: Company, folder: Path, now: datetime) -> int:
    """Write every file that has arrived by `now` and is not there yet; returns how many were written.

    Calling it again with the same or a later instant changes nothing that is there. A file appears whole, before the
    manifest that lists it.
    """
    written = 0
    for feed, rows_of in (("usage", _usage), ("bank", _bank), ("provisioning", _provisioning)):
        by_day: dict[date, dict[str, tuple[str, list[Row]]]] = {}
        for entity, visible_at, kind, row in rows_of(company):
            if visible_at <= now:
                # a batch made after midnight belongs to the day that has just ended
                day = local_date(BY_ID[entity].zone, visible_at - timedelta(hours=1))
                name = f"part-{entity.lower()}-{kind}"
                by_day.setdefault(day, {}).setdefault(name, (entity, []))[1].append(row)
        for day, files in sorted(by_day.items()):
            written += _write_day(folder / feed / f"dt={day}", feed, day, files)
    return written


def _usage(company: Company) -> Iterable[tuple[str, datetime, str, Row]]:
    for event in company.usage_events:
        row = {
            "event_id": event.event_id,
            "subscription_id": event.subscription_id,
            "customer_id": event.customer_id,
            "meter": event.meter,
            "unit": event.unit,
            "quantity": event.quantity,
            "occurred_at": _iso(event.occurred_at),
            "kind": event.kind,
            "corrects_event_id": event.corrects_event_id,
            "received_at": _iso(event.visible_at),
        }
        yield event.legal_entity_id, event.visible_at, "00000", row
    for bad in company.unreadable_usage:
        row = {**bad.fields, "received_at": _iso(bad.visible_at)}
        yield bad.legal_entity_id, bad.visible_at, "00001-device", row


def _bank(company: Company) -> Iterable[tuple[str, datetime, str, Row]]:
    for line in company.bank_lines:
        row = {
            "id": line.id,
            "legal_entity_id": line.legal_entity_id,
            "account": line.account,
            "booking_date": line.booking_date.isoformat(),
            "value_date": line.value_date.isoformat(),
            "amount": format(line.amount, "f"),
            "currency": line.currency,
            "reference": line.reference,
        }
        yield line.legal_entity_id, line.visible_at, "statement", row


def _provisioning(company: Company) -> Iterable[tuple[str, datetime, str, Row]]:
    for given in company.provisioning:
        row = {
            "id": given.id,
            "legal_entity_id": given.legal_entity_id,
            "as_of": given.as_of.isoformat(),
            "account_id": given.account_id,
            "subscription_id": given.subscription_id,
            "feature": given.feature,
            "status": given.status,
            "quantity": given.quantity,
        }
        yield given.legal_entity_id, given.visible_at, "snapshot", row


def _iso(instant: datetime) -> str:
    return f"{instant:%Y-%m-%dT%H:%M:%SZ}"


# ------------------------------------------------------------------------------------- formats


def _jsonl(rows: list[Row]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def _csv(rows: list[Row]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def _parquet(rows: list[Row]) -> bytes:
    columns = list(rows[0])
    types = {"quantity": pa.int64()}
    schema = pa.schema([(name, types.get(name, pa.string())) for name in columns])
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), buffer, compression="zstd")
    return buffer.getvalue()


def _gz(content: bytes) -> bytes:
    return gzip.compress(content, compresslevel=6, mtime=0)


def _zst(content: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=3).compress(content)


_Format = tuple[str, Callable[[list[Row]], bytes]]
_FORMATS: dict[tuple[str, str], tuple[_Format, _Format]] = {
    # feed, entity: format on even and odd days
    ("usage", "US"): ((".parquet", _parquet), (".parquet", _parquet)),
    ("usage", "DE"): ((".csv", _csv), (".csv.gz", lambda rows: _gz(_csv(rows)))),
    ("usage", "JP"): ((".jsonl.zst", lambda rows: _zst(_jsonl(rows))), (".jsonl", _jsonl)),
}
_FEED_FORMATS: dict[str, _Format] = {
    "usage": (".jsonl", _jsonl),
    "bank": (".csv", _csv),
    "provisioning": (".jsonl.gz", lambda rows: _gz(_jsonl(rows))),
}


def _format(feed: str, name: str, entity: str, day: date) -> _Format:
    if name.endswith("-00000") and (feed, entity) in _FORMATS:
        return _FORMATS[feed, entity][day.toordinal() % 2]
    return _FEED_FORMATS[feed]


def _write_day(folder: Path, feed: str, day: date, files: dict[str, tuple[str, list[Row]]]) -> int:
    """Write the files of one arrival day that are missing, then the manifest."""
    manifest_path = folder / "_MANIFEST.json"
    listed: dict[str, Row] = {}
    if manifest_path.exists():
        listed = {entry["name"]: entry for entry in json.loads(manifest_path.read_text())["files"]}
    written = 0
    for stem, (entity, rows) in sorted(files.items()):
        suffix, encode = _format(feed, stem, entity, day)
        name = stem + suffix
        if name in listed:
            continue
        content = encode(rows)
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / name, content)
        listed[name] = {
            "name": name,
            "size": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
            "rows": len(rows),
        }
        written += 1
    if written:
        body = json.dumps({"files": [listed[name] for name in sorted(listed)]}, indent=1)
        _write(manifest_path, body.encode())
    return written


def _write(path: Path, content: bytes) -> None:
    partial = path.with_name(f".{path.name}.part")
    partial.write_bytes(content)
    partial.replace(path)
