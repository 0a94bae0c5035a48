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
from pathlib import Path
from typing import IO, Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import zstandard

from tieout.lake.engine import engine
from tieout.lake.landing import LONGEST_FIELD, Record, Unreadable, parse
from tieout.sources.drift import Drift
from tieout.sources.pagers import FIELD_LIMIT

LOOKED_AT = 1000  # lines of each file held against the contract one by one; after them every hundredth
LONGEST_LINE = 16 << 20  # bytes of a line, or of a CSV row with the lines inside its quotes
MOST_COLUMNS = 10_000
MOST_PLAIN = 200  # columns of a file that is landed as it is
AT_ONCE = 64 << 20  # bytes of records that are held at a time
DENSEST = 250  # times its own size that a packed file may unpack to; text packs to a tenth, at best a fiftieth
NEVER_DENSE = 256 << 20  # bytes; a file that unpacks to no more than this may be as dense as it likes
_KEPT = 1000  # bytes of a line that is too long, to know it by
_CHUNK = 1 << 20
_FILLER = re.compile(r"[ \t\r\n,]*")  # what may stand between two objects
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
        ".json": _json_document,
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


def _json_document(stream: IO[bytes], drift: Drift, request: str, largest: int) -> Iterator[Record]:
    """A file that is one object, a list of objects, or objects one after another: each object is a record.

    Such are a structured CloudEvent and a batch of them. Between two objects there is nothing to begin again at, so
    text that is no JSON costs the whole file: Poisoned.
    """
    decoder, reader = json.JSONDecoder(), io.TextIOWrapper(stream, "utf-8-sig", "surrogateescape")
    text, at, number, ended = "", 0, 0, False
    in_list: bool | None = None  # None before the first sign, False once a list was closed
    while not ended:
        piece = reader.read(_CHUNK)
        text, at, ended = text[at:] + piece, 0, not piece
        while True:
            at = _FILLER.match(text, at).end()  # type: ignore[union-attr]
            sign = text[at : at + 1]
            if not sign:
                break
            if in_list is None and sign == "[":
                in_list, at = True, at + 1
            elif in_list and sign == "]":
                in_list, at = False, at + 1
            elif in_list is False or sign != "{":
                raise Poisoned(f"is no JSON of objects: {text[at : at + 40]!r} after {number} of them")
            else:
                try:
                    _, end = decoder.raw_decode(text, at)
                except RecursionError:
                    raise Poisoned(f"object {number + 1} is nested too deeply to be read") from None
                except ValueError as error:
                    if ended or len(text) - at > LONGEST_LINE:
                        raise Poisoned(f"is no JSON: {error}, in object {number + 1}") from None
                    break  # it may go on in the next piece
                number += 1
                record, at = text[at:end], end
                if number <= LOOKED_AT or number % 100 == 0:
                    with contextlib.suppress(ValueError):  # landing flags it
                        drift.see([parse(record)], request)
                yield record
    if in_list or (in_list is None and not number):
        raise Poisoned("is no JSON: the list is not closed" if in_list else "the file is empty")


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


_PLAIN = (
    pa.types.is_string, pa.types.is_large_string, pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal,
    pa.types.is_boolean, pa.types.is_timestamp, pa.types.is_date,
)  # fmt: skip


def is_large_and_plain(file: IO[bytes], *, above: int, largest: int) -> bool:
    """Whether a file is Parquet of plain columns with more than `above` rows, which the engine reads as it is.

    Raises Poisoned for such a file that holds more than `largest` bytes once unpacked.
    """
    try:
        parquet = pq.ParquetFile(file)
    except (pa.ArrowInvalid, OSError, *_NOT_OURS):
        return False  # reading it row by row says what is wrong
    shape = parquet.schema_arrow
    names = {name.lower() for name in shape.names}  # the engine's names know no case
    if parquet.metadata.num_rows <= above or len(names) != len(shape.names) or len(names) > MOST_PLAIN:
        return False
    if not all(any(fits(field.type) for fits in _PLAIN) for field in shape):
        return False
    groups = (parquet.metadata.row_group(n) for n in range(parquet.num_row_groups))
    if sum(group.total_byte_size for group in groups) > largest:
        raise Poisoned(_too_large(largest))
    return True


def proven_columns(path: Path) -> tuple[int, dict[str, str]] | None:
    """Number of rows of a Parquet file and its columns with the engine's types, once the engine has read every value.

    None where a text is one that only reading row by row can tell of: too long, or with a NUL character. Raises
    Poisoned where the engine cannot read the file.
    """
    with engine() as session:
        try:
            session.bind("file", path)
            columns = {str(name): str(kind) for name, kind, *_ in session.rows("DESCRIBE file")}
            values, texts = [], []
            for name, kind in columns.items():
                quoted = '"' + name.replace('"', '""') + '"'
                if kind == "VARCHAR":
                    texts.append(f"coalesce(max(length({quoted})), 0) > {LONGEST_FIELD}")
                    texts.append(f"coalesce(bool_or(contains({quoted}, chr(0))), false)")
                else:
                    values.append(f"bit_xor(hash({quoted}))")  # cheap, and no statistic of the file answers it
            odd = " OR ".join(texts) or "false"
            rows, is_odd, *_ = session.rows(f"SELECT {', '.join(['count(*)', odd, *values])} FROM file")[0]
        except duckdb.Error as error:
            raise Poisoned(f"cannot be read: {str(error).splitlines()[0]}") from None
    return None if is_odd else (rows, columns)


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
