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
    "conform": {"rows": 7, "merged": 1, "quarantined": 2},
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


def test_a_run_shows_its_matches_and_both_values(capsys):
    night = Observed("night", DAY, 1.0, FACTS, score([], [], DAY), {"EUR": "12.30"}, {"JPY": "117480"})
    month = Observed("month", None, 1.0, {"period": "2026-03"})
    summary = summarise([night], month, [])
    (run,) = summary["runs"]
    assert run["matches"] == 1925
    assert (run["open_break_value"], run["value_at_risk"]) == ({"EUR": "12.30"}, {"JPY": "117480"})
    assert (run["extracted"], run["conformed"], run["quarantined"]) == (10, 8, 2)
    show(summary, [night], month, None)
    printed = capsys.readouterr().out
    assert all(text in printed for text in ("1,925", "12.30 EUR", "117480 JPY"))
