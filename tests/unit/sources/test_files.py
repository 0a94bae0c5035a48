"""The drop folder: whole listed files are landed once, everything else is left alone, set aside or told."""

import gzip
import io
import json
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from drop_folder import EVENT, csv_file, lines

from tieout.errors import DriftError, Unavailable
from tieout.sources.files import _Feed


def parquet_file(tmp: Path) -> bytes:
    table = pa.table(
        {
            "event_id": ["e1"],
            "occurred_at": pa.array([datetime(2026, 3, 1, 10, tzinfo=UTC)], pa.timestamp("s", "Asia/Tokyo")),
            "subscription_id": ["sub_1"],
            "meter": ["api"],
            "quantity": pa.array([Decimal("1.5")], pa.decimal128(10, 1)),
            "day": [date(2026, 3, 1)],
        }
    )
    pq.write_table(table, tmp / "x.parquet")
    return (tmp / "x.parquet").read_bytes()


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        pytest.param("a.jsonl", lambda b: b, id="plain"),
        pytest.param("a.jsonl.gz", gzip.compress, id="gzip"),
        pytest.param("a.jsonl.gz", lambda b: gzip.compress(b[:40]) + gzip.compress(b[40:]), id="gzip of two members"),
        pytest.param("a.jsonl.zst", lambda b: zstandard.compress(b), id="zstd"),
    ],
)
def test_json_lines_are_landed_however_they_are_packed(drop, name, pack):
    drop.put(name, pack(lines(EVENT, EVENT | {"event_id": "e2"}, EVENT | {"event_id": "e3"})), rows=3)
    (ref,) = drop.catch_up()
    assert [r["event_id"] for r, _ in drop.records(ref)] == ["e1", "e2", "e3"]
    assert ref.control.proven
    assert ref.pages == 2  # of two records each
    assert (ref.window_lo, ref.window_hi) == (datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 2, tzinfo=UTC))


def test_days_that_begin_after_what_is_asked_for_are_left_for_later(drop):
    for day in ("2026-03-01", "2026-03-02", "2026-13-45"):
        drop.put("a.jsonl", lines(EVENT | {"event_id": day}), day=day)
    (ref,) = drop.catch_up(until=datetime(2026, 3, 2, tzinfo=UTC))
    assert {r["event_id"] for r, _ in drop.records(ref)} == {"2026-03-01", "2026-13-45"}  # the latter is no day
    assert ref.window_hi == datetime(2026, 3, 2, tzinfo=UTC)
    (later,) = drop.catch_up(until=datetime(2026, 3, 2, 8, tzinfo=UTC))
    assert [r["event_id"] for r, _ in drop.records(later)] == ["2026-03-02"]


def test_csv_and_parquet_land_as_the_same_record(drop, tmp_path):
    drop.put("a.csv.gz", gzip.compress(csv_file("e1,2026-03-01T10:00:00Z,sub_1,api,1.5")))
    drop.put("b.parquet", parquet_file(tmp_path))
    (ref,) = drop.catch_up()
    (from_csv, _), (from_parquet, _) = drop.records(ref)
    assert from_csv == EVENT
    assert from_parquet == EVENT | {"occurred_at": "2026-03-01T10:00:00.000Z", "day": "2026-03-01"}


def test_a_csv_with_byte_order_mark_and_carriage_returns_and_newlines_in_fields(drop):
    body = '\ufeffevent_id,occurred_at,subscription_id,meter,quantity\r\n"e\n1",x,sub_1,"a,b",\r\n'.encode()
    drop.put("a.csv", body)
    ((record, fault),) = drop.records(drop.catch_up()[0])
    assert (record["event_id"], record["meter"], record["quantity"], fault) == ("e\n1", "a,b", None, None)


