"""The demo's summary: matches of all reconciliations, value behind breaks and value at risk told apart."""

from datetime import date
from decimal import Decimal

import pytest

from tieout.store import Store
from tieout.store.quarantine import QuarantineItem
from tieout_sandbox.scoring import score
from tieout_sandbox.summary import Observed, show, summarise, value_at_risk

DAY = date(2026, 3, 29)
FACTS = {
    "extract/stripe_us": {"records": 10, "kept_raw": 1, "proven": 2, "extracts": 2},
    "extract/erp": {"records": 99, "kept_raw": 0},
    "records": [
        {
            "step": "conform",
            "source": "erp",
            "object": "gl_entries",
            "in": 99,
            "out": 99,
            "merged": 0,
            "quarantined": 0,
        },
        {"step": "conform", "source": "stripe_us", "object": "x", "in": 10, "out": 7, "merged": 1, "quarantined": 2},
        {"step": "usage", "source": "", "object": "usage_event", "in": 3, "out": 3, "merged": 0, "quarantined": 0},
    ],
    "result_hashes": {"breaks": "b7", "journals": "1f"},
    "reconcile/payment_to_invoice": {"matches": 1327, "breaks": 6},
    "reconcile/usage_to_billing": {"matches": 598, "breaks": 5},
    "posting/US": {"posted": 2, "read_back": 2},
    "proof": {"ties": True},
    "gate_rows": [
        {"entity": "invoice", "value_at_risk": "1,117,480 JPY, 616.75 USD"},
        {"entity": "customer", "value_at_risk": ""},
    ],
}


@pytest.fixture
def store(tmp_path):
    made = Store(f"sqlite:///{tmp_path / 'store.sqlite'}")
    made.upgrade()
    items = [("EUR", Decimal("4849.37")), ("USD", Decimal("-0.25")), ("JPY", Decimal(20)), (None, None)]
    made.quarantine(
        "night",
        [
            QuarantineItem(f"stripe_us/invoices/1/1#{n}", "stripe_us", "invoices", "x", "x", None, "US", *item)
            for n, item in enumerate(items)
        ],
    )
    return made


def test_value_at_risk_is_what_waits_in_quarantine_and_behind_failed_checks(store):
    assert value_at_risk(FACTS, store) == {"EUR": "4849.37", "JPY": "1117500", "USD": "617.00"}


def test_nothing_waiting_is_no_value_at_risk(tmp_path):
    empty = Store(f"sqlite:///{tmp_path / 'empty.sqlite'}")
    empty.upgrade()
    assert value_at_risk({}, empty) == {}


def observed(run_id="night", **facts):
    owed, risk, monthly = {"EUR": "12.30"}, {"JPY": "117480"}, {"EUR": "9.00"}
    return Observed(run_id, DAY, 1.0, FACTS | facts, score([], [], DAY), owed, risk, monthly)


MONTH = Observed("month", None, 1.0, {"period": "2026-03"})
BEFORE = {"US": 40, "DE": 30}


def test_a_run_shows_its_matches_and_both_values(capsys):
    summary = summarise([observed()], MONTH, [], moves=(BEFORE, BEFORE))
    (run,) = summary["runs"]
    assert run["matches"] == 1925
    assert (run["open_break_value"], run["value_at_risk"]) == ({"EUR": "12.30"}, {"JPY": "117480"})
    assert run["open_break_value_monthly"] == {"EUR": "9.00"}
    assert (run["extracted"], run["conformed"], run["quarantined"]) == (10, 8, 2)
    assert (run["kept"], run["merged"]) == (7, 1)
    show(summary, [observed()], MONTH)
    printed = capsys.readouterr().out
    assert all(text in printed for text in ("1,925", "12.30 EUR", "117,480 JPY"))


def test_the_second_pass_is_compared_with_the_first_and_what_it_posted_is_counted_in_the_erp(capsys):
    others = {"result_hashes": {"breaks": "b7", "journals": "e5"}}
    nights, again = [observed()], [observed("same"), observed("other", **others)]
    summary = summarise(nights, MONTH, again, moves=(BEFORE, {"US": 42, "DE": 30}))
    assert [run["same_results"] for run in summary["second_runs"]] == [True, False]
    assert [(run["precision"], run["recall"]) for run in summary["second_runs"]] == [(1, 1), (1, 1)]
    assert summary["posted_on_second_run"] == 2
    show(summary, nights, MONTH)
    printed = capsys.readouterr().out
    assert "US 40 → 42" in printed
    assert "2 JOURNALS POSTED" in printed


def test_a_second_pass_that_posts_nothing_says_so(capsys):
    summary = summarise([observed()], MONTH, [observed("again")], moves=(BEFORE, BEFORE))
    assert summary["posted_on_second_run"] == 0
    show(summary, [observed()], MONTH)
    assert "nothing posted" in capsys.readouterr().out


def test_the_tables_fit_120_columns_whatever_the_amounts(capsys):
    large = dict.fromkeys(("EUR", "JPY", "USD"), "123456789012.34")
    nights = [Observed("n", DAY, 1.0, FACTS, score([], [], DAY), large, large) for _ in range(3)]
    show(summarise(nights, MONTH, nights, moves=(BEFORE, BEFORE)), nights, MONTH)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 120
    assert sum("123,456,789,012.34 USD" in line for line in lines) == 2
