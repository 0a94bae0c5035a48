"""What the demo must show: every planted break and no other, journals posted once and proved, references in XCom."""

import html
import json
import re
import sqlite3
from collections import defaultdict
from datetime import date
from decimal import Decimal
from pathlib import Path

import psutil
import pytest

from tieout.entities import load_entities
from tieout.lake.landing import Landing
from tieout.lake.tables import Lake
from tieout.settings import Settings
from tieout.store import Store
from tieout.store.golive import opening
from tieout_sandbox.demo import CONFIG

pytestmark = [pytest.mark.server, pytest.mark.timeout(1600)]

FIELDS = {
    "business_date", "extracted", "conformed", "quarantined", "breaks", "precision", "recall", "journals",
    "trial_balance_ties", "seconds",
}  # fmt: skip


def test_it_covers_three_nights_and_the_month_end(demo):
    assert [r["business_date"] for r in demo.summary["runs"]] == ["2026-03-29", "2026-03-30", "2026-03-31"]
    assert demo.summary["month_end"]["period"] == "2026-03"
    for run in demo.summary["runs"]:
        assert set(run) >= FIELDS


def test_every_planted_break_is_found_and_none_invented(demo):
    for run in demo.summary["runs"]:
        wrong = {t: c for t, c in run["breaks"].items() if c["found"] != c["planted"] or c["invented"]}
        assert wrong == {}, run["business_date"]
        assert (run["precision"], run["recall"]) == (1, 1)


def test_the_answer_key_is_not_empty(demo):
    assert sum(c["planted"] for c in demo.summary["runs"][-1]["breaks"].values()) >= 13


def test_every_record_extracted_is_conformed_or_quarantined(demo):
    for run in demo.summary["runs"]:
        assert run["extracted"] == run["conformed"] + run["quarantined"]
        assert run["conformed"] == run["kept"] + run["merged"]
    assert demo.summary["runs"][0]["extracted"] > 1000
    assert sum(run["quarantined"] for run in demo.summary["runs"]) > 0
    assert sum(run["merged"] for run in demo.summary["runs"]) > 0


def test_records_in_are_records_out_merged_and_quarantined_per_source_object_and_step(demo):
    for run in (*demo.summary["runs"], demo.summary["month_end"]):
        wrong = [r for r in run["records"] if r["in"] != r["out"] + r["merged"] + r["quarantined"]]
        assert wrong == []
    for run in demo.summary["runs"]:
        read = dict.fromkeys(run["extracted_by_source"], 0)
        for row in run["records"]:
            if row["step"] == "conform" and row["source"] != "erp":
                read[row["source"]] += row["in"]
        assert read == run["extracted_by_source"]
        assert {row["step"] for row in run["records"]} == {"conform", "usage"}


def test_every_journal_is_read_back(demo):
    for run in (*demo.summary["runs"], demo.summary["month_end"]):
        for entity, counts in run["journals"].items():
            assert counts["posted"] == counts["read_back"], (run, entity)
    posted = {e for run in demo.summary["runs"] for e, c in run["journals"].items() if c["posted"]}
    assert posted == {"US", "DE", "JP"}


def test_every_entity_posts_every_night_and_at_month_end(demo):
    for run in (*demo.summary["runs"], demo.summary["month_end"]):
        assert set(run["journals"]) == {"US", "DE", "JP"}
        assert all(counts["posted"] > 0 for counts in run["journals"].values()), run


def test_the_trial_balance_ties_to_the_cent(demo):
    assert [run["trial_balance_ties"] for run in demo.summary["runs"]] == [True, True, True]
    assert demo.summary["month_end"]["trial_balance_ties"] is True


class Books:
    """What a demo left in its data root: the published tables, the store, the raw records."""

    def __init__(self, data: Path) -> None:
        self.settings = Settings.from_env({"TIEOUT_HOME": str(data), "TIEOUT_CONFIG": str(CONFIG)})
        self.store, self.landing = Store(self.settings.store), Landing(self.settings.raw)
        self.entities = load_entities(self.settings.config_file("entities.yaml")).entities

    def rows(self, table: str) -> list[dict]:
        """The published rows of a table."""
        return Lake(self.settings.lake).read(table, self.store.published()[table]).to_pylist()


@pytest.fixture(scope="module")
def books(demo) -> Books:
    return Books(demo.data)


def test_every_journal_line_is_the_sum_of_its_drilldown(books):
    sums = defaultdict(Decimal)
    for row in books.rows("journal_drilldown"):
        sums[row["run_key"], row["line_no"]] += row["amount"]
    lines = {(row["run_key"], row["line_no"]): row["amount"] for row in books.rows("journal_lines")}
    assert len(lines) > 100
    assert dict(sums) == lines
    assert {run_key for run_key, _ in lines} == {row["run_key"] for row in books.rows("journals")}