@pytest.mark.parametrize(
    ("name", "bad", "reason"),
    [
        pytest.param("a.jsonl", b'{"event_id": "\xff\xfe"}\n', "no valid Unicode", id="wrong encoding in JSON"),
        pytest.param("a.jsonl", b'{"event_id": \n', "is no JSON", id="half a line"),
        pytest.param(
            "a.jsonl", b'{"a": ' + b"[" * 9999 + b"]" * 9999 + b"}\n", "nested too deeply", id="nested too deeply"
        ),
        pytest.param("a.jsonl", b'{"event_id": "a\\u0000"}\n', "NUL", id="NUL in JSON"),
        pytest.param("a.jsonl", b'{"event_id": "a\x00"}\n', "is no JSON", id="raw NUL in JSON"),
        pytest.param("a.csv", b"\xff,x,s,m,1\n", "no valid Unicode", id="wrong encoding in CSV"),
        pytest.param("a.csv", b"e\x00,x,s,m,1\n", "NUL", id="NUL in CSV"),
        pytest.param("a.csv", b"e9,x,s\n", "has 3 fields, the header has 5", id="a short row"),
        pytest.param("a.csv", b"e9,x,s,m," + b"9" * (10 << 20) + b"\n", "more than", id="a field of 10 MB"),
    ],
)
def test_unreadable_rows_are_flagged_and_the_others_go_through(drop, name, bad, reason):
    good = lines(EVENT) if name.endswith("jsonl") else csv_file("e1,2026-03-01T10:00:00Z,sub_1,api,1.5")
    drop.put(name, good + bad, rows=2)
    (ref,) = drop.catch_up()
    (first, no_fault), (_, fault) = drop.records(ref)
    assert (first["event_id"], no_fault) == ("e1", None)
    assert reason in fault
    assert (ref.records, ref.faults, ref.control.proven) == (2, 1, True)


def test_what_has_been_landed_is_not_landed_again(drop):
    drop.put("a.jsonl", lines(EVENT))
    assert len(drop.catch_up()) == 1
    assert drop.catch_up() == []
    drop.put("b.jsonl", lines(EVENT | {"event_id": "e2"}), day="2026-03-02")
    (ref,) = drop.catch_up()
    assert [f["path"] for f in ref.facts["files"]] == ["dt=2026-03-02/b.jsonl"]


def test_a_file_delivered_again_with_other_bytes_is_a_new_version(drop):
    drop.put("a.jsonl", lines(EVENT))
    drop.catch_up()
    drop.put("a.jsonl", lines(EVENT | {"quantity": "2"}))
    (ref,) = drop.catch_up()
    assert [r["quantity"] for r, _ in drop.records(ref)] == ["2"]


def test_half_written_and_unlisted_files_are_left_alone_until_they_are_whole(drop, caplog):
    drop.put("a.jsonl", lines(EVENT))
    half = drop.put("b.jsonl", lines(EVENT | {"event_id": "e2"}))
    whole = half.read_bytes()
    half.write_bytes(whole[:20])
    drop.put("c.jsonl", lines(EVENT), listed=False)
    (drop.root / "usage" / "dt=2026-03-09").mkdir()
    (drop.root / "usage" / "dt=2026-03-09" / "d.jsonl").write_bytes(b"{}")
    (ref,) = drop.catch_up()
    assert [f["path"] for f in ref.facts["files"]] == ["dt=2026-03-01/a.jsonl"]
    assert ref.facts["left_alone"] == {
        "dt=2026-03-01/b.jsonl": f"half written: 20 of {len(whole)} bytes",
        "dt=2026-03-01/c.jsonl": "not listed in the manifest",
        "dt=2026-03-09/d.jsonl": "its folder has no manifest",
    }
    assert drop.catch_up() == []
    assert "left alone" in caplog.text
    half.write_bytes(whole)
    (ref,) = drop.catch_up()
    assert [r["event_id"] for r, _ in drop.records(ref)] == ["e2"]


def parquet(column: pa.Array) -> bytes:
    out = io.BytesIO()
    same = {n: ["e1"] for n in EVENT}
    pq.write_table(pa.table({**same, "odd": column}), out, compression={"odd": "snappy"} | dict.fromkeys(EVENT, "none"))
    return out.getvalue()


