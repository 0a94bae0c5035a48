"""Records out of a drop file, within bounds: whatever somebody puts into the folder, it must not fill the memory.

A row that is too long is set aside by itself; a file that unpacks beyond all measure is set aside whole.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
import posixpath
import re
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import zstandard

from tieout.lake.landing import Record, Unreadable, parse
from tieout.sources.drift import Drift
from tieout.sources.pagers import FIELD_LIMIT

LOOKED_AT = 1000  # lines of each file held against the contract one by one; after them every hundredth
LONGEST_LINE = 16 << 20  # bytes of a line, or of a CSV row with the lines inside its quotes
MOST_COLUMNS = 10_000
AT_ONCE = 64 << 20  # bytes of records that are held at a time
DENSEST = 250  # times its own size that a packed file may unpack to; text packs to a tenth, at best a fiftieth
NEVER_DENSE = 256 << 20  # bytes; a file that unpacks to no more than this may be as dense as it likes
_KEPT = 1000  # bytes of a line that is too long, to know it by
_CHUNK = 1 << 20
_LONE_RETURN = re.compile(r"(?<=\r)(?!\n)")


class Poisoned(Exception):
    """The file cannot be what its manifest says; its message says why."""


UNREADABLE = (OSError, EOFError, zlib.error, zstandard.ZstdError, pa.ArrowInvalid, csv.Error)
"""What reading a damaged file raises beside Poisoned."""

_NOT_OURS = (
    ValueError,
    TypeError,
    LookupError,
    OverflowError,
    pa.ArrowNotImplementedError,
    pa.ArrowSerializationError,
    pa.ArrowCapacityError,
)  # what pyarrow raises for a codec, a type or a value it or Python cannot read


def records_of(raw: IO[bytes], path: str, drift: Drift, request: str, *, largest: int) -> Iterator[Record]:
    """The records of one file by the ending of its name, one that is too long as Unreadable.

    Raises Poisoned for a format it does not know and for a file of more than `largest` bytes once unpacked; one of
    UNREADABLE for a damaged file.
    """
    name, size = path.lower(), raw.seek(0, io.SEEK_END)
    raw.seek(0)
    stream: Any = raw
    if name.endswith(".gz"):
        stream, name = gzip.GzipFile(fileobj=raw), name[:-3]  # all members of the file
    elif name.endswith((".zst", ".zstd")):
        stream = zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True)
        name = name.rsplit(".", 1)[0]
    readers: dict[str, Callable[[IO[bytes], Drift, str, int], Iterator[Record]]] = {
        ".jsonl": _json_lines,
        ".ndjson": _json_lines,
        ".csv": _csv_rows,
        ".parquet": _parquet_rows,
    }
    suffix = posixpath.splitext(name)[1]
    if suffix not in readers:
        raise Poisoned(f"no reader for {suffix or 'a name without ending'}; known: {', '.join(readers)}")
    if stream is raw and suffix == ".parquet":
        yield from _parquet_rows(raw, drift, request, largest)
        return
    bound = largest if stream is raw else min(largest, max(NEVER_DENSE, DENSEST * size))
    yield from readers[suffix](io.BufferedReader(_Bounded(stream, bound), _CHUNK), drift, request, largest)


def weight(record: Record) -> int:
    """About how many bytes a record holds."""
    if isinstance(record, str):
        return len(record)
    if isinstance(record, Unreadable):
        return len(record.text)
    return sum(len(value) if isinstance(value, str) else 16 for value in record.values())


class _Bounded(io.RawIOBase):
    """A stream that gives at most so many bytes. Raises Poisoned where there are more."""

    def __init__(self, stream: IO[bytes], largest: int) -> None:
        self._stream, self._largest, self._given = stream, largest, 0

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any) -> int:
        piece = self._stream.read(len(into))
        self._given += len(piece)
        if self._given > self._largest:
            raise Poisoned(_too_large(self._largest))
        into[: len(piece)] = piece
        return len(piece)


def _too_large(largest: int) -> str:
    return f"holds more than {largest} bytes once unpacked; deliver it in parts"


def _lines(stream: IO[bytes]) -> Iterator[tuple[bytes, bool]]:
    """Each line with its ending, or the beginning of one that is too long, and whether it is that."""
    while line := stream.readline(LONGEST_LINE + 1):
        if len(line) <= LONGEST_LINE:
            yield line, False
            continue
        head = line[:_KEPT]
        while line and not line.endswith(b"\n"):
            line = stream.readline(_CHUNK)
        yield head, True


def _text(line: bytes, first: bool) -> str:
    return line.decode("utf-8-sig" if first else "utf-8", "surrogateescape")


def _overlong(head: bytes) -> Unreadable:
    return Unreadable(f"{_text(head, False)}…", f"is a line of more than {LONGEST_LINE} bytes")


def _json_lines(stream: IO[bytes], drift: Drift, request: str, largest: int) -> Iterator[Record]:
    for number, (line, overlong) in enumerate(_lines(stream)):
        if overlong:
            yield _overlong(line)
            continue
        text = _text(line.rstrip(b"\r\n"), number == 0)
        if not text.strip():
            continue
        if number < LOOKED_AT or number % 100 == 0:
            with contextlib.suppress(ValueError):  # landing flags it
                drift.see([parse(text)], request)
        yield text


class _CsvLines:
    """Lines for a CSV reader, which asks for several where quotes go over them; one too long becomes an empty row."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._lines, self._row = enumerate(_lines(stream)), 0
        self._waiting: list[str] = []
        self.skipped: Unreadable | None = None

    def __iter__(self) -> _CsvLines:
        return self

    def __next__(self) -> str:
        if not self._waiting:
            number, (line, overlong) = next(self._lines)
            if overlong and not self._row:
                self.skipped = _overlong(line)
                return ""
            # a return alone ends a line too, as it does for files opened as CSV asks for
            self._waiting = _LONE_RETURN.split(_text(line, number == 0))[::-1]
            self._row += LONGEST_LINE if overlong else 0
        text = self._waiting.pop()
        self._row += len(text)
        if self._row > LONGEST_LINE:
            raise Poisoned(f"a row holds more than {LONGEST_LINE} bytes; is a quote not closed?")
        return text

    def rows(self) -> Iterator[list[str] | Unreadable]:
        """Each row, or what stands for one that is too long."""
        for row in csv.reader(self):
            self._row = 0
            if self.skipped is not None:
                yield self.skipped
                self.skipped = None
            elif row:
                yield row