def test_every_drilldown_row_leads_to_the_record_it_came_from(books):
    found = sorted(books.rows("journal_drilldown"), key=lambda r: (r["run_key"], r["line_no"], r["event_id"], r["leg"]))
    assert len(found) > 1000
    assert all(row["raw_ref"] and row["source_id"] for row in found)
    events = defaultdict(list)
    for event in books.rows("usage_event"):
        events[f"{event['subscription_source_id']}/{event['meter']}/{event['usage_date']}"].append(event)
    for row in found[:: -(-len(found) // 200)]:
        record = books.landing.record(row["raw_ref"])
        if row["source"] == "usage_summary":  # a day of usage: its subscription's record, and its events' records
            assert row["source_id"].split("/")[0] in record, row
            assert events[row["source_id"]], row
            assert all(e["event_id"] in books.landing.record(e["raw_ref"]) for e in events[row["source_id"]][:3]), row
        else:
            assert row["source_id"] in record, row


def test_opening_and_posted_and_foreign_add_up_to_the_trial_balance(books):
    """Computed again from the tables alone: the ledger as read, our journal lines, the balances loaded at go-live."""
    dated = {row["run_key"]: (row["legal_entity_id"], row["accounting_date"]) for row in books.rows("journals")}
    lines, entries = books.rows("journal_lines"), [row for row in books.rows("gl_entry") if not row["is_deleted"]]
    balances = [row for row in books.rows("gl_balance") if not row["is_deleted"]]
    last, foreign_seen = max(row["on_date"] for row in balances), 0
    for entity in books.entities:
        with books.store.reading() as session:
            opened = opening(session, entity.id, entity.ledger)
        assert opened
        for day in sorted({row["on_date"] for row in balances}):
            expected = defaultdict(Decimal)
            for one in opened:
                expected[one.account, one.currency] += one.balance
            for line in lines:
                belongs, on = dated[line["run_key"]]
                if belongs == entity.id and on <= day:
                    signed = line["amount"] if line["side"] == "debit" else -line["amount"]
                    expected[line["account"], line["currency"]] += signed
            for entry in entries:
                theirs = entry["legal_entity_id"] == entity.id and entry["run_key"] not in dated
                if theirs and entity.go_live <= entry["accounting_date"] <= day:
                    expected[entry["account"], entry["currency"]] += entry["debit"] - entry["credit"]
                    foreign_seen += 1
            held = {
                (row["account"], row["currency"]): row["balance"]
                for row in balances
                if (row["legal_entity_id"], row["on_date"]) == (entity.id, day)
            }
            assert held
            zero = Decimal(0)
            gaps = {key: held.get(key, zero) - expected.get(key, zero) for key in {*held, *expected}}
            differences = {key: gap for key, gap in gaps.items() if gap}
            assert differences == {}, (entity.id, day)
    assert last == date(2026, 3, 31)
    assert foreign_seen > 0


def test_every_date_and_the_month_have_page_workbook_and_tables(demo):
    for name in ("2026-03-29", "2026-03-30", "2026-03-31", "2026-03"):
        folder = demo.data / "reports" / name
        assert (folder / "report.html").stat().st_size > 10_000
        assert (folder / "report.xlsx").read_bytes().startswith(b"PK")
        for table in ("breaks", "journals", "journal_lines", "journal_drilldown"):
            assert (folder / "tables" / f"{table}.parquet").exists()
            assert (folder / "tables" / f"{table}.csv").exists()


def test_the_last_nights_page_names_every_break(demo, books):
    page = html.unescape((demo.data / "reports" / "2026-03-31" / "report.html").read_text(encoding="utf-8"))
    keys = {row["break_key"] for row in books.rows("breaks") if row["business_date"] == date(2026, 3, 31)}
    assert len(keys) > 20
    assert [key for key in sorted(keys) if key not in page] == []


def test_a_second_pass_posts_nothing(demo):
    assert demo.summary["posted_on_second_run"] == 0
    assert "nothing posted" in demo.output
    counted = demo.summary["moves_in_erp"]  # by the ERP itself
    assert set(counted) == {"US", "DE", "JP"}
    assert all(moves["before"] == moves["after"] > 0 for moves in counted.values())
    assert all(c["posted"] == 0 for run in demo.summary["second_runs"] for c in run["journals"].values())


def test_a_second_pass_finds_what_the_first_found(demo):
    tables = {"matches", "breaks", "totals", "journals", "journal_lines"}
    for run, again in zip(demo.summary["runs"], demo.summary["second_runs"], strict=True):
        assert set(run["result_hashes"]) == tables
        assert again["business_date"] == run["business_date"]
        assert again["result_hashes"] == run["result_hashes"]
        assert again["same_results"] is True
        assert again["breaks"] == run["breaks"]
        assert (again["precision"], again["recall"]) == (1, 1)
        assert again["trial_balance_ties"] is True
    assert len({run["result_hashes"]["journals"] for run in demo.summary["runs"]}) == 3


def test_the_report_shows_the_result_hashes_of_its_run(demo):
    for run in (*demo.summary["second_runs"], demo.summary["month_end"]):
        folder = run.get("business_date") or run["period"]
        page = (demo.data / "reports" / folder / "report.html").read_text(encoding="utf-8")
        assert all(digest in page for digest in run["result_hashes"].values()), folder


def test_everything_is_stopped_at_the_end(demo):
    left = [
        p.info for p in psutil.process_iter(["pid", "cmdline"]) if str(demo.run) in " ".join(p.info["cmdline"] or [])
    ]
    assert left == []


def test_the_run_folder_belongs_to_its_owner_alone(demo):
    for folder in (demo.run, demo.run / "sandbox", demo.run / "airflow"):
        assert folder.stat().st_mode & 0o077 == 0, folder
    assert (demo.run / "airflow" / "passwords.json").stat().st_mode & 0o077 == 0
    assert not (demo.run / "sandbox" / "connections.json").exists()


def test_xcom_holds_short_references_and_no_amount(demo):
    with sqlite3.connect(f"file:{demo.run / 'airflow' / 'airflow.db'}?mode=ro", uri=True) as metadata:
        texts = [str(row[0]) for row in metadata.execute("SELECT value FROM xcom")]
    amounts = [text for text in texts if re.search(r"\d+\.\d{2}\b|\b(USD|EUR|JPY)\b", text)]
    assert amounts == []
    assert all(_is_reference(json.loads(text)) for text in texts)


def _is_reference(value) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_reference(one) for key, one in value.items())
    if isinstance(value, list):
        return all(map(_is_reference, value))
    return value is None or isinstance(value, int) or (isinstance(value, str) and len(value) <= 400)