BYTES = pa.array([b"\xff\xfe"])
NO_PARQUET_OF_OURS = {
    "a codec that is not known": parquet(pa.array([1])).replace(b"\x19\x18\x03odd\x15\x02", b"\x19\x18\x03odd\x15\x06"),
    "bytes": parquet(BYTES),
    "bytes in a list": parquet(pa.array([[b"x"]])),
    "text that is no UTF-8": parquet(pa.Array.from_buffers(pa.string(), 1, BYTES.buffers())),
    "dates in a struct": parquet(pa.array([{"on": date(2026, 3, 1)}])),
    "an instant beyond the calendar": parquet(pa.array([[9 * 10**14]], pa.list_(pa.timestamp("s")))),
}


@pytest.mark.parametrize(
    ("content", "entry", "reason"),
    [
        pytest.param(lines(EVENT), {"sha256": "0" * 64}, "checksum differs", id="wrong checksum"),
        pytest.param(lines(EVENT), {"rows": 7}, "row count differs from the manifest: 1 instead of 7", id="wrong rows"),
        pytest.param(gzip.compress(lines(EVENT) * 99)[:-20], {"name": "x.jsonl.gz"}, "cannot be read", id="cut gzip"),
        pytest.param(b"PAR1 no parquet PAR1", {"name": "x.parquet"}, "cannot be read", id="no Parquet"),
        *[pytest.param(c, {"name": "x.parquet"}, "cannot be read", id=why) for why, c in NO_PARQUET_OF_OURS.items()],
        pytest.param(b"<xml/>", {"name": "x.xml"}, "no reader for .xml", id="unknown format"),
    ],
)
def test_a_poisoned_file_is_set_aside_whole_and_the_others_go_through(drop, content, entry, reason):
    entry = dict(entry)
    path = drop.put(entry.pop("name", "x.jsonl"), content, **entry)
    drop.put("z.jsonl", lines(EVENT))
    (ref,) = drop.catch_up()
    (_, fault), (good, no_fault) = drop.records(ref)
    assert reason in fault
    assert (good["event_id"], no_fault) == ("e1", None)
    assert [f["path"] for f in ref.facts["set_aside"]] == [f"dt=2026-03-01/{path.name}"]
    assert drop.catch_up() == []


def test_a_poisoned_file_is_read_once_its_bytes_are_right(drop):
    path = drop.put("a.jsonl", lines(EVENT))
    right = path.read_bytes()
    path.write_bytes(right.replace(b"e1", b"e9"))
    assert drop.catch_up()[0].faults == 1
    path.write_bytes(right)
    (ref,) = drop.catch_up()
    assert [r["event_id"] for r, _ in drop.records(ref)] == ["e1"]


def test_a_vanished_column_stops_the_feed(drop):
    drop.put("a.csv", b"event_id,occurred_at,meter,quantity\ne1,x,m,1\n")
    with pytest.raises(DriftError, match=r"field subscription_id has vanished.*drop/usage.*usage/dt=2026-03-01/a.csv"):
        drop.catch_up()
    assert drop.landing.extracts("drop") == []


def test_a_new_column_is_noted(drop):
    drop.put("a.jsonl", lines(EVENT | {"region": "eu"}))
    assert drop.catch_up()[0].facts["drift"]["new_fields"] == {"region": "text"}


def test_a_missing_drop_folder_is_unavailable_and_never_zero_rows(drop):
    drop.root.rename(drop.root.with_name("elsewhere"))
    with pytest.raises(Unavailable, match="cannot be reached"):
        drop.catch_up()


def test_a_name_that_leaves_its_folder_is_not_followed(drop):
    drop.put("a.jsonl", lines(EVENT))
    drop.listed["2026-03-01"][0]["name"] = "../../secret.jsonl"
    (drop.root / "secret.jsonl").write_bytes(lines(EVENT))
    drop.put("b.jsonl", lines(EVENT), listed=False)
    assert drop.catch_up() == []


def test_small_files_share_a_page_that_says_where_each_begins(drop):
    for n in range(3):
        drop.put(f"{n}.jsonl", lines(EVENT | {"event_id": f"e{n}"}))
    (ref,) = drop.catch_up()
    assert ref.pages == 2
    envelope = json.loads(pq.read_schema(ref.files()[0]).metadata[b"tieout.envelope"])
    assert [(p["path"], p["first_position"]) for p in envelope["parts"]] == [
        ("usage/dt=2026-03-01/0.jsonl", 0),
        ("usage/dt=2026-03-01/1.jsonl", 1),
    ]


