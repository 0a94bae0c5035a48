"""How patient posting is comes from the ERP's file."""

from datetime import timedelta

import pytest

from tieout.ledger import Protocol
from tieout.orchestration import posting
from tieout.orchestration.work import Work
from tieout.settings import Settings


@pytest.mark.parametrize(("line", "expected"), [("", Protocol().settle), ("settle_seconds: 7\n", timedelta(seconds=7))])
def test_the_time_a_write_may_still_be_under_way_is_configured_with_the_erp(tmp_path, line, expected):
    (tmp_path / "erp").mkdir()
    (tmp_path / "erp" / "tryton.yaml").write_text(f"companies: {{US: US}}\n{line}")
    settings = Settings.from_env({"TIEOUT_HOME": str(tmp_path), "TIEOUT_CONFIG": str(tmp_path)})
    assert posting.protocol(Work(settings)).settle == expected
