"""A drop folder in hostile hands: no file fills the memory or leads out of the folder, honest ones go through."""

import gzip
import json
import os
import tracemalloc
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from drop_folder import EVENT, csv_file, lines

from tieout.sources import file_formats, files

ROW = "e1,2026-03-01T10:00:00Z,sub_1,api,1.5"


@pytest.fixture
def drop(drop):
    drop.source = drop.source.model_copy(update={"page_rows": 20_000})
    return drop


def outcome(drop):
    """Ids of the good records, faults of the others."""
    (ref,) = drop.catch_up()
    found = drop.records(ref)
    return [r["event_id"] for r, fault in found if fault is None], [fault for _, fault in found if fault]


@pytest.mark.parametrize(
    ("name", "pack"), [("x.jsonl.gz", gzip.compress), ("x.jsonl.zst", zstandard.compress)], ids=["gzip", "zstd"]
)
def test_a_file_that_unpacks_beyond_all_measure_is_set_aside_and_the_others_go_through(drop, monkeypatch, name, pack):
    monkeypatch.setattr(file_formats, "NEVER_DENSE", 1 << 20)
    drop.put("a.jsonl", lines(EVENT))
    drop.put(name, pack(lines(EVENT) * 60_000), rows=60_000)
    assert outcome(drop) == (["e1"], [f"file set aside: {too_large(drop, name)}"])


def too_large(drop, name):
    packed = next((drop.root / "usage").rglob(name)).stat().st_size
    largest = max(file_formats.NEVER_DENSE, file_formats.DENSEST * packed)
    return f"holds more than {largest} bytes once unpacked; deliver it in parts"


def test_no_file_may_be_larger_than_configured(drop, tmp_path):
    drop.source = drop.source.model_copy(update={"unpacked_gb": 0})
    pq.write_table(pa.table({n: [v] for n, v in EVENT.items()}), tmp_path / "x.parquet")
    drop.put("x.jsonl", lines(EVENT))
    drop.put("x.csv", csv_file(ROW))
    drop.put("x.parquet", (tmp_path / "x.parquet").read_bytes())
    assert outcome(drop) == ([], ["file set aside: holds more than 0 bytes once unpacked; deliver it in parts"] * 3)


@pytest.mark.parametrize(
    ("name", "pack"),
    [("x.jsonl.gz", gzip.compress), ("x.jsonl.zst", zstandard.compress), ("x.jsonl", bytes)],
    ids=["gzip", "zstd", "plain"],
)
def test_a_line_beyond_all_measure_is_set_aside_and_the_memory_stays_small(drop, monkeypatch, name, pack):
    monkeypatch.setattr(file_formats, "LONGEST_LINE", 1 << 20)
    endless = b'{"event_id": "' + b"x" * (48 << 20) + b'"}\n'
    drop.put(name, pack(lines(EVENT) + endless + lines(EVENT | {"event_id": "e2"})), rows=3)
    del endless
    with memory() as used:
        ids, faults = outcome(drop)
    assert (ids, faults) == (["e1", "e2"], [f"is a line of more than {1 << 20} bytes"])
    assert used() < 24 << 20


@contextmanager
def memory():
    """The most that Python held inside the block."""
    peak = 0
    tracemalloc.start()
    try:
        yield lambda: peak
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("row", "faults"),
    [
        pytest.param("e9," + "x" * 5000 + ",s,m,1", ["is a line of more than 4096 bytes"], id="a line"),
        pytest.param("e9" + "," * 5000, ["is a line of more than 4096 bytes"], id="many cells"),
        pytest.param(
            'e9,"' + "x" * 3000 + "\n" + "x" * 3000 + '",s,m,1',
            ["file set aside: a row holds more than 4096 bytes; is a quote not closed?"],
            id="quotes over lines",
        ),
        pytest.param(
            'e9,"x\n' + "x" * 5000 + '",s,m,1',
            ["file set aside: a row holds more than 4096 bytes; is a quote not closed?"],
            id="an endless line inside quotes",
        ),
    ],
)
def test_a_csv_row_beyond_all_measure_costs_itself_or_its_file(drop, monkeypatch, row, faults):
    monkeypatch.setattr(file_formats, "LONGEST_LINE", 4096)
    drop.put("a.jsonl", lines(EVENT | {"event_id": "other file"}))
    drop.put("x.csv", csv_file(ROW, row, ROW.replace("e1", "e2")), rows=3)
    whole = faults[0].startswith("file")
    assert outcome(drop) == (["other file"] if whole else ["other file", "e1", "e2"], faults)