def test_a_large_file_that_turns_out_poisoned_takes_its_pages_back(drop):
    drop.put("a.jsonl", lines(EVENT))
    drop.put("b.jsonl", lines(*(EVENT | {"event_id": f"b{n}"} for n in range(7))), rows=8)
    drop.put("c.jsonl", lines(EVENT | {"event_id": "c"}))
    (ref,) = drop.catch_up()
    found = drop.records(ref)
    assert [r["event_id"] for r, fault in found if fault is None] == ["e1", "c"]
    assert [fault for _, fault in found if fault] == [
        "file set aside: row count differs from the manifest: 7 instead of 8"
    ]


def test_a_poisoned_file_is_read_once_its_manifest_is_right(drop):
    drop.put("a.jsonl", lines(EVENT), rows=7)
    assert drop.catch_up()[0].faults == 1
    assert drop.catch_up() == []
    drop.put("a.jsonl", lines(EVENT), rows=1)
    (ref,) = drop.catch_up()
    assert (ref.records, ref.faults) == (1, 0)


class Killed(BaseException):
    pass


@pytest.mark.parametrize(("lived_through", "moves"), [("the extract", 0), ("one move", 1), ("the files", 2)])
def test_a_process_killed_before_the_archive_leaves_it_to_the_next(drop, monkeypatch, lived_through, moves):
    drop.source = drop.source.model_copy(update={"archive": "done"})
    drop.put("a.jsonl", lines(EVENT))
    drop.put("b.jsonl", lines(EVENT | {"event_id": "e2"}))
    moved = []

    def dies(self, path, name, move=_Feed._move):
        if len(moved) == moves:
            raise Killed
        moved.append(path)
        move(self, path, name)

    with monkeypatch.context() as dying:
        dying.setattr(_Feed, "_move", dies)
        with pytest.raises(Killed):
            drop.catch_up()
    assert len(drop.landing.extracts("drop")) == 1
    assert drop.catch_up() == []
    assert not [f for f in (drop.root / "usage").rglob("*") if f.is_file()]
    names = sorted(f.name.split("-", 1)[1] for f in (drop.root / "done/usage/dt=2026-03-01").iterdir())
    assert names == ["_MANIFEST.json", "a.jsonl", "b.jsonl"]
    assert len(drop.landing.extracts("drop")) == 1


def test_a_file_being_delivered_again_is_not_archived_as_what_was_read(drop):
    path = drop.put("a.jsonl", lines(EVENT))
    drop.catch_up()
    drop.source = drop.source.model_copy(update={"archive": "done"})
    path.write_bytes(lines(EVENT | {"quantity": "3"}))  # its manifest is still to come
    assert drop.catch_up() == []
    assert path.exists()
    drop.put("a.jsonl", path.read_bytes())
    (ref,) = drop.catch_up()
    assert [r["quantity"] for r, _ in drop.records(ref)] == ["3"]
    assert not path.exists()


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'[{"a": 1}, {"b": ', "is no JSON"),
        (b'[{"a": 1}', "the list is not closed"),
        (b'[{"a": 1}] {"b": 1}', "is no JSON of objects"),
        (b"[1, 2]", "is no JSON of objects"),
        (b" ", "the file is empty"),
        (b'{"a": ' + b"[" * 99999, "nested too deeply"),
    ],
)
def test_a_json_document_that_is_not_whole_is_set_aside_whole(drop, body, reason):
    drop.put("a.json", body, rows=1)
    (ref,) = drop.catch_up()
    ((_, fault),) = drop.records(ref)
    assert reason in fault


@pytest.mark.parametrize("odd", ["a\0b", "x" * ((1 << 20) + 1)])
def test_a_large_parquet_file_with_a_text_nobody_can_use_is_read_row_by_row(drop, odd):
    out = io.BytesIO()
    pq.write_table(pa.table({n: [v, v, odd if n == "meter" else v] for n, v in EVENT.items()}), out)
    drop.put("a.parquet", out.getvalue(), rows=3)
    (ref,) = drop.catch_up()
    assert ref.as_is == ()
    assert [fault is None for _, fault in drop.records(ref)] == [True, True, False]
