"""Raw pages as the vendors sent them: landed before anything is parsed, immutable, visible only as whole extracts.

`<root>/<source>/<object>/<extract_id>/page-00001.parquet` … and `_COMMITTED.json`, written last. A folder without
that file is the remains of an extract that did not end; nobody reads it and its own re-run overwrites it.

A page is a file of ours that holds records as JSON text. A large file of columns is landed byte for byte instead,
`file-00002.parquet` with its envelope beside it in `file-00002.json`: it counts as one page, its rows as its records.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from tieout.errors import DataError, IncompleteExtract
from tieout.ids import sha256_hex
from tieout.settings import private_folder

COMMITTED = "_COMMITTED.json"
LONGEST_FIELD = 1 << 20  # characters; a longer text is no business value and would only swell every later step
DEEPEST = 200  # levels of a page that are kept where it has too many to be read
_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]', re.DOTALL)
_LEFT_OUT = "-Infinity"  # a constant no vendor may send: it can stand for what is left out

PAGE_SCHEMA = pa.schema(
    [
        pa.field("source", pa.string(), nullable=False),
        pa.field("object", pa.string(), nullable=False),
        pa.field("extract_id", pa.string(), nullable=False),
        pa.field("page_no", pa.int32(), nullable=False),
        pa.field("position", pa.int32(), nullable=False),
        pa.field("fetched_at", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("record", pa.string(), nullable=False),
        pa.field("fault", pa.string()),
    ]
)
"""Columns of a page: `record` is the JSON text of one record, numbers with a fraction as strings; where `fault` is
not null it says why the record cannot be used, and `record` is its raw text with unreadable bytes escaped."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A record whose bytes could not be read: its text with the bad bytes escaped, and why."""

    text: str
    reason: str


Record: TypeAlias = "Mapping[str, Any] | str | Unreadable"


@dataclass(frozen=True, slots=True)
class ControlTotal:
    """What the vendor says the extract should hold, beside what was landed.

    `how` names where `claimed` comes from, or says why there is no such figure; figures are texts by name, such as
    `{"count": "120", "amount usd": "10550"}`.
    """

    how: str
    claimed: Mapping[str, str] = field(default_factory=dict)
    counted: Mapping[str, str] = field(default_factory=dict)
    approximate: bool = False
    """The vendor calls its figure approximate: equal figures prove the extract, others do not refute it."""

    @property
    def proven(self) -> bool:
        """The vendor's independent figure and ours are equal."""
        return bool(self.claimed) and dict(self.claimed) == dict(self.counted)


@dataclass(frozen=True, slots=True)
class AsIs:
    """A file of columns landed byte for byte: which page it is, when it was read, its columns by engine type."""

    page_no: int
    fetched_at: datetime
    columns: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ExtractRef:
    """A committed extract. `facts` holds what its source noted (drift, alerts, the watermark after it)."""

    root: str
    source: str
    object: str
    extract_id: str
    sequence: int
    window_lo: datetime | None
    window_hi: datetime | None
    pages: int
    records: int
    faults: int
    control: ControlTotal
    facts: Mapping[str, Any]
    as_is: tuple[AsIs, ...] = ()
    """The files landed byte for byte; their page numbers have no page file."""

    def files(self) -> list[str]:
        """The extract's page files in page order."""
        theirs = {file.page_no for file in self.as_is}
        return [f"{self._folder}/{_page_name(n)}" for n in range(1, self.pages + 1) if n not in theirs]

    def path_of(self, file: AsIs) -> str:
        """Where a file that was landed byte for byte is."""
        return f"{self._folder}/{_file_name(file.page_no)}"

    @property
    def _folder(self) -> str:
        return f"{self.root}/{self.source}/{self.object}/{self.extract_id}"


def extract_id(sequence: int, window_hi: datetime | None, *identity: str) -> str:
    """The id of a source's n-th extract: sorts by sequence, the same whenever the same window is extracted again."""
    end = window_hi.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ") if window_hi else sha256_hex("|".join(identity))[:16]
    return f"{sequence:08}-{end}"


def raw_ref(source: str, object: str, extract: str, page_no: int, position: int | str = "") -> str:
    """Where a record was landed; `Landing.record` reads it back. Without a position the beginning all records share."""
    return f"{source}/{object}/{extract}/{page_no}#{position}"


