"""Nights without Airflow against the whole company: twice the same, clean means clean, and the ERP may be down."""

import os
from datetime import date
from pathlib import Path

import pytest

from tieout import schema
from tieout.errors import ErpUnavailable
from tieout.lake.hashing import result_hash
from tieout.orchestration import checking, closing, intake, past_dates, planning, posting, steps
from tieout.orchestration.work import Work
from tieout.settings import Settings
from tieout.store import Store
from tieout_sandbox import control, demo, processes

pytestmark = [pytest.mark.server, pytest.mark.timeout(900)]

DAY = "2026-03-29"
RESULTS = ("breaks", "totals", "matches", "journals", "journal_lines", "journal_drilldown", "usage_summary")


@pytest.fixture(scope="module")
def clean_company(tmp_path_factory):
    """A company nobody planted anything in, with an ERP of its own."""
    home = tmp_path_factory.mktemp("company")
    state = control.up(home, clean=True, now=demo.night_clock(demo.NIGHTS[0]))
    try:
        yield state
    finally:
        control.down(home)


@pytest.fixture(scope="module")
def work(clean_company, tmp_path_factory):
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("TIEOUT_", "AIRFLOW"))}
    home = str(tmp_path_factory.mktemp("home"))
    settings = Settings.from_env({**ours, "TIEOUT_HOME": home, "TIEOUT_CONFIG": str(demo.CONFIG)})
    Store(settings.store).upgrade()
    return Work(settings, clean_company.connection)


@pytest.fixture(scope="module")
def first(work):
    return steps.night(work, "first", DAY)


def hashes(work, run_id):
    published = work.store.published(run_id)
    return {t: result_hash(work.lake.read(t, published[t]), schema.table(t).key) for t in RESULTS if t in published}


def test_a_clean_company_has_no_breaks(work, first):
    assert checking.breaks(work, date.fromisoformat(DAY)) == []
    assert first["proof"]["ties"] is True


def test_every_entity_posts_and_reads_back(first):
    for entity in ("US", "DE", "JP"):
        counts = first[f"posting/{entity}"]
        assert counts["posted"] == counts["read_back"] > 0


def test_rows_in_are_rows_out_and_quarantined(first):
    extracted = sum(
        facts["records"] for name, facts in first.items() if name.startswith("extract/") and "erp" not in name
    )
    conform = first["conform"]
    assert extracted == conform["read"] == conform["rows"] + conform["merged"] + conform["quarantined"]


def test_a_second_run_of_the_date_gives_the_same_tables_and_posts_nothing(work, first):
    before = hashes(work, "first")
    again = steps.night(work, "again", DAY)
    assert hashes(work, "again") == before
    assert all(again[f"posting/{entity}"]["posted"] == 0 for entity in ("US", "DE", "JP"))
    assert all(
        facts["records"] == 0 for name, facts in again.items() if name.startswith("extract/") and "erp" not in name
    )


def test_a_dry_run_of_dates_that_are_right_shows_nothing(work, first):
    assert past_dates.preview_backfill(work, date.fromisoformat(DAY), date.fromisoformat(DAY), []) == []


def test_a_backfill_writes_who_asked_and_why_to_every_entitys_chain(work, first):
    form = {"from_date": DAY, "to_date": DAY, "entities": ["US", "JP"], "mode": "post", "reason": "a test of the form"}
    request = past_dates.open_backfill(work, "backfill", form, "anna")
    assert [run["business_date"] for run in request["runs"]] == [DAY]
    assert past_dates.backfill_dry_run(work, request) == {"US": 0, "JP": 0}
    for chain in ("US/main", "JP/main"):
        (entry,) = [e for e in work.store.audit_entries(chain) if e.action == "backfill.requested"]
        assert (entry.actor, entry.payload["reason"]) == ("anna", "a test of the form")


def test_with_the_erp_down_everything_else_completes_and_batches_wait(work, first, clean_company):
    next_day = "2026-03-30"
    control.set_clock(clean_company.home, demo.night_clock(date.fromisoformat(next_day)))
    processes.stop(clean_company.processes["tryton"])
    steps.open_run(work, "down", "nightly", next_day)
    for source in work.sources.values():
        if source.kind != "erp":
            intake.extract(work, "down", source.name, next_day)
    intake.conform(work, "down")
    checking.quality_gate(work, "down", next_day)
    checking.aggregate_usage(work, "down", next_day)
    checking.reconcile_sources(work, "down", next_day)
    assert planning.plan_journals(work, "down", next_day)["batches"] > 0

    due = [run["conf"]["batch_id"] for run in posting.resume_posting(work, "down")]
    assert due
    for batch_id in due[:1]:
        with pytest.raises(ErpUnavailable):
            posting.submit(work, batch_id)
    assert posting.posting_result(work, "down", due)["US"]["posted"] == 0
    with pytest.raises(ErpUnavailable):
        intake.read_ledger(work, "down", next_day)

    checking.reconcile_ledger(work, "down", next_day, ledger_read=False)
    paths = closing.report(work, "down", next_day)
    assert "could not be read" in Path(paths["html"]).read_text(encoding="utf-8")
    assert work.store.run("down").state == "unproven"
    assert {run["conf"]["batch_id"] for run in posting.resume_posting(work, "down")} == set(due)


def test_a_night_run_again_after_a_later_one_finds_what_it_found_that_night(work, first, clean_company):
    """Billing and CRM show only today's state of a record: the tables are read as they were that night."""

    def found(run_id):
        version = work.store.published(run_id)
        sides = [d for d in work.definitions if d not in checking.LEDGER_SIDE]
        tables = {t: work.lake.read(t, version[t]).to_pylist() for t in ("matches", "totals", "breaks")}
        return {
            t: [r for r in rows if str(r["business_date"]) == DAY and r["definition_id"] in sides]
            for t, rows in tables.items()
        }

    def in_order(results):
        return {t: sorted(rows, key=str) for t, rows in results.items()}

    steps.open_run(work, "much_later", "nightly", DAY)
    assert work.store.facts("much_later")["as_was"] in ("first", "again")
    for source in work.sources.values():
        if source.kind != "erp":
            intake.extract(work, "much_later", source.name, DAY)
    intake.conform(work, "much_later")
    checking.reconcile_sources(work, "much_later", DAY)
    assert in_order(found("much_later")) == in_order(found("first"))
    paths = closing.report(work, "much_later", DAY)
    assert steps.AS_WAS in Path(paths["html"]).read_text(encoding="utf-8")
