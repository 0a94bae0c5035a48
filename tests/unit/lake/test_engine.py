"""The engine: UTC, exact decimals, views over tables and files, older files without newer columns."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tieout.errors import DataError
from tieout.lake.engine import engine


def test_sessions_run_in_utc_and_know_zones() -> None:
    with engine() as session:
        assert session.scalar("SELECT current_setting('TimeZone')") == "UTC"
        day = session.scalar("SELECT (TIMESTAMPTZ '2026-03-31 22:30:00Z' AT TIME ZONE 'Europe/Berlin')::DATE::VARCHAR")
        assert day == "2026-04-01"


def test_a_view_over_files_written_before_a_column_existed_has_it_as_null(tmp_path: Path) -> None:
    old, new = tmp_path / "old.parquet", tmp_path / "new.parquet"
    pq.write_table(pa.table({"a": [1]}), old)
    pq.write_table(pa.table({"a": [2], "b": ["x"]}), new)
    shape = pa.schema([("a", pa.int64()), ("b", pa.string()), ("c", pa.decimal128(18, 4))])
    with engine() as session:
        session.bind("t", [old, new], shape)
        assert session.rows("SELECT * FROM t ORDER BY a") == [(1, None, None), (2, "x", None)]
        session.bind("t", [], shape)
        assert session.sql("SELECT * FROM t").column_names == ["a", "b", "c"]


def test_a_view_can_be_bound_again_as_a_table_or_as_files(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1]}), tmp_path / "f.parquet")
    with engine() as session:
        for _ in range(2):
            session.bind("t", pa.table({"a": [5]}))
            assert session.scalar("SELECT a FROM t") == 5
            session.bind("t", tmp_path / "f.parquet")
            assert session.scalar("SELECT a FROM t") == 1


def test_a_file_that_was_replaced_is_read_anew_in_the_same_session(tmp_path: Path) -> None:
    path, old = tmp_path / "f.parquet", 1_700_000_000  # long ago, so what is known of the file may be kept
    with engine() as session:
        for a in (1, 2, 3):
            pq.write_table(pa.table({"a": [a] * a}), tmp_path / "new.parquet")
            os.utime(tmp_path / "new.parquet", (old + a, old + a))
            (tmp_path / "new.parquet").replace(path)
            session.bind("t", path)
            for _ in range(2):
                assert session.rows("SELECT min(a), max(a), count(*) FROM t") == [(a, a, a)]


def test_a_name_that_is_not_an_identifier_is_refused() -> None:
    with engine() as session, pytest.raises(DataError, match="not a name"):
        session.bind("t; DROP TABLE x", pa.table({"a": [1]}))


def test_the_scratch_folder_goes_with_the_session() -> None:
    with engine() as session:
        spooled = session.spool("SELECT 1 AS a")
        assert spooled.exists()
    assert not spooled.exists()


def test_a_copy_is_whole_or_not_there(tmp_path: Path) -> None:
    import duckdb

    with engine() as session, pytest.raises(duckdb.Error):
        session.copy("SELECT error('broken') FROM range(10)", tmp_path / "out.parquet")
    assert not (tmp_path / "out.parquet").exists()


def test_a_session_sees_nothing_of_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "f.parquet"
    pq.write_table(pa.table({"a": [1]}), path)
    with engine() as session:
        session.execute("CREATE TEMP TABLE made AS SELECT 1 AS a; CREATE TEMP MACRO twice(a) AS 2 * a")
        session.bind("bound", pa.table({"a": [1]}))
        session.bind("file", path)
        assert session.scalar("SELECT twice(a) FROM made JOIN bound USING (a) JOIN file USING (a)") == 2
    pq.write_table(pa.table({"a": [2]}), path)
    with engine() as session:
        assert session.rows("SELECT table_name FROM duckdb_tables() UNION SELECT view_name FROM duckdb_views() "
                            "WHERE NOT internal") == []  # fmt: skip
        assert session.rows("SELECT function_name FROM duckdb_functions() WHERE function_name = 'twice'") == []
        session.bind("file", path)
        assert session.scalar("SELECT a FROM file") == 2


def test_each_of_two_sessions_at_once_has_its_limits_for_itself() -> None:
    with engine(memory_limit="101MB") as outer, engine(memory_limit="101MB") as inner:
        # each needs more than half of the limit in memory; the size is set for the whole instance, which is of 101 MB
        for session in (outer, inner):
            session.execute("SET max_temp_directory_size = '0B'; CREATE TEMP TABLE t AS FROM range(8_000_000)")
        assert outer.scalar("SELECT count(*) FROM t") == inner.scalar("SELECT count(*) FROM t") == 8_000_000


def test_what_a_session_spilled_goes_with_it_and_the_next_one_may_spill_too() -> None:
    for _ in range(2):
        with engine(memory_limit="60MB") as session:
            session.execute("CREATE TEMP TABLE t AS SELECT range AS a, random() AS b FROM range(8_000_000)")
            assert any((session.scratch / "spill").iterdir())
        assert not session.scratch.exists()


def test_after_an_error_the_next_session_works() -> None:
    import duckdb

    with pytest.raises(duckdb.Error), engine() as session:
        session.execute("SELECT error('broken')")
    with engine() as session:
        assert session.scalar("SELECT 1") == 1


def test_a_forked_process_has_sessions_of_its_own() -> None:
    with engine() as session:
        session.scalar("SELECT 1")
    pid = os.fork()
    if pid == 0:
        with engine() as session:
            found = session.scalar("SELECT count(*) FROM range(1_000_000)")
        os._exit(0 if found == 1_000_000 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