class Landing:
    """The landing area under `root`, a folder or an object store's URI."""

    def __init__(self, root: str | Path) -> None:
        self.root = str(root).rstrip("/")
        self._fs, self._base = fsspec.core.url_to_fs(self.root)
        self._local = isinstance(self._fs, fsspec.implementations.local.LocalFileSystem)

    def open(
        self,
        source: str,
        object: str,
        *,
        window_lo: datetime | None,
        window_hi: datetime | None,
        extract_id: str,
        sequence: int | None = None,
    ) -> ExtractWriter:
        """Start an extract; what an interrupted try left under the same id is removed.

        `sequence` orders the extracts of one object, by default after all committed ones. Raises DataError if the
        extract is already committed: its pages never change.
        """
        folder = self._folder(source, object, extract_id)
        if self._fs.exists(f"{folder}/{COMMITTED}"):
            raise DataError("extract is already committed", record=f"{source}/{object}/{extract_id}")
        if self._fs.exists(folder):
            self._fs.rm(folder, recursive=True)
        if sequence is None:
            sequence = max((e.sequence for e in self.extracts(source, object)), default=0) + 1
        return ExtractWriter(self, source, object, extract_id, sequence, window_lo, window_hi)

    def extracts(self, source: str, object: str | None = None, *, after: int = 0) -> list[ExtractRef]:
        """Committed extracts of a source, of one object or of all, with a sequence above `after`, in order."""
        objects = [object] if object else self._names(f"{self._base}/{source}")
        found = []
        for name in objects:
            for extract in self._names(f"{self._base}/{source}/{name}"):
                number = extract.split("-")[0]
                if number.isdigit() and int(number) <= after:
                    continue  # known from its id: not worth reading
                ref = self.extract(source, name, extract)
                found += [ref] if ref and ref.sequence > after else []
        return sorted(found, key=lambda e: (e.object, e.sequence, e.extract_id))

    @contextmanager
    def incoming(self, source: str) -> Iterator[Path]:
        """A folder on this machine for files on their way in, empty. Only for the source's one reader."""
        if not self._local:
            with tempfile.TemporaryDirectory(prefix="tieout-incoming-") as folder:
                yield Path(folder)
            return
        beside = private_folder(Path(self._base) / ".incoming") / source  # where a rename can put them in place
        shutil.rmtree(beside, ignore_errors=True)  # of a reader that was killed
        beside.mkdir(mode=0o700)
        try:
            yield beside
        finally:
            shutil.rmtree(beside, ignore_errors=True)

    def sweep(self, source: str, object: str, *, after: int) -> None:
        """Remove what interrupted extracts with a sequence above `after` left. Only for the object's one writer."""
        for extract in self._names(f"{self._base}/{source}/{object}"):
            folder, number = self._folder(source, object, extract), extract.split("-")[0]
            if number.isdigit() and int(number) > after and not self._fs.exists(f"{folder}/{COMMITTED}"):
                self._fs.rm(folder, recursive=True)

    def extract(self, source: str, object: str, extract_id: str) -> ExtractRef | None:
        """One committed extract; None if it is unknown or not committed."""
        try:
            facts = json.loads(self._fs.cat_file(f"{self._folder(source, object, extract_id)}/{COMMITTED}"))
        except FileNotFoundError:
            return None
        return ExtractRef(
            self.root,
            source,
            object,
            extract_id,
            facts["sequence"],
            _instant(facts["window_lo"]),
            _instant(facts["window_hi"]),
            facts["pages"],
            facts["records"],
            facts["faults"],
            ControlTotal(**facts["control"]),
            facts["facts"],
            tuple(
                AsIs(f["page_no"], datetime.fromisoformat(f["fetched_at"]), f["columns"])
                for f in facts.get("as_is", ())
            ),
        )

    def record(self, ref: str) -> str:
        """The landed text of one record, by its raw_ref. Raises DataError if there is none."""
        try:
            where, position = ref.split("#")
            source, object, extract, page_no = where.split("/")
            folder = self._folder(source, object, extract)
            if self._fs.exists(f"{folder}/{_file_name(int(page_no))}"):
                return self._row(folder, int(page_no), int(position))
            with self._fs.open(f"{folder}/{_page_name(int(page_no))}", "rb") as file:
                page = pq.read_table(file, columns=["record"])
            return str(page["record"][int(position)])
        except (FileNotFoundError, ValueError, IndexError) as error:
            raise DataError("no such record was landed", record=ref) from error

    def _row(self, folder: str, page_no: int, position: int) -> str:
        """A row of a file landed as it is, as the text of a record. Raises IndexError if it has no such row."""
        from tieout.lake.engine import engine

        columns = json.loads(self._fs.cat_file(f"{folder}/{_envelope_name(page_no)}"))["columns"]
        with self._fs.open(f"{folder}/{_file_name(page_no)}", "rb") as file:
            parquet, before = pq.ParquetFile(file), 0
            for group in range(parquet.num_row_groups):
                rows = parquet.metadata.row_group(group).num_rows
                if before <= position < before + rows:
                    row = parquet.read_row_group(group).slice(position - before, 1)
                    with engine() as session:
                        session.bind("row", row)
                        return str(session.scalar(f"SELECT {record_of_columns(columns)} FROM row"))
                before += rows
        raise IndexError(position)

    def _folder(self, source: str, object: str, extract: str) -> str:
        return f"{self._base}/{source}/{object}/{extract}"

    def _names(self, folder: str) -> list[str]:
        try:
            return sorted(str(path).rstrip("/").rsplit("/", 1)[1] for path in self._fs.ls(folder, detail=False))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def _put(self, path: str, content: pa.Buffer | bytes) -> None:
        """Write a file so that it is there whole or not at all, also after a crash."""
        if not self._local:
            self._fs.pipe_file(path, bytes(content))
            return
        target = Path(path)
        private_folder(target.parent)
        partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)

    def _take(self, path: str, file: Path) -> None:
        """Put a local file in place, whole or not at all; it is gone from where it was."""
        if not self._local:
            self._fs.put_file(str(file), path)
            file.unlink()
            return
        target = Path(path)
        private_folder(target.parent)
        partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
        shutil.move(file, partial)
        with partial.open("rb+") as moved:
            os.fsync(moved.fileno())
        partial.replace(target)


