import csv
from datetime import UTC, date, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sample import DAY, KEY, broken, sample

from tieout import schema
from tieout.entities import load_entities
from tieout.lake.engine import engine
from tieout.lake.landing import ControlTotal, Landing
from tieout.lake.tables import Lake
from tieout.reports.export import export
from tieout.reports.gather import gather
from tieout.settings import SHIPPED_CONFIG
from tieout.store import Store


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    root = tmp_path_factory.mktemp("home")
    data, lake = sample(), Lake(root / "lake")
    rows = {
        "breaks": [
            *data.breaks,
            broken("tomorrow", "amount", "1", business_date=date(2026, 3, 30)),
        ],
        "totals": data.totals,
        "journals": [
            *data.journals,
            {**data.journals[0], "run_key": KEY.replace("-29/v1", "-28/v1"), "business_date": date(2026, 3, 28)},
        ],
        "journal_lines": data.journal_lines,
        "journal_drilldown": data.drilldown,
        "journal_held": [
            {"event_id": "invoice:1", "event_date": DAY, "currency": "EUR"},
            {"event_id": "release:1", "event_date": date(2026, 3, 31), "currency": "EUR"},
        ],
        "quarantine": [
            {**data.quarantine[0], "record_digest": run, "raw_ref": run, "first_seen_run": run}
            for run in ("night 28", "night 29", "night 30", "by hand")
        ],
    }
    counts = {"source": "stripe_us", "object": "invoices", "records": 10, "rows": 9, "merged": 0, "quarantined": 1}
    rows["conformed_extracts"] = [
        {**counts, "extract_id": run, "run_id": run} for run in ("night 28", "night 29", "night 30")
    ]
    snapshot = {}
    for table, values in rows.items():
        plain = [_full(table, row) for row in values]
        snapshot[table] = lake.write(table, pa.Table.from_pylist(plain, schema.table(table).arrow))
    return root, lake, snapshot


NOON = datetime(2026, 3, 29, 12, tzinfo=UTC)


def _full(table, row):
    """A row of the table's schema, with something in every required column the sample leaves out."""
    zero = {"int": 1, "text": "", "bool": False, "date": DAY, "money": 0, "sum": 0, "instant": NOON}
    return {
        c.name: row.get(c.name) if row.get(c.name) is not None or not c.required else zero[c.kind]
        for c in schema.table(table).columns
    }


def test_a_report_shows_its_own_date_and_earlier_journals_that_are_not_done(home):
    root, lake, snapshot = home
    store = Store(f"sqlite:///{root}/store.sqlite")
    store.upgrade()
    landing = Landing(root / "raw")
    extract = landing.open("stripe_us", "invoices", window_lo=None, window_hi=NOON, extract_id="x", sequence=1)
    extract.commit(ControlTotal("no second listing"))
    for day in (28, 29, 30):
        store.start_run(f"night {day}", "nightly", date(2026, 3, day))
    with engine() as session:
        data = gather(
            DAY,
            engine=session,
            lake=lake,
            snapshot=snapshot,
            landing=landing,
            store=store,
            entities=load_entities(SHIPPED_CONFIG / "entities.yaml"),
            title="Northwind",
            definitions={},
            sources=["stripe_us"],
        )
    assert {b["break_key"] for b in data.breaks} == {b["break_key"] for b in sample().breaks}
    assert [(j["business_date"].day, j["state"]) for j in data.journals] == [(28, "planned"), (29, "planned")]
    assert len(data.journal_lines) == 2
    assert [h["event_id"] for h in data.held] == ["invoice:1"]
    assert [q["raw_ref"] for q in data.quarantine] == ["by hand", "night 28", "night 29"]
    (invoices,) = data.sources
    assert (invoices["records"], invoices["kept"], invoices["quarantined"]) == (20, 18, 2)
    assert (invoices["control"], invoices["control_how"]) == ("unproven", "no second listing")
    assert data.entities == {"US": "USD", "DE": "EUR", "JP": "JPY"}


def test_result_tables_leave_as_parquet_and_formula_safe_csv(home, tmp_path):
    _, lake, snapshot = home
    with engine() as session:
        files = export(DAY, tmp_path, engine=session, lake=lake, snapshot=snapshot)
    assert {f.name for f in files} >= {"breaks.parquet", "breaks.csv", "journal_drilldown.csv"}
    assert pq.read_schema(tmp_path / "breaks.parquet").field("value").type == pa.decimal128(38, 6)
    rows = list(csv.DictReader((tmp_path / "breaks.csv").read_text().splitlines()))
    assert len(rows) == len(sample().breaks)
    assert "'=HYPERLINK(1)" in {r["break_key"] for r in rows}
    assert pq.read_table(tmp_path / "journal_lines.parquet").num_rows == 2
