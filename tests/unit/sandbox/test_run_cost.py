"""Where the seconds of a run under Airflow went."""

from tieout_sandbox.run_cost import heaviest, split


def step(second, milliseconds, peak_mb=100):
    started = f"2026-03-30T09:00:{second:02}+00:00"
    return {"started_at": started, "milliseconds": milliseconds, "cpu_milliseconds": 1, "peak_mb": peak_mb}


FACTS = {
    "extract/stripe_us": step(0, 4000),
    "extract/stripe_de": step(2, 3000),
    "extract/erp": step(3, 500),
    "conform": step(10, 2500, 400),
    "posting": {"milliseconds": 6000, "cpu_milliseconds": 1, "peak_mb": 150},
    "posting/US": {"posted": 2, "read_back": 2},
    "period": "2026-03",
}


def test_steps_at_the_same_time_count_once_and_what_is_neither_step_nor_posting_is_airflow():
    cost = split(FACTS, 30.0)
    assert (cost["seconds"], cost["own"], cost["posting"], cost["airflow"]) == (30.0, 7.5, 6.0, 16.5)
    assert cost["peak_mb"] == 400
    assert cost["steps"] == {
        "extract/stripe_us": 4.0, "extract/stripe_de": 3.0, "extract/erp": 0.5, "conform": 2.5,
    }  # fmt: skip


def test_the_longest_steps_are_named():
    assert heaviest(split(FACTS, 30.0)) == "extract/stripe_us 4, extract/stripe_de 3"


def test_a_run_that_kept_no_step_was_all_airflow():
    assert split({}, 3.0) == {"seconds": 3.0, "own": 0.0, "posting": 0.0, "airflow": 3.0, "peak_mb": 0, "steps": {}}
