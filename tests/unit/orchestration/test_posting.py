"""How patient posting is comes from the ERP's file; what posting cost is kept with the run that waited for it."""

from datetime import timedelta

import pytest

from tieout.ledger import Protocol
from tieout.orchestration import posting
from tieout.orchestration.work import Work
from tieout.settings import Settings
from tieout.store import Store


@pytest.mark.parametrize(("line", "expected"), [("", Protocol().settle), ("settle_seconds: 7\n", timedelta(seconds=7))])
def test_the_time_a_write_may_still_be_under_way_is_configured_with_the_erp(tmp_path, line, expected):
    (tmp_path / "erp").mkdir()
    (tmp_path / "erp" / "tryton.yaml").write_text(f"companies: {{US: US}}\n{line}")
    settings = Settings.from_env({"TIEOUT_HOME": str(tmp_path), "TIEOUT_CONFIG": str(tmp_path)})
    assert posting.protocol(Work(settings), "TIEOUT/US/main/2026-03/billing/2026-03-30/v1").settle == expected


def test_a_run_knows_what_posting_its_batches_took_in_their_own_processes(tmp_path):
    settings = Settings.from_env({"TIEOUT_HOME": str(tmp_path)})
    Store(settings.store).upgrade()
    work = Work(settings)
    for batch, milliseconds, peak_mb in (("a", 1200, 150), ("b", 300, 170), ("of another run", 9000, 900)):
        work.store.start_run(f"post_journal.{batch}", "posting")
        for name in ("submit", "read_back"):
            cost = {
                "started_at": f"2026-03-30T09:{milliseconds // 100:02}:00+00:00",
                "milliseconds": milliseconds,
                "cpu_milliseconds": 100,
                "peak_mb": peak_mb,
            }
            work.store.add_facts(f"post_journal.{batch}", {name: cost})
    cost = posting.cost(work, ["a", "b", "not begun"])
    assert cost == {
        "started_at": "2026-03-30T09:03:00+00:00",
        "milliseconds": 3000,
        "cpu_milliseconds": 400,
        "peak_mb": 170,
    }
