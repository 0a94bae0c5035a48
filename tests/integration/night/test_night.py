"""Nights and a month end without Airflow against a whole company: clean means clean, twice the same, and the ERP may
be down."""

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

pytestmark = [pytest.mark.server, pytest.mark.timeout(1500)]

DAY = "2026-03-29"
MONTH = "2026-03"
NIGHTS = (demo.NIGHTS[0], demo.NIGHTS[-1])
ENTITIES = ("US", "DE", "JP")
TABLES = ("journals", "journal_lines", "journal_drilldown")


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
def nights(work, clean_company):
    """Two nights, the one between them left out, and the month end: the facts of each run by business date or month."""
    facts = {}
    for day in NIGHTS:
        control.set_clock(clean_company.home, demo.night_clock(day))
        facts[str(day)] = steps.night(work, f"night {day}", str(day))
    control.set_clock(clean_company.home, demo.MONTH_END_CLOCK)
    return {**facts, MONTH: steps.month_end(work, "month end", MONTH)}


@pytest.fixture(scope="module")
def again(work, nights):
    """The first night once more, after the month end, and what the tables were before."""
    before = hashes(work)
    return before, {DAY: steps.night(work, f"again {DAY}", DAY)}


def hashes(work):
    published = work.store.published()
    return {t: result_hash(work.lake.read(t, published[t]), schema.table(t).key) for t in TABLES}


def from_vendors(facts):
    return [row for row in facts["records"] if row["step"] == "conform" and row["source"] != "erp"]


def test_a_clean_company_has_no_breaks_and_ties_every_night_and_at_month_end(work, nights):
    assert [b for day in NIGHTS for b in checking.breaks(work, day)] == []
    assert {name: facts["proof"]["ties"] for name, facts in nights.items()} == dict.fromkeys(nights, True)
    assert nights[MONTH]["backlog_rows"] == []
    assert all(facts["matches"] for name, facts in nights[DAY].items() if name.startswith("reconcile/"))


def test_every_entity_posts_and_reads_back_every_night_and_at_month_end(nights):
    for facts in nights.values():
        for entity in ENTITIES:
            counts = facts[f"posting/{entity}"]
            assert counts["posted"] == counts["read_back"] > 0


def test_rows_in_are_rows_out_merged_and_quarantined_per_source_object_and_step(work, nights, again):
    for facts in (*nights.values(), *again[1].values()):
        for row in facts["records"]:
            assert row["in"] == row["out"] + row["merged"] + row["quarantined"], row
        read = {f"extract/{source}": 0 for source in work.sources if source != "erp" and f"extract/{source}" in facts}
        for row in from_vendors(facts):
            read[f"extract/{row['source']}"] += row["in"]
        assert read == {step: facts[step]["records"] for step in read}
    assert sum(row["merged"] for row in from_vendors(nights[DAY])) > 0
    assert {row["step"] for row in nights[DAY]["records"]} == {"conform", "usage"}


def test_rows_of_each_side_of_a_reconciliation_are_matched_in_a_break_or_left_out(work, nights):
    totals = work.lake.read("totals", work.store.published()["totals"]).to_pylist()
    counted = {}
    for row in totals:
        for side in ("left_rows", "right_rows"):
            key = row["business_date"], row["definition_id"], row["legal_entity_id"], row["currency"], side
            signed = -row[side] if row["outcome"] == "all" else row[side]
            counted[key] = counted.get(key, 0) + signed
    assert len({definition for _, definition, *_ in counted}) == len(work.definitions)
    assert {key: rest for key, rest in counted.items() if rest} == {}


def test_a_second_pass_gives_the_same_results_and_posts_nothing(work, nights, again):
    before, second = again
    for day, facts in second.items():
        assert facts["result_hashes"] == nights[day]["result_hashes"]
        assert all(facts[f"posting/{entity}"]["posted"] == 0 for entity in ENTITIES)
        # files carry no clock: those that came since are read whatever the date
        assert {row["source"] for row in from_vendors(facts)} <= {"drop"}
        assert facts["proof"]["ties"] is True
    assert hashes(work) == before


def test_a_night_again_after_later_ones_reads_the_tables_as_they_were_and_says_so(nights, again):
    """Billing and CRM show only today's state of a record."""
    for day, facts in again[1].items():
        assert facts["as_was"] == f"night {day}"
        assert steps.AS_WAS in Path(facts["report"]["html"]).read_text(encoding="utf-8")


def test_the_report_shows_the_result_hashes(nights):
    page = Path(nights[MONTH]["report"]["html"]).read_text(encoding="utf-8")
    assert set(nights[MONTH]["result_hashes"]) == {"matches", "breaks", "totals", "journals", "journal_lines"}
    assert all(digest in page for digest in nights[MONTH]["result_hashes"].values())


def test_a_dry_run_of_dates_that_are_right_shows_nothing(work, nights):
    assert past_dates.preview_backfill(work, date.fromisoformat(DAY), date.fromisoformat(DAY), []).empty


def test_a_backfill_writes_who_asked_and_why_to_every_entitys_chain(work, nights):
    form = {"from_date": DAY, "to_date": DAY, "entities": ["US", "JP"], "mode": "post", "reason": "a test of the form"}
    request = past_dates.open_backfill(work, "backfill", form, "anna")
    assert [run["business_date"] for run in request["runs"]] == [DAY]
    assert past_dates.backfill_dry_run(work, request) == {"US": 0, "JP": 0}
    for chain in ("US/main", "JP/main"):
        (entry,) = [e for e in work.store.audit_entries(chain) if e.action == "backfill.requested"]
        assert (entry.actor, entry.payload["reason"]) == ("anna", "a test of the form")


def test_with_the_erp_down_everything_else_completes_and_batches_wait(work, again, clean_company):
    next_day = "2026-04-01"
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
