"""A past date computed again stands beside what that night found: its tables, its breaks and its report stay."""

from datetime import date
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tieout import schema
from tieout.errors import ConfigError
from tieout.lake.hashing import result_hash
from tieout.orchestration import checking, closing, past_dates
from tieout.orchestration.recompute import recompute
from tieout.orchestration.work import Work
from tieout.settings import Settings
from tieout.store.breaks import BreakRow
from tieout_sandbox import demo

DAY = "2026-03-29"
FORM = {"from_date": DAY, "to_date": DAY, "mode": "report_only", "reason": "the auditor asked", "entities": ["DE"]}
RESULTS = ("breaks", "breaks_gone", "matches", "totals")


@pytest.fixture
def work(tmp_path):
    made = Work(Settings(tmp_path, demo.CONFIG, str(tmp_path / "lake"), f"sqlite:///{tmp_path / 'store.sqlite'}"))
    made.store.upgrade()
    invoices(made, "US-1", "DE-1")
    made.store.start_run("night", "nightly", date.fromisoformat(DAY))
    checking.reconcile_ledger(made, "night", DAY, ledger_read=True)
    closing.report(made, "night", DAY)
    invoices(made, "US-1", "US-2", "DE-1", "DE-2")  # what came to be known later
    return made


def invoices(work, *numbers):
    """Publish these invoices, none of which the ledger has, instead of those before."""
    shape, amount = schema.table("invoice").arrow, Decimal(100)
    given = [
        {
            "id": f"stripe:{n}", "source": "stripe", "source_id": n, "source_version": "1", "number": n,
            "legal_entity_id": n[:2], "currency": "EUR", "status": "open", "accounting_date": date(2026, 3, 20),
            "is_deleted": False, "correlation_id": n, "raw_ref": n, "subtotal": amount, "tax": Decimal(0),
            "total": amount, "amount_paid": Decimal(0), "amount_remaining": amount,
        }
        for n in numbers
    ]  # fmt: skip
    rows = pa.Table.from_pylist([{name: row.get(name) for name in shape.names} for row in given], schema=shape)
    work.store.publish("setup", {"invoice": work.lake.write("invoice", rows)})


def hashes(work):
    published = work.store.published()
    return {t: result_hash(work.lake.read(t, published[t]), schema.table(t).key) for t in RESULTS}


def lives(work):
    with work.store.reading() as session:
        return [(b.break_key, b.state) for b in session.query(BreakRow).order_by(BreakRow.break_key)]


def test_a_backfill_reports_the_chosen_entities_beside_the_date_and_changes_nothing_of_it(work):
    own = work.settings.reports / DAY
    before = {path: path.read_bytes() for path in own.rglob("*") if path.is_file()}
    tables, known = hashes(work), lives(work)
    request = past_dates.open_backfill(work, "backfill", FORM, "anna")
    paths = recompute(work, request["runs"][0]["run_id"], DAY)

    assert {path: path.read_bytes() for path in own.rglob("*") if path.is_file()} == before
    assert (hashes(work), lives(work)) == (tables, known)
    folder = Path(paths["html"]).parent
    assert folder.parent == work.settings.reports
    assert folder.name.startswith(f"{DAY} as known on 20")
    shown = pq.read_table(folder / "tables" / "breaks.parquet").to_pylist()
    assert {row["break_key"] for row in shown} == {"DE-1", "DE-2"}
    page = Path(paths["html"]).read_text(encoding="utf-8")
    for text in ("the auditor asked", "anna", "as known on", "the ERP was not read", "DE-2"):
        assert text in page
    assert "US-2" not in page


def test_tried_again_a_backfill_writes_the_same_folder_and_never_says_the_ledger_was_read(work):
    request = past_dates.open_backfill(work, "backfill", FORM, "anna")
    run_id = request["runs"][0]["run_id"]
    paths = recompute(work, run_id, DAY)
    shown = pq.read_table(Path(paths["tables"]) / "totals.parquet").to_pylist()
    assert "journal_to_ledger" not in {row["definition_id"] for row in shown}
    kept = work.store.run(run_id)
    assert kept.state == "unproven"
    assert any("Invoices against receivables, unproven: the ledger was not read" in s for s in kept.facts["unproven"])
    assert recompute(work, run_id, DAY) == paths
    beside = past_dates.open_backfill(work, "another", FORM, "ben")  # within the same minute
    assert recompute(work, beside["runs"][0]["run_id"], DAY)["html"] != paths["html"]


def test_an_unknown_entity_is_refused(work):
    with pytest.raises(ConfigError, match="configured"):
        past_dates.open_backfill(work, "backfill", FORM | {"entities": ["FR"]}, "anna")
