"""The benchmarks' data is what they say it is, and their figures make one list."""

import json
import sys

import pyarrow.parquet as pq
import pytest

from tieout.lake.engine import engine
from tieout.reconcile import reconcile
from tieout_sandbox.bench import __main__ as command
from tieout_sandbox.bench import report
from tieout_sandbox.bench.cases import CASES

ENTRY = {
    "name": "keyed", "rows": 100, "wall_s": 2.0, "floor_s": 1.0, "ratio_to_floor": 2.0, "peak_mb": 300,
    "peers": {"a peer": 30.0}, "cpu_s": 3.0, "floor_cpu_s": 2.0, "floor_query": "SELECT 1", "date": "2026-01-01",
    "machine": "2 processors",
}  # fmt: skip


@pytest.fixture(scope="module")
def session():
    with engine() as one:
        yield one


@pytest.mark.parametrize(
    "case", [c for c in CASES if c.name != "keyed_all" and c.run is None], ids=lambda case: case.name
)
def test_generated_data_breaks_in_every_way_and_repeats_itself(session, tmp_path, case):
    files = dict(zip(("left", "right"), case.generate(session, tmp_path, 20_000), strict=True))
    found = reconcile(case.definition, files["left"], files["right"], engine=session, matches=case.matches).summary
    expected = {
        "keyed_differing": {"missing_left", "missing_right", "duplicate", "amount", "currency", "timing", "cut_off",
                            "status", "attribute"},
        "payments_by_reference": {"missing_left", "missing_right", "amount"},
        "payments_unreferenced": {"missing_right", "suggested_match"},
        "payments": {"missing_left", "missing_right", "suggested_match"},
        "payments_fuzzy": {"missing_right", "ambiguous", "suggested_match"},
    }  # fmt: skip
    assert set(found.breaks_by_type) == expected[case.name]
    assert session.rows(case.floor(tmp_path, files))
    again = case.generate(session, tmp_path / "again", 20_000)
    for left, right in zip([*files["left"], *files["right"]], [*again[0], *again[1]], strict=True):
        assert sorted(map(str, pq.read_table(left).to_pylist())) == sorted(map(str, pq.read_table(right).to_pylist()))
        break  # one file tells


def test_a_night_follows_on_the_one_that_left_the_breaks_open(session, tmp_path):
    night, shown = (next(c for c in CASES if c.name == name) for name in ("breaks_million", "breaks_list"))
    night.generate(session, tmp_path, 3_000)
    before = session.rows(night.floor(tmp_path, {}))
    assert night.run(tmp_path, "1GB") > 2_900
    assert session.rows(night.floor(tmp_path, {})) == before  # of the first night, whatever ran since
    assert shown.run(tmp_path, "1GB") > 2_950


def test_every_generated_accounting_event_reaches_a_journal_line(session, tmp_path):
    plain, sourced = (next(c for c in CASES if c.name == name) for name in ("summarise", "summarise_sources"))
    plain.generate(session, tmp_path, 5_000)
    groups = session.rows(plain.floor(tmp_path, {}))
    assert len(groups) > 300
    assert plain.run(tmp_path, "1GB") == sourced.run(tmp_path, "1GB") == 240


def test_the_right_side_of_the_keyed_benchmark_is_shuffled_and_has_the_duplicates(session, tmp_path):
    left, right = CASES[0].generate(session, tmp_path, 20_000)
    keys = [[k for f in side for k in pq.read_table(f)["invoice_no"].to_pylist()] for side in (left, right)]
    assert len(set(keys[0])) == len(keys[0])
    assert 0 < len(keys[1]) - len(set(keys[1])) < 40
    assert keys[1] != sorted(keys[1])


def test_an_entry_takes_the_place_of_an_older_one_of_its_kind(tmp_path):
    report.join(tmp_path, [ENTRY, ENTRY | {"rows": 200}])
    report.join(tmp_path, [ENTRY | {"wall_s": 1.5}])
    listed = json.loads((tmp_path / "benchmarks.json").read_text())
    assert [(e["rows"], e["wall_s"]) for e in listed] == [(100, 1.5), (200, 2.0)]
    page = (tmp_path / "benchmarks.md").read_text()
    assert "| keyed | 100 | 1.5 | 1 | 2.0 | 1.50 | 300 |" in page
    assert "a peer 30 (20.0 ×)" in page
    assert "SELECT 1" in page


def test_a_night_joins_the_same_list():
    night = {
        "seconds": 10.0, "cpu_seconds": 8.0, "peak_mb": 400,
        "steps": [{"step": "extract/crm", "records": 50, "floor_cpu_seconds": 0.5},
                  {"step": "gate", "records": None, "floor_cpu_seconds": None}],
    }  # fmt: skip
    entry = report.of_night(1, 2, night)
    assert (entry["name"], entry["rows"], entry["ratio_to_floor"]) == ("night_2_scale_1", 50, 20.0)


def test_all_usage_of_the_rating_benchmark_can_be_priced_by_every_model(session, tmp_path):
    case = next(c for c in CASES if c.name == "usage_rating")
    _, (prices,) = case.generate(session, tmp_path, 4_000)
    assert {m for (m,) in session.rows(f"SELECT model FROM '{prices}'")} == {"unit", "graduated", "volume", "package"}
    assert session.rows(case.floor(tmp_path, {}))
    assert case.run(tmp_path, "1GB") > 4_000


def test_a_part_that_fails_or_never_ends_is_named_and_leaves_no_figure(capsys):
    assert command._process([sys.executable, "-c", "raise SystemExit('no memory')"]) is None
    assert command._process([sys.executable, "-c", "import time; time.sleep(60)"], seconds=0.2) is None
    told = capsys.readouterr().err
    assert "left out: -c" in told
    assert "no memory" in told
    assert "more than 0.2 s" in told


def test_a_benchmark_without_figures_fails_the_command_after_the_others(monkeypatch, tmp_path):
    monkeypatch.setattr(command, "bench", lambda case, *_, **__: None)
    with pytest.raises(SystemExit, match="no figures for keyed_differing, keyed_all"):
        command.main(["--case", "keyed_differing", "--case", "keyed_all", "--docs", str(tmp_path)])


def test_no_benchmark_reads_data_that_were_never_finished(monkeypatch, tmp_path):
    (case,) = (c for c in CASES if c.name == "keyed_differing")
    home, asked = tmp_path / f"{case.generate.__name__}-12", []

    def fails(parts, **_):
        asked.append(parts[-1])
        home.mkdir()

    monkeypatch.setattr(command, "_process", fails)
    assert command.bench(case, 12, tmp_path, repeat=1, memory="1GB", with_peers=()) is None
    assert asked == ["generate"]
    assert not home.exists()