class ExtractWriter:
    """An extract under way: pages are added in order and become visible together at `commit`."""

    def __init__(
        self,
        landing: Landing,
        source: str,
        object: str,
        extract_id: str,
        sequence: int,
        window_lo: datetime | None,
        window_hi: datetime | None,
    ) -> None:
        self.source, self.object, self.extract_id, self.sequence = source, object, extract_id, sequence
        self.window_lo, self.window_hi = window_lo, window_hi
        self.pages = self.records = self.faults = 0
        self._landing = landing
        self._as_is: list[AsIs] = []

    def page(
        self,
        records: Iterable[Record],
        *,
        request_id: str | None,
        http_status: int | None,
        fetched_at: datetime,
        body_sha256: str | None = None,
        parts: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """Land one page of records; the envelope (window, request, status, hash of the body) is the file's metadata.

        `parts` says which bodies a page holds, where it holds several: each with where its records begin.
        A record that is no JSON, holds a NUL character, no valid Unicode or an overlong text is landed with a fault.
        """
        texts, faults = _texts(records)
        self.pages += 1
        count = len(texts)
        table = pa.table(
            [
                pa.repeat(pa.scalar(self.source), count),
                pa.repeat(pa.scalar(self.object), count),
                pa.repeat(pa.scalar(self.extract_id), count),
                pa.repeat(pa.scalar(self.pages, pa.int32()), count),
                pa.array(range(count), pa.int32()),
                pa.repeat(pa.scalar(fetched_at.astimezone(UTC), pa.timestamp("us", tz="UTC")), count),
                pa.array(texts, pa.string()),
                pa.array(faults, pa.string()),
            ],
            schema=PAGE_SCHEMA,
        ).replace_schema_metadata(
            {
                "tieout.envelope": json.dumps(
                    self._envelope(request_id, http_status, fetched_at, body_sha256)
                    | ({"parts": list(parts)} if parts else {})
                )
            }
        )
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd")
        self._landing._put(f"{self._folder}/{_page_name(self.pages)}", sink.getvalue())
        self.records += count
        self.faults += count - faults.count(None)

    def file(
        self, file: Path, *, rows: int, columns: Mapping[str, str], request_id: str, fetched_at: datetime, sha256: str
    ) -> None:
        """Land a Parquet file byte for byte as one page; `file` is a copy on this machine and is moved away.

        `columns` gives its columns and their engine types. Nothing is looked at here: the caller has made sure that
        every row can be read.
        """
        self.pages += 1
        self._landing._take(f"{self._folder}/{_file_name(self.pages)}", file)
        envelope = self._envelope(request_id, None, fetched_at, sha256) | {"rows": rows, "columns": dict(columns)}
        self._landing._put(f"{self._folder}/{_envelope_name(self.pages)}", json.dumps(envelope, indent=1).encode())
        self._as_is.append(AsIs(self.pages, fetched_at, dict(columns)))
        self.records += rows

    def _envelope(
        self, request_id: str | None, http_status: int | None, fetched_at: datetime, sha256: str | None
    ) -> dict[str, Any]:
        return {
            "source": self.source,
            "object": self.object,
            "extract_id": self.extract_id,
            "page_no": self.pages,
            "window_lo": _text(self.window_lo),
            "window_hi": _text(self.window_hi),
            "request_id": request_id,
            "http_status": http_status,
            "fetched_at": _text(fetched_at),
            "sha256": sha256,
        }

    def mark(self) -> tuple[int, int, int]:
        """Where the extract stands, for `rewind`."""
        return self.pages, self.records, self.faults

    def rewind(self, mark: tuple[int, int, int]) -> None:
        """Take back every page landed since `mark`."""
        for page_no in range(mark[0] + 1, self.pages + 1):
            self._landing._fs.rm_file(f"{self._folder}/{_page_name(page_no)}")
        self.pages, self.records, self.faults = mark

    def commit(self, control_total: ControlTotal | None = None, **facts: Any) -> ExtractRef:
        """Make the extract visible, with its control total and what its source noted.

        Raises IncompleteExtract if the vendor's figure and ours differ; the extract then stays invisible.
        """
        control = control_total or ControlTotal("no independent figure")
        if control.claimed and not control.proven and not control.approximate:
            raise IncompleteExtract(
                "what was read is not what the vendor's own figure says",
                source=f"{self.source}/{self.object}",
                window=f"{_text(self.window_lo) or 'the beginning'} to {_text(self.window_hi) or 'now'}",
                request=control.how,
                expected=dict(control.claimed),
                got=dict(control.counted),
                remedy="the extract was not kept; run again, and look at the vendor's side if it differs again",
            )
        content = {
            "sequence": self.sequence,
            "window_lo": _text(self.window_lo),
            "window_hi": _text(self.window_hi),
            "pages": self.pages,
            "records": self.records,
            "faults": self.faults,
            "as_is": [asdict(file) | {"fetched_at": _text(file.fetched_at)} for file in self._as_is],
            "control": asdict(control),
            "proven": control.proven,
            "facts": facts,
        }
        self._landing._put(f"{self._folder}/{COMMITTED}", json.dumps(content, indent=1, sort_keys=True).encode())
        ref = self._landing.extract(self.source, self.object, self.extract_id)
        assert ref is not None  # noqa: S101 - it was written on the line before
        return ref

    @property
    def _folder(self) -> str:
        return self._landing._folder(self.source, self.object, self.extract_id)


def record_of_columns(columns: Mapping[str, str]) -> str:
    """SQL of a record's JSON text from a file's columns, written as a page has it: numbers with a fraction as texts."""
    plain = ("BOOLEAN", "VARCHAR", "TINYINT", "SMALLINT", "INTEGER", "BIGINT")
    values = (
        f"{_text_sql(name)}, " + (f'"{quoted}"' if kind in plain else f'CAST("{quoted}" AS VARCHAR)')
        for name, kind in columns.items()
        for quoted in [name.replace('"', '""')]
    )
    return f"CAST(json_object({', '.join(values)}) AS VARCHAR)"


def _text_sql(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


class Shortened(dict[str, Any]):
    """An object as parsed, without a part of it that is nested too deeply to be read; landing flags it."""


def parse(body: str | bytes) -> Any:
    """JSON as it is landed: numbers with a fraction become strings of their digits. Raises ValueError.

    One record nested beyond all measure must not cost the page: what is deeper than DEEPEST is then left out, and the
    objects around it are Shortened.
    """
    try:
        return json.loads(body, parse_float=str, parse_constant=_no_constant)
    except RecursionError:
        text = body if isinstance(body, str) else body.decode("utf-8", "surrogateescape")
    return json.loads(_shallow(text), parse_float=str, parse_constant=_left_out, object_hook=_marked)


def _shallow(text: str) -> str:
    """JSON text with each value deeper than DEEPEST replaced by the constant that stands for it."""
    kept, depth, since = [], 0, 0
    for token in _TOKEN.finditer(text):
        if token[0] in ("[", "{"):
            depth += 1
            if depth == DEEPEST + 1:
                kept.append(text[since : token.start()])
                since = len(text)
        elif token[0] in ("]", "}"):
            if depth == DEEPEST + 1:
                kept.append(_LEFT_OUT)
                since = token.end()
            depth -= 1
    return "".join([*kept, text[since:]])


def _left_out(name: str) -> Shortened:
    return Shortened() if name == _LEFT_OUT else _no_constant(name)


def _marked(value: dict[str, Any]) -> dict[str, Any]:
    return Shortened(value) if any(_is_shortened(part) for part in value.values()) else value


def _is_shortened(value: Any) -> bool:
    return isinstance(value, Shortened) or (isinstance(value, list) and any(map(_is_shortened, value)))


def _texts(records: Iterable[Record]) -> tuple[list[str], list[str | None]]:
    """The text of each record and, where it cannot be used, why."""
    texts: list[str] = []
    faults: list[str | None] = []
    for record in records:
        text, fault = _text_of(record)
        if not _encodes(text):
            text = text.encode("utf-8", "backslashreplace").decode()
            fault = fault or _NO_UNICODE
        if fault is None and ("\\u" in text or len(text) > LONGEST_FIELD):
            try:
                fault = next((why for why, holds in _UNUSABLE if _has_text(json.loads(text), holds)), None)
            except RecursionError:
                fault = _TOO_DEEP
        texts.append(text)
        faults.append(fault)
    return texts, faults


def _text_of(record: Record) -> tuple[str, str | None]:
    if isinstance(record, Unreadable):
        return record.text.replace("\0", "\\u0000"), record.reason
    if isinstance(record, str):
        fractions: list[str] = []

        def digits(number: str) -> str:
            fractions.append(number)
            return number

        try:
            value = json.loads(record, parse_float=digits, parse_constant=_no_constant)
        except RecursionError:
            return record.replace("\0", "\\u0000"), _TOO_DEEP
        except ValueError as error:
            return record.replace("\0", "\\u0000"), f"is no JSON: {error}"
        if not isinstance(value, dict):
            return record, "is no JSON object"
        if not fractions:
            return record, None
        record = value
    fault = _TOO_DEEP if isinstance(record, Shortened) else None
    try:
        return _dumps(record), fault
    except RecursionError:
        return _dumps({k: v for k, v in record.items() if not isinstance(v, Mapping | list)}), _TOO_DEEP
    except ValueError:
        return _dumps(record, allow_nan=True), "holds a number that is no JSON number"


def _dumps(record: Mapping[str, Any], allow_nan: bool = False) -> str:
    return json.dumps(record, ensure_ascii=False, separators=(",", ":"), default=_plain, allow_nan=allow_nan)


def _encodes(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


_TOO_DEEP = "is nested too deeply to be read"
_NO_UNICODE = "holds characters that are no valid Unicode"
_UNUSABLE: tuple[tuple[str, Callable[[str], bool]], ...] = (
    ("holds a NUL character", lambda text: "\0" in text),
    (_NO_UNICODE, lambda text: not _encodes(text)),
    (f"holds a text of more than {LONGEST_FIELD} characters", lambda text: len(text) > LONGEST_FIELD),
)


def _has_text(value: Any, holds: Callable[[str], bool]) -> bool:
    """Whether any text inside a JSON value satisfies `holds`."""
    if isinstance(value, str):
        return bool(holds(value))
    if isinstance(value, Mapping):
        return any(_has_text(part, holds) for pair in value.items() for part in pair)
    if isinstance(value, Sequence):
        return any(_has_text(part, holds) for part in value)
    return False


def _plain(value: Any) -> str:
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no place in a landed record")


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _page_name(page_no: int) -> str:
    return f"page-{page_no:05}.parquet"


def _file_name(page_no: int) -> str:
    return f"file-{page_no:05}.parquet"


def _envelope_name(page_no: int) -> str:
    return f"file-{page_no:05}.json"


def _text(instant: datetime | None) -> str | None:
    return instant.astimezone(UTC).isoformat() if instant else None


def _instant(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
