from decimal import Decimal

import pytest
from sample import broken

from tieout.reports.compared import Amount, compared
from tieout.reports.stake import count_once, not_priced, totals


def at_stake(*breaks):
    counted = count_once(breaks)
    return {name: {c: str(v) for c, v in totals(counted, name).items()} for name in ("balance", "monthly")}


def test_months_are_never_added_to_balances_nor_one_currency_to_another():
    assert at_stake(
        broken("a", "amount", "10"), broken("b", "amount", "5"), broken("c", "amount", "7", measure="monthly"),
        broken("d", "amount", "1000", "JPY"), broken("e", "status", None),
    ) == {"balance": {"EUR": "15", "JPY": "1000"}, "monthly": {"EUR": "7"}}  # fmt: skip


def test_an_entry_of_several_lines_counts_with_its_larger_side():
    lines = [("11000", "-500"), ("21000", "400"), ("22000", "60")]
    entry = [
        broken(f"x|{account}", "missing_left", str(abs(Decimal(d))), difference=Decimal(d), cause="ledger entry 7")
        for account, d in lines
    ]
    assert at_stake(*entry) == {"balance": {"EUR": "500"}, "monthly": {}}
    assert [b["counted_with"] for b in count_once(entry)] == [None, "x|11000", "x|11000"]
    assert count_once(entry[::-1]) == count_once(entry)[::-1]


def test_a_cause_seen_by_two_reconciliations_counts_as_a_balance_before_it_counts_by_the_month():
    gap = {"cause": "product prod_X"}
    line = broken("line", "mapping", "300", measure="monthly", definition_id="contract_to_subscription", **gap)
    invoices = [broken(n, "mapping", "357", **gap) for n in ("i1", "i2")]
    assert at_stake(line, *invoices) == {"balance": {"EUR": "714"}, "monthly": {}}
    assert at_stake(line) == {"balance": {}, "monthly": {"EUR": "300"}}


def test_breaks_without_an_amount_are_counted_as_not_priced():
    assert not_priced([broken("a", "amount", "1"), broken("b", "status", None)]) == 1


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"field": "tax", "left_value": "61.33 EUR", "right_value": "30.66 EUR"}, ("tax", "61.33", "30.66")),
        ({"field": "monthly_amount", "left_value": "-1,200 JPY", "right_value": None},
         ("monthly amount", "-1200", "empty")),
        ({"field": "quantity", "left_value": "4", "right_value": "2"}, ("quantity", "4", "2")),
        ({"right_rows": 1, "right_amount": Decimal(5)}, ("the record", "missing", "5")),
        ({"left_rows": 1, "break_type": "timing", "currency": None}, ("the record", "there", "expected")),
        ({"left_rows": 1, "left_amount": Decimal(5), "right_rows": 2, "right_amount": Decimal(10)},
         ("1 against 2 records", "5", "10")),
        ({"field": "currency", "left_value": "USD", "left_amount": Decimal(9), "right_value": "EUR",
          "right_amount": Decimal(9)}, ("currency", "9 USD", "9 EUR")),
    ],
)  # fmt: skip
def test_every_break_shows_the_compared_field_with_both_values(values, expected):
    def text(side):
        if not isinstance(side, Amount):
            return side
        return f"{side.value} {side.currency}" if values.get("field") == "currency" else str(side.value)

    found = compared(broken("k", "amount", None) | values)
    assert (found.field, text(found.left), text(found.right)) == expected
