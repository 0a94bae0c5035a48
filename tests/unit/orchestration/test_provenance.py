"""A run's record says which code and which configuration made it."""

from tieout.orchestration import steps
from tieout.orchestration.provenance import made_with
from tieout.orchestration.work import Work
from tieout.settings import SHIPPED_CONFIG, Settings


def settings(tmp_path, config=SHIPPED_CONFIG):
    return Settings(tmp_path, config, str(tmp_path / "lake"), f"sqlite:///{tmp_path / 'store.sqlite'}")


def test_a_run_records_code_and_configuration(tmp_path):
    work = Work(settings(tmp_path))
    work.store.upgrade()
    steps.open_run(work, "night", "nightly", "2026-03-31")
    steps.open_month(work, "month", "2026-03")
    recorded = work.store.facts("night")["made_with"]
    assert recorded == work.store.facts("month")["made_with"] == made_with(work.settings)
    assert recorded["code"].startswith("0.")
    assert {"entities.yaml", "posting_rules.yaml", "mappings/products.csv"} <= set(recorded["configuration"])


def test_one_changed_file_shows_as_that_file(tmp_path):
    own = tmp_path / "config"
    own.mkdir()
    before = made_with(settings(tmp_path, own))["configuration"]
    (own / "posting_rules.yaml").write_text("rules: []\n")
    after = made_with(settings(tmp_path, own))["configuration"]
    assert {name for name in after if after[name] != before.get(name)} == {"posting_rules.yaml"}