def _csv_rows(stream: IO[bytes], drift: Drift, request: str, largest: int) -> Iterator[Record]:
    """Rows by the header's names, all values text, an empty cell null; a row of another width is unreadable."""
    csv.field_size_limit(FIELD_LIMIT)
    rows = _CsvLines(stream).rows()
    header = next(rows, None)
    if header is None or isinstance(header, Unreadable):
        raise Poisoned("the file has no header")
    _not_too_wide(len(header))
    drift.see_columns(header, request)
    for row in rows:
        if isinstance(row, Unreadable):
            yield row
        elif len(row) == len(header):
            yield {name: value or None for name, value in zip(header, row, strict=True)}
        else:
            yield Unreadable(json.dumps(row), f"has {len(row)} fields, the header has {len(header)}")


def _not_too_wide(columns: int) -> None:
    if columns > MOST_COLUMNS:
        raise Poisoned(f"has {columns} columns; at most {MOST_COLUMNS} are read")


def _parquet_rows(stream: IO[bytes], drift: Drift, request: str, largest: int) -> Iterator[Record]:
    """Rows as JSON would have them: numbers with a fraction, dates and times as text."""
    with contextlib.ExitStack() as opened:
        if not stream.seekable():  # a Parquet file that was packed again
            spool = opened.enter_context(tempfile.TemporaryFile())
            shutil.copyfileobj(stream, spool, _CHUNK)
            stream = spool
        try:
            plain = pq.ParquetFile(stream)
            _not_too_wide(len(plain.schema_arrow.names))
            for column in plain.schema_arrow:
                if not _has_json(column.type):
                    raise Poisoned(f"cannot be read: column {column.name} holds {column.type}")
            groups = [plain.metadata.row_group(n) for n in range(plain.num_row_groups)]
            if sum(group.total_byte_size for group in groups) > largest:
                raise Poisoned(_too_large(largest))
            drift.see_columns(plain.schema_arrow.names, request)
            # one long text that many rows share stays one as long as its column is a dictionary
            texts = [
                f.name for f in plain.schema_arrow if pa.types.is_string(f.type) or pa.types.is_large_string(f.type)
            ]
            file = pq.ParquetFile(stream, metadata=plain.metadata, read_dictionary=texts)
            for batch in file.iter_batches(batch_size=min(map(_rows_at_once, groups), default=1)):
                for part in _parts(batch):
                    columns = [_as_json(column) for column in part.columns]
                    yield from pa.RecordBatch.from_arrays(columns, names=part.schema.names).to_pylist()
        except _NOT_OURS as error:  # a fault of whoever takes the rows does not come by here
            raise Poisoned(f"cannot be read: {type(error).__name__}: {error}") from None


def _rows_at_once(group: pq.RowGroupMetaData) -> int:
    """How many rows of a group may be read together, by what its footer says of them."""
    values = sum(group.column(n).num_values for n in range(group.num_columns))
    return int(max(1, min(10_000, AT_ONCE * group.num_rows // max(1, group.total_byte_size, 8 * values))))


def _parts(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """A batch in parts whose texts are small enough once each row has its own copy."""
    row = sum(_longest(column.dictionary) for column in batch.columns if pa.types.is_dictionary(column.type))
    rows = max(1, AT_ONCE // max(1, row))
    for start in range(0, batch.num_rows, rows):
        yield batch.slice(start, rows)


def _longest(values: pa.Array) -> int:
    if not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)):
        return 16
    return pc.max(pc.binary_length(values)).as_py() or 0


def _has_json(kind: pa.DataType, inside: bool = False) -> bool:
    """Whether values of a type can be landed as JSON; dates and times only as columns of their own."""
    if isinstance(kind, pa.DictionaryType):
        return _has_json(kind.value_type, inside)
    if pa.types.is_nested(kind):
        return all(_has_json(kind.field(n).type, inside=True) for n in range(kind.num_fields))
    if pa.types.is_temporal(kind) and not pa.types.is_timestamp(kind):
        return not inside
    return not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind))


def _as_json(column: pa.Array) -> pa.Array:
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _as_json(column.dictionary_decode())
    if pa.types.is_timestamp(kind):
        utc = pc.cast(column, pa.timestamp(kind.unit, "UTC")) if kind.tz else column
        text = pc.strftime(utc, format="%Y-%m-%dT%H:%M:%S")
        return pc.binary_join_element_wise(text, "Z", "") if kind.tz else text
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind) or pa.types.is_temporal(kind):
        return pc.cast(column, pa.string())
    return column