def test_old_line_ends_are_still_line_ends(drop):
    drop.put("x.csv", csv_file(ROW, ROW.replace("e1", "e2")).replace(b"\n", b"\r"), rows=2)
    assert outcome(drop) == (["e1", "e2"], [])


def test_a_table_of_absurd_width_is_set_aside(drop, tmp_path):
    names = [f"c{n}" for n in range(10_001)]
    drop.put("a.csv", (",".join(names) + "\n").encode(), rows=0)
    pq.write_table(pa.table({name: [1] for name in names}), tmp_path / "x.parquet")
    drop.put("b.parquet", (tmp_path / "x.parquet").read_bytes())
    drop.put("z.jsonl", lines(EVENT))
    ids, faults = outcome(drop)
    assert ids == ["e1"]
    assert faults == ["file set aside: has 10001 columns; at most 10000 are read"] * 2


def test_one_long_text_shared_by_many_rows_is_not_held_once_a_row(drop, tmp_path, monkeypatch):
    monkeypatch.setattr(file_formats, "AT_ONCE", 1 << 20)
    monkeypatch.setattr(files, "AT_ONCE", 1 << 20)
    columns = {name: [value] * 400 for name, value in EVENT.items()} | {"note": ["x" * (1 << 17)] * 400}
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    body = (tmp_path / "x.parquet").read_bytes()
    assert len(body) < 1 << 20
    drop.put("x.parquet", body, rows=400)
    with memory() as used:
        (ref,) = drop.catch_up()
    assert (ref.records, ref.faults) == (400, 0)
    assert used() < 24 << 20  # fifty megabytes if every row had its copy


def test_a_parquet_file_packed_again_is_read(drop, tmp_path):
    pq.write_table(pa.table({n: [v] for n, v in EVENT.items()}), tmp_path / "x.parquet")
    body = (tmp_path / "x.parquet").read_bytes()
    drop.put("a.parquet.gz", gzip.compress(body))
    drop.put("b.parquet.zst", zstandard.compress(body))
    assert outcome(drop) == (["e1", "e1"], [])


@pytest.mark.parametrize("what", ["file", "folder", "manifest"])
def test_a_link_is_not_followed(drop, tmp_path, what):
    drop.put("a.jsonl", lines(EVENT))
    outside = tmp_path / "outside"
    outside.mkdir()
    secret = outside / "secret.jsonl"
    secret.write_bytes(lines(EVENT | {"event_id": "secret"}))
    if what == "file":
        real = drop.put("b.jsonl", secret.read_bytes())
        real.unlink()
        real.symlink_to(secret)
    elif what == "folder":
        drop.put("secret.jsonl", secret.read_bytes(), day="2026-03-02")
        folder = drop.root / "usage" / "dt=2026-03-02"
        folder.rename(outside / "dt")
        folder.symlink_to(outside / "dt")
    else:
        drop.put("b.jsonl", secret.read_bytes(), day="2026-03-02")
        manifest = drop.root / "usage" / "dt=2026-03-02" / "_MANIFEST.json"
        manifest.rename(outside / "m.json")
        manifest.symlink_to(outside / "m.json")
    (ref,) = drop.catch_up()
    assert [r["event_id"] for r, _ in drop.records(ref)] == ["e1"]
    assert what == "folder" or "a link, which is not followed" in ref.facts["left_alone"].values()


