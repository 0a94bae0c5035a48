"""The peers' own runs, in the peers' own environment: this file imports nothing of Tieout.

`python peers.py NAME FOLDER` compares `FOLDER/left/*.parquet` with `FOLDER/right/*.parquet` by invoice number and
entity, writes what differs beside them and prints seconds and memory as JSON. Imports do not count.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

KEYS = ["invoice_no", "legal_entity_id"]
USAGE = ["source", "event_id", "subscription_source_id", "meter", "quantity", "occurred_at", "received_at"]
COMPARED = ["currency", "amount", "issued_on", "status", "region"]


def datacompy_polars(folder: Path) -> Callable[[], int]:
    import datacompy
    import polars as pl

    def run() -> int:
        left, right = (
            pl.read_parquet(f"{folder}/{side}/*.parquet").with_columns(pl.col("amount").cast(pl.Float64))
            for side in ("left", "right")
        )
        compared = datacompy.PolarsCompare(left, right, join_columns=KEYS, abs_tol=0.0101)
        return len(compared.df1_unq_rows) + len(compared.df2_unq_rows) + len(compared.all_mismatch())

    return run


def datacompy_pandas(folder: Path) -> Callable[[], int]:
    import datacompy

    def run() -> int:
        left, right = (_frame(folder, side) for side in ("left", "right"))
        compare = getattr(datacompy, "PandasCompare", None) or datacompy.Compare
        compared = compare(left, right, join_columns=KEYS, abs_tol=0.0101)
        return len(compared.df1_unq_rows) + len(compared.df2_unq_rows) + len(compared.all_mismatch())

    return run


def pandas_merge(folder: Path) -> Callable[[], int]:
    import pandas  # noqa: F401  an import does not count

    def run() -> int:
        merged = _frame(folder, "left").merge(
            _frame(folder, "right"), on=KEYS, how="outer", indicator=True, suffixes=("_left", "_right")
        )
        differs = merged["_merge"] != "both"
        differs |= (merged["amount_left"] - merged["amount_right"]).abs() > 0.0101
        for column in ("currency", "issued_on", "status", "region"):
            differs |= merged[f"{column}_left"].ne(merged[f"{column}_right"])
        found = merged[differs].drop(columns="_merge")
        found.to_parquet(folder / "pandas_merge.parquet")
        merged.groupby(["legal_entity_id", "currency_left"])["amount_left"].agg(["size", "sum"])
        merged.groupby(["legal_entity_id", "currency_right"])["amount_right"].agg(["size", "sum"])
        return len(found)

    return run


def polars_join(folder: Path) -> Callable[[], int]:
    import polars as pl

    def run() -> int:
        left, right = (pl.scan_parquet(f"{folder}/{side}/*.parquet") for side in ("left", "right"))
        joined = left.with_columns(in_left=True).join(
            right.with_columns(in_right=True), on=KEYS, how="full", coalesce=True, suffix="_right"
        )
        differs = pl.col("in_left").is_null() | pl.col("in_right").is_null()
        differs |= (pl.col("amount") - pl.col("amount_right")).abs().cast(pl.Float64) > 0.0101
        for column in ("currency", "issued_on", "status", "region"):
            differs |= pl.col(column) != pl.col(f"{column}_right")
        totals = [
            joined.group_by("legal_entity_id", f"currency{end}").agg(pl.len(), pl.col(f"amount{end}").sum())
            for end in ("", "_right")
        ]
        found, *_ = pl.collect_all([joined.filter(differs), *totals], engine="streaming")
        found.write_parquet(folder / "polars_join.parquet")
        return len(found)

    return run


def reladiff(folder: Path) -> Callable[[], int]:
    import duckdb

    database = folder / "reladiff.duckdb"
    if not database.exists():  # it reads tables, not files
        with duckdb.connect(str(database)) as connection:
            for side in ("left", "right"):
                connection.execute(f"CREATE TABLE side_{side} AS FROM '{folder}/{side}/*.parquet'")

    def run() -> int:
        columns = [part for column in COMPARED for part in ("-c", column)]
        keys = [part for key in KEYS for part in ("-k", key)]
        command = [Path(sys.executable).with_name("reladiff"), f"duckdb:///{database}", "side_left", "side_right"]
        options = ["--assume-unique-key", "--stats", "--json"]
        done = subprocess.run([*command, *keys, *columns, *options], capture_output=True, text=True, check=True)
        return int(json.loads(done.stdout).get("total", 0))

    return run


def pandas_usage(folder: Path) -> Callable[[], int]:
    import pandas as pd
    import pyarrow as pa
    import pyarrow.dataset as ds

    def run() -> int:
        read = ds.dataset(sorted((folder / "events").glob("*.parquet"))).to_table(columns=USAGE)
        at = read.schema.get_field_index("quantity")
        events = read.set_column(at, "quantity", read["quantity"].cast(pa.float64())).to_pandas()
        first = events.sort_values("received_at").drop_duplicates(["source", "event_id"])
        joined = first.merge(_zoned(folder).to_pandas(), on="subscription_source_id")
        joined["day"] = joined["occurred_at"].dt.tz_localize(None).dt.floor("D")
        for zone, rows in joined.groupby("zone").groups.items():
            local = joined.loc[rows, "occurred_at"].dt.tz_convert(zone).dt.tz_localize(None)
            joined.loc[rows, "day"] = local.dt.floor("D").astype(joined["day"].dtype)
        start = joined["day"].dt.to_period("M") - (joined["day"].dt.day < joined["anchor"]).astype("int64")
        joined["period"] = start.dt.start_time + pd.to_timedelta(joined["anchor"] - 1, unit="D")
        keys = ["subscription_source_id", "meter"]
        for grain in ("day", "period"):
            summed = joined.groupby([*keys, grain])["quantity"].agg(["sum", "size"]).reset_index()
            summed.to_parquet(folder / f"pandas_usage_{grain}.parquet")
        return len(first)

    return run


def polars_usage(folder: Path) -> Callable[[], int]:
    import polars as pl

    def run() -> int:
        found = pl.scan_parquet(f"{folder}/events/*.parquet").select(USAGE)
        kept = [pl.col(c).first() for c in ("subscription_source_id", "meter", "quantity", "occurred_at")]
        first = found.group_by("source", "event_id").agg(*kept, pl.col("received_at").min())
        zoned = first.join(pl.from_arrow(_zoned(folder)).lazy(), on="subscription_source_id")
        at = pl.col("occurred_at")
        local = pl.coalesce(
            pl.when(pl.col("zone") == zone).then(at.dt.convert_time_zone(zone).dt.date())
            for zone in ("America/Los_Angeles", "Europe/Berlin", "Asia/Tokyo", "Australia/Sydney")
        )
        day, anchor = pl.col("day"), pl.col("anchor")
        before = day.dt.truncate("1mo").dt.offset_by("-1mo")
        period = pl.when(day.dt.day() >= anchor).then(day.dt.truncate("1mo")).otherwise(before)
        dated = zoned.with_columns(day=local).with_columns(period=period + pl.duration(days=anchor - 1))
        keys = ["subscription_source_id", "meter"]
        days = dated.group_by(*keys, "day", "period").agg(pl.col("quantity").sum(), pl.len().alias("events"))
        rows = days.collect(engine="streaming")
        rows.write_parquet(folder / "polars_usage_day.parquet")
        sums = rows.group_by(*keys, "period").agg(pl.col("quantity").sum(), pl.col("events").sum())
        sums.write_parquet(folder / "polars_usage_period.parquet")
        return int(rows["events"].sum())

    return run


def _zoned(folder: Path):
    """Subscriptions with their zones and the day of the month they are billed on."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    read = pq.read_table(folder / "subscription.parquet")
    zones = {"US": "America/Los_Angeles", "DE": "Europe/Berlin", "JP": "Asia/Tokyo"}
    own = pa.array([zones[entity] for entity in read["legal_entity_id"].to_pylist()])
    columns = [
        read["source_id"],
        pc.coalesce(read["zone"], own),
        pc.min_element_wise(pc.day(read["billing_anchor"]), 28),
    ]
    return pa.table(columns, names=["subscription_source_id", "zone", "anchor"])


def _frame(folder: Path, side: str):
    import pyarrow as pa
    import pyarrow.dataset as ds

    table = ds.dataset(sorted((folder / side).glob("*.parquet"))).to_table()
    at = table.schema.get_field_index("amount")
    return table.set_column(at, "amount", table["amount"].cast(pa.float64())).to_pandas(date_as_object=False)


RUNS = {
    "datacompy Polars": datacompy_polars,
    "datacompy pandas": datacompy_pandas,
    "pandas merge": pandas_merge,
    "Polars join": polars_join,
    "reladiff": reladiff,
    "pandas usage": pandas_usage,
    "Polars usage": polars_usage,
}


def main() -> None:
    run = RUNS[sys.argv[1]](Path(sys.argv[2]))
    start, used = time.monotonic(), time.process_time()
    found = run()
    figures = {"wall_s": time.monotonic() - start, "cpu_s": time.process_time() - used, "found": found}
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print(json.dumps({**figures, "peak_mb": peak >> 10}))


if __name__ == "__main__":
    main()
