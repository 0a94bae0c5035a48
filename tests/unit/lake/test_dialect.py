"""SQL for Spark: what sqlglot would get wrong is put right, what nobody put right is refused. No Java needed."""

from __future__ import annotations

import pytest

from tieout.errors import DataError
from tieout.lake.dialect import Statement, for_spark
from tieout.usage.statements import statements


@pytest.mark.parametrize(
    ("duckdb", "spark"),
    [
        # Spark's own difference of months counts whole months, DuckDB's the month borders between
        ("SELECT datediff('month', a, b)", "SELECT ((YEAR(b) - YEAR(a)) * 12 + MONTH(b) - MONTH(a))"),
        ("SELECT a + to_months(CAST(n AS INTEGER))", "SELECT ADD_MONTHS(a, CAST(n AS INT))"),
        ("SELECT hash(a, b)", "SELECT XXHASH64(a, b)"),
        ("SELECT timezone(z, at)", "SELECT CONVERT_TIMEZONE('UTC', z, CAST(at AS TIMESTAMP_NTZ))"),
        (
            "SELECT timezone(z, CAST(day AS TIMESTAMP))",
            "SELECT CAST(CONVERT_TIMEZONE(z, 'UTC', CAST(day AS TIMESTAMP_NTZ)) AS TIMESTAMP_LTZ)",
        ),
        ("SELECT epoch_us(at) // 86400", "SELECT UNIX_MICROS(at) DIV 86400"),
        ("SELECT CAST(a // b AS DECIMAL(28, 0))", "SELECT CAST((a - a % b) / b AS DECIMAL(28, 0))"),
        ("SELECT CAST(a AS HUGEINT)", "SELECT CAST(a AS DECIMAL(38, 0))"),
        ("SELECT a FROM t ORDER BY a", "SELECT a FROM t ORDER BY a NULLS LAST"),
        ("SELECT a FROM t ORDER BY a DESC", "SELECT a FROM t ORDER BY a DESC"),
        ("SELECT struct_pack(at := a, id := b)", "SELECT STRUCT(a AS at, b AS id)"),
        ("SELECT CAST(NULL AS TIMESTAMPTZ), CAST(a AS VARCHAR)", "SELECT CAST(NULL AS TIMESTAMP), CAST(a AS STRING)"),
        ("SELECT strftime(at, '%Y-%m-%d %H:%M:%S')", "SELECT DATE_FORMAT(at, 'yyyy-MM-dd HH:mm:ss')"),
        ("SELECT a FROM t WHERE b < $until", "SELECT a FROM t WHERE b < :until"),
        ("SELECT left(sha256(a), 16)", "SELECT LEFT(SHA2(a, 256), 16)"),
    ],
)
def test_a_query_means_the_same_in_spark(duckdb, spark):
    assert for_spark(duckdb) == (Statement(spark),)


def test_tables_are_kept_views_are_not_and_both_are_dropped_by_name():
    made = for_spark(
        "CREATE OR REPLACE TEMP TABLE a AS SELECT 1; CREATE TEMP VIEW b AS SELECT 2; DROP TABLE IF EXISTS a"
    )
    assert made == (Statement("SELECT 1", "a", kept=True), Statement("SELECT 2", "b"), Statement("", "a", drops=True))


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT parquet_file_metadata('x')",
        "SELECT * REPLACE (1 AS a) FROM t",
        "SELECT a FROM t WHERE unheard_of(a)",
        "INSERT INTO t SELECT 1",
        "CREATE TABLE t AS SELECT 1",
        "SELECT FROM WHERE",
    ],
)
def test_what_has_no_word_in_spark_is_refused(statement):
    with pytest.raises(DataError, match="Spark"):
        for_spark(statement)


@pytest.mark.parametrize(
    "name",
    [
        "held_prices",
        "references",
        "subscriptions",
        "dedup",
        "judged",
        "changes",
        "effective_events",
        "dated",
        "parts",
        "used_days",
        "periods",
        "summary",
    ],
)
def test_every_statement_of_usage_has_its_words(name):
    assert all(for_spark(statement) for statement in statements(name))
