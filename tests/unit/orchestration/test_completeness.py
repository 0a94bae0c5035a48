"""A side that cannot be vouched for is told with its reason, and nothing on it is taken for resolved."""

from datetime import UTC, date, datetime
from importlib import import_module
from types import SimpleNamespace

import pyarrow as pa
import pytest

from tieout.breaks.inputs import side_queries, tables_of
from tieout.lake.landing import ControlTotal
from tieout.orchestration import checking
from tieout.orchestration.completeness import (
    Gap,
    SourceGaps,
    journal_gaps,
    keep_gaps,
    stale_sources,
    unproven_sentences,
)
from tieout.orchestration.work import Work
from tieout.reconcile import load_definition
from tieout.settings import SHIPPED_CONFIG, Settings
from tieout.store import batches
from tieout_sandbox import demo

DAY = date(2026, 3, 29)
RECEIVABLE = "invoice_to_receivable"


@pytest.fixture
def work(tmp_path):
    made = Work(Settings(tmp_path, demo.CONFIG, str(tmp_path / "lake"), f"sqlite:///{tmp_path / 'store.sqlite'}"))
    made.store.upgrade()
    made.store.start_run("r", "nightly", DAY)
    return made


def read_to(work, *, usage=datetime(2026, 3, 30, tzinfo=UTC), other=datetime(2026, 3, 30, 8, tzinfo=UTC)):
    for source in work.sources.values():
        for name in source.objects:
            end = usage if source.kind == "files" else other
            value = {"sequence": 1, "hi": end.isoformat(), "feed": {}}
            work.store.set_watermark(f"source/{source.name}/{name}", value, 0)


def batch(work, state, stream="billing", entity="DE", day=DAY):
    slot = batches.Slot(entity, "main", "2026-03", stream, day)
    now = datetime(2026, 3, 30, tzinfo=UTC)
    with work.store.transaction() as session:
        made = batches.plan(
            session, slot, 1, [], digest="a" * 64, accounting_date=day, kind="original", origin=None,
            needs_approval=False, run_id="r", actor="t", now=now,
        )  # fmt: skip
        session.get(batches.BatchRow, made.batch_id).state = state


def breaks(*rows):
    columns = {"legal_entity_id": [entity for entity, _ in rows], "break_key": [key for _, key in rows]}
    return pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})


@pytest.fixture
def asked(monkeypatch):
    """What each reconciliation is told of its sides; `found` are the breaks it gives."""
    noted = SimpleNamespace(sides={}, found=breaks())

    def run(name, day, **options):
        noted.sides[name] = (options["sides_complete"], options["unproven_entities"])
        return SimpleNamespace(summary=SimpleNamespace(matched=0, breaks=0), breaks=noted.found)

    monkeypatch.setattr(import_module("tieout.breaks.run"), "run", run)
    return noted


def test_a_date_that_was_read_to_its_end_leaves_no_gap(work):
    read_to(work)
    assert [gap for name in work.definitions for gap in SourceGaps(work, DAY).of(name)] == []


def test_a_source_read_too_short_is_named_with_its_times(work):
    read_to(work, other=datetime(2026, 3, 29, 22, tzinfo=UTC))
    (gap, *_) = SourceGaps(work, DAY).of("case_to_contract")
    assert "read up to 2026-03-29 22:00 UTC only, the date ended 2026-03-30 07:00 UTC" in gap.reason


def test_usage_files_of_the_date_that_have_not_come_are_a_gap_of_usage_alone(work):
    read_to(work, usage=datetime(2026, 3, 29, tzinfo=UTC))
    assert SourceGaps(work, DAY).of("usage_to_billing") != []
    assert SourceGaps(work, DAY).of("payment_to_invoice") == []


def test_a_source_behind_the_end_of_a_month_is_stale(work):
    assert {s.until for _, s in stale_sources(work, DAY)} == {None}  # nothing was ever read
    read_to(work, usage=datetime(2026, 3, 30, tzinfo=UTC), other=datetime(2026, 3, 29, 22, tzinfo=UTC))
    found = {source.kind: s.until for source, s in stale_sources(work, DAY)}
    assert found == dict.fromkeys(("stripe", "salesforce", "zendesk"), date(2026, 3, 29))


def test_a_figure_of_the_vendor_that_contradicts_what_was_read_is_a_gap(work, monkeypatch):
    read_to(work)
    control = ControlTotal("Zendesk's count", {"count": "120"}, {"count": "118"}, approximate=True)
    monkeypatch.setattr("tieout.sources.extract.last_extract", lambda *args: SimpleNamespace(control=control))
    gaps = SourceGaps(work, DAY).of("case_to_contract")
    assert any("Zendesk's count says count 120, read were count 118" in gap.reason for gap in gaps)


def test_a_reconciliation_depends_on_the_tables_it_reads_and_no_others(work):
    definition = load_definition(SHIPPED_CONFIG / "reconciliations" / f"{RECEIVABLE}.yaml")
    read = set(tables_of(side_queries(work.settings, definition)))
    assert {"invoice", "gl_entry", "journal_drilldown"} <= read
    assert "case" not in read  # CASE is a word of SQL


def test_without_the_ledger_read_our_journals_prove_nothing(work):
    (gap,) = journal_gaps(work, DAY, None)
    assert gap.entities == ()
    assert "not read after posting" in gap.reason


@pytest.mark.parametrize("state", ["mismatched", "unknown", "confirmed", "partially_posted"])
def test_a_journal_not_known_to_stand_in_the_ledger_is_a_gap_of_its_entity(work, state):
    batch(work, state)
    (gap,) = journal_gaps(work, DAY, breaks())
    assert gap.entities == ("DE",)
    assert gap.reason == f"the journal billing of 2026-03-29 is {state.replace('_', ' ')}"


def test_neither_posted_journals_nor_those_of_cash_or_of_later_dates_are_gaps(work):
    batch(work, "posted")
    batch(work, "mismatched", stream="cash")
    batch(work, "mismatched", entity="US", day=date(2026, 3, 30))
    assert journal_gaps(work, DAY, breaks()) == []


def test_where_a_posted_journal_differs_from_the_ledger_its_entity_is_unproven(work, asked):
    read_to(work)
    asked.found = breaks(("US", "TIEOUT/US/main/2026-03/billing/2026-03-29/v1|2"), ("US", "rent|1"))
    checking.reconcile_ledger(work, "r", DAY.isoformat(), ledger_read=True)
    assert list(asked.sides.items()) == [("journal_to_ledger", (True, set())), (RECEIVABLE, (True, {"US"}))]
    assert unproven_sentences(work.store.facts("r")) == [
        "Invoices against receivables, unproven for US: the journal billing of 2026-03-29 differs from the ledger."
    ]
    asked.found = breaks()
    checking.reconcile_ledger(work, "r", DAY.isoformat(), ledger_read=True)
    assert unproven_sentences(work.store.facts("r")) == []  # run again with the ledger mended


def test_with_the_ledger_unread_nothing_on_it_is_taken_for_resolved(work, asked):
    read_to(work)
    checking.reconcile_ledger(work, "r", DAY.isoformat(), ledger_read=False)
    assert asked.sides == {RECEIVABLE: (False, set())}
    assert len(unproven_sentences(work.store.facts("r"))) == 2


def test_what_is_kept_names_the_entities(work):
    keep_gaps(work, "r", RECEIVABLE, [Gap("something is missing", ("DE", "US"))])
    assert unproven_sentences(work.store.facts("r")) == [
        "Invoices against receivables, unproven for DE, US: something is missing."
    ]
