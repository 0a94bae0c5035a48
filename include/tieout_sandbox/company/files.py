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
from collections.abc import Callable, Iterable, Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from tieout_sandbox.company.catalogue import BY_ID
from tieout_sandbox.company.days import local_date
from tieout_sandbox.company.model import BankLine, Company, ProvisioningRow, UnreadableUsageRow, UsageEvent

Row = dict[str, Any]


class Arrival(NamedTuple):
    """A row of a feed, not rendered yet: most calls find its file already written."""

    entity: str
    at: datetime
    part: str
    record: Any
    render: Callable[[Any], Row]


def write_drop(company: Company, folder: Path, now: datetime) -> int:
    """Write every file that has arrived by `now` and is not there yet; returns how many were written.

    Calling it again with the same or a later instant changes nothing that is there. A file appears whole, before the
    manifest that lists it.
    """
    return sum(_write_feed(folder / feed, feed, arrivals(company), now) for feed, arrivals in _FEEDS.items())


def _write_feed(folder: Path, feed: str, arrivals: Iterable[Arrival], now: datetime) -> int:
    by_day: dict[date, dict[tuple[str, str], list[Arrival]]] = {}
    days: dict[tuple[str, datetime], date] = {}
    for arrival in arrivals:
        if arrival.at > now:
            continue
        batch = (arrival.entity, arrival.at)
        if batch not in days:
            # a batch made after midnight belongs to the day that has just ended
            days[batch] = local_date(BY_ID[arrival.entity].zone, arrival.at - timedelta(hours=1))
        by_day.setdefault(days[batch], {}).setdefault((arrival.entity, arrival.part), []).append(arrival)
    return sum(_write_day(folder / f"dt={day}", feed, day, files) for day, files in sorted(by_day.items()))


def _usage(company: Company) -> Iterator[Arrival]:
    for event in company.usage_events:
        yield Arrival(event.legal_entity_id, event.visible_at, "00000", event, _usage_row)
    for bad in company.unreadable_usage:
        yield Arrival(bad.legal_entity_id, bad.visible_at, "00001-device", bad, _unreadable_row)


def _bank(company: Company) -> Iterator[Arrival]:
    for line in company.bank_lines:
        yield Arrival(line.legal_entity_id, line.visible_at, "statement", line, _bank_row)


def _provisioning(company: Company) -> Iterator[Arrival]:
    for given in company.provisioning:
        yield Arrival(given.legal_entity_id, given.visible_at, "snapshot", given, _provisioning_row)


_FEEDS: dict[str, Callable[[Company], Iterator[Arrival]]] = {
    "usage": _usage,
    "bank": _bank,
    "provisioning": _provisioning,
}


def _usage_row(event: UsageEvent) -> Row:
    return {
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


def _unreadable_row(bad: UnreadableUsageRow) -> Row:
    return {**bad.fields, "received_at": _iso(bad.visible_at)}


def _bank_row(line: BankLine) -> Row:
    return {
        "id": line.id,
        "legal_entity_id": line.legal_entity_id,
        "account": line.account,
        "booking_date": line.booking_date.isoformat(),
        "value_date": line.value_date.isoformat(),
        "amount": format(line.amount, "f"),
        "currency": line.currency,
        "reference": line.reference,
    }


def _provisioning_row(given: ProvisioningRow) -> Row:
    return {
        "id": given.id,
        "legal_entity_id": given.legal_entity_id,
        "as_of": given.as_of.isoformat(),
        "account_id": given.account_id,
        "subscription_id": given.subscription_id,
        "feature": given.feature,
        "status": given.status,
        "quantity": given.quantity,
    }


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


def _format(feed: str, part: str, entity: str, day: date) -> _Format:
    if part == "00000" and (feed, entity) in _FORMATS:
        return _FORMATS[feed, entity][day.toordinal() % 2]
    return _FEED_FORMATS[feed]


def _write_day(folder: Path, feed: str, day: date, files: dict[tuple[str, str], list[Arrival]]) -> int:
    """Write the files of one arrival day that are missing, then the manifest."""
    manifest_path = folder / "_MANIFEST.json"
    listed: dict[str, Row] = {}
    if manifest_path.exists():
        listed = {entry["name"]: entry for entry in json.loads(manifest_path.read_text())["files"]}
    written = 0
    for (entity, part), arrivals in sorted(files.items()):
        suffix, encode = _format(feed, part, entity, day)
        name = f"part-{entity.lower()}-{part}{suffix}"
        if name in listed:
            continue
        rows = [arrival.render(arrival.record) for arrival in arrivals]
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