@pytest.mark.parametrize(
    "name",
    ["../dt=2026-03-02/b.jsonl", "/etc/passwd", "..", ".", "", "x/../b.jsonl", "..\\b.jsonl", "b\0.jsonl", "*.jsonl"],
)
def test_a_name_that_is_not_a_plain_name_reads_nothing(drop, name):
    drop.put("a.jsonl", lines(EVENT))
    drop.put("b.jsonl", lines(EVENT | {"event_id": "e2"}), day="2026-03-02")
    drop.listed["2026-03-02"][0]["name"] = name
    drop.put("c.jsonl", b"", day="2026-03-02", listed=False)
    assert outcome(drop) == (["e1"], [])


@pytest.mark.parametrize(
    ("manifest", "why"),
    [
        pytest.param(b'{"files": [', "not whole or not valid", id="half written"),
        pytest.param(b"[" * 100_000, "not whole or not valid", id="nested beyond all measure"),
        pytest.param(
            b'{"files": [{"name": "b.jsonl", "size": -1, "sha256": 7}]}', "not whole or not valid", id="types"
        ),
        pytest.param(b'{"files": []}' + b" " * (17 << 20), "more than 16777216 bytes", id="too large"),
        pytest.param(b"\xff\xfe\x00", "not whole or not valid", id="no text"),
    ],
)
def test_a_manifest_that_cannot_be_one_leaves_its_folder_alone(drop, manifest, why):
    drop.put("a.jsonl", lines(EVENT))
    drop.put("b.jsonl", lines(EVENT | {"event_id": "e2"}), day="2026-03-02")
    (drop.root / "usage" / "dt=2026-03-02" / "_MANIFEST.json").write_bytes(manifest)
    (ref,) = drop.catch_up()
    assert [r["event_id"] for r, _ in drop.records(ref)] == ["e1"]
    assert why in ref.facts["left_alone"]["dt=2026-03-02/_MANIFEST.json"]


def test_a_file_listed_twice_is_left_alone(drop):
    drop.put("a.jsonl", lines(EVENT))
    path = drop.put("b.jsonl", lines(EVENT | {"event_id": "e2"}))
    listed = drop.listed["2026-03-01"]
    (path.parent / "_MANIFEST.json").write_text(json.dumps({"files": [*listed, listed[1] | {"rows": 99}]}))
    (ref,) = drop.catch_up()
    assert [r["event_id"] for r, _ in drop.records(ref)] == ["e1"]
    assert ref.facts["left_alone"] == {"dt=2026-03-01/b.jsonl": "listed more than once"}


def test_a_pipe_in_the_folder_blocks_nothing(drop):
    drop.put("a.jsonl", lines(EVENT))
    path = drop.put("b.jsonl", lines(EVENT))
    path.unlink()
    os.mkfifo(path)
    assert outcome(drop) == (["e1"], [])


def test_a_file_changed_while_it_is_read_is_set_aside_until_its_bytes_are_right(drop, monkeypatch):
    path = drop.put("a.jsonl", lines(EVENT, EVENT | {"event_id": "e2"}), rows=2)
    right = path.read_bytes()
    real = files.records_of

    def changing(*args, **more):
        path.write_bytes(right.replace(b"e2", b"e9"))
        return real(*args, **more)

    monkeypatch.setattr(files, "records_of", changing)
    assert outcome(drop) == ([], ["file set aside: was changed while it was read"])
    monkeypatch.setattr(files, "records_of", real)
    path.write_bytes(right)
    drop.put("b.jsonl", lines(EVENT))
    assert outcome(drop)[0][-1] == "e1"


def test_the_names_of_new_fields_are_kept_up_to_a_number(drop):
    drop.put("a.jsonl", lines(*(EVENT | {f"n{n}_{m}": 1 for m in range(60)} for n in range(100))), rows=100)
    (ref,) = drop.catch_up()
    assert len(ref.facts["drift"]["new_fields"]) == 1000
