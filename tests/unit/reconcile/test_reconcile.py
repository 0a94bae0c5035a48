from datetime import date
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tieout.errors import DataError, DefinitionError
from tieout.lake.engine import engine
from tieout.reconcile import load_definition, reconcile, result_schema, run

DAY = date(2026, 3, 20)
SHAPE = {
    "legal_entity_id": pa.string(), "number": pa.string(), "customer": pa.string(), "currency": pa.string(),
    "amount": pa.decimal128(18, 3), "tax": pa.decimal128(18, 3), "day": pa.date32(), "status": pa.string(),
    "gap": pa.string(),
}  # fmt: skip


@pytest.fixture(scope="module")
def session():
    with engine() as one:
        yield one


def rows(*given):
    defaults = {"legal_entity_id": "US", "customer": "Acme", "currency": "EUR", "amount": "10", "tax": "0", "day": DAY,
                "status": "open", "gap": None}  # fmt: skip
    full = [defaults | ({"number": g} if isinstance(g, str) else g) for g in given]
    for row in full:
        row |= {c: Decimal(str(row[c])) for c in ("amount", "tax") if row[c] is not None}
    return pa.table({c: pa.array([r.get(c) for r in full], kind) for c, kind in SHAPE.items()})


def definition(**changes):
    side = {"currency": "currency", "amount": "amount", "date": "day", "id": ["number"], "label": "customer"}
    return {
        "id": "sample",
        "title": "Sample",
        "left": {"name": "billing", "record": "invoice"} | side,
        "right": {"name": "the ledger", "record": "receivable"} | side,
        "passes": [{"name": "by_number", "by": ["number"]}],
        "compare": [{"name": "amount", "kind": "amount", "left": "amount", "right": "amount"}],
    } | changes


def search(**changes):
    return {"name": "wide", "method": "search", "by": ["customer"], "amount": {"left": "amount", "right": "amount"},
            "window": {"earliest": -9, "latest": 9}} | changes  # fmt: skip


def types(result):
    return {b["break_key"]: b["break_type"] for b in result.breaks.to_pylist()}


def only(result):
    (found,) = result.breaks.to_pylist()
    return found


def test_keys_that_differ_by_case_space_and_zeros_match_after_normalising(session):
    by = [{"left": "number", "right": "number", "normalise": ["collapse_spaces", "upper", "strip_leading_zeros"]}]
    rules = definition(passes=[{"name": "p", "by": by}])
    result = reconcile(rules, rows("00inv  7", "  x"), rows("INV 7", "X "), engine=session)
    assert {m["match_key"] for m in result.matches.to_pylist()} == {"INV 7", "X"}
    assert result.summary.breaks == 0


def test_a_reference_is_extracted_by_pattern(session):
    by = [{"left": "number", "right": "number", "normalise": [{"extract": "INV-([0-9]+)"}]}]
    result = reconcile(
        definition(passes=[{"name": "p", "by": by}]), rows("INV-12"), rows("payment for INV-12, thanks"), engine=session
    )
    assert result.matches.to_pylist()[0]["match_key"] == "12"


@pytest.mark.parametrize(
    ("steps", "left", "right"),
    [
        (["nfkc", "trim"], "ﬁle①", "\u00a0file1"),
        (["nfc"], "caf\u00e9", "cafe\u0301"),
        (["collapse_spaces"], "\tINV\u00a07\u2009 8\r\n", "INV 7 8"),
        ([{"extract": "(?P<number>[0-9]{3})"}], "no 123.", "123"),
        ([{"extract": "[(][0-9]+[)]"}], "a (12)", "(12)"),
    ],
)
def test_keys_are_equal_after_normalising(session, steps, left, right):
    by = [{"left": "number", "right": "number", "normalise": steps}]
    result = reconcile(definition(passes=[{"name": "p", "by": by}]), rows(left), rows(right), engine=session)
    assert result.summary.matched == 1


@pytest.mark.parametrize("called", ["rowid", "RowId", "row_no", "hashed"])
def test_a_side_may_call_a_column_as_it_likes(session, called):
    sides = [rows("A", "A", {"number": "B", "customer": "Beta"}).rename_columns(
        [called if c == "customer" else c for c in SHAPE]) for _ in range(2)]  # fmt: skip
    side = {"currency": "currency", "amount": "amount", "id": ["number"], "label": called}
    rules = definition(left={"name": "l", "record": "invoice"} | side, right={"name": "r", "record": "bill"} | side)
    result = reconcile(rules, *sides, engine=session)
    assert (types(result), only(result)["label"]) == ({"A": "duplicate"}, "Acme")
    assert result.summary.matched == 1
    assert reconcile(rules, *sides, engine=session, matches="differing").breaks.equals(result.breaks)


def connected(**changes):
    by = [{"left": "number", "right": "number", "normalise": [{"extract": "INV-([0-9]+)", "every": True}]}]
    return definition(passes=[{"name": "p", "cardinality": "N:N", "by": by} | changes])


def test_rows_connected_by_references_are_judged_together(session):
    invoices = rows(*({"number": f"INV-{n}", "amount": n} for n in range(1, 8)))
    payments = rows(
        {"number": "INV-1 and INV-2", "amount": 2}, {"number": "INV-2, INV-3", "amount": 4},
        {"number": "INV-4", "amount": 1}, {"number": "INV-4", "amount": 3}, {"number": "INV-5 INV-6", "amount": 9},
        {"number": "thanks", "amount": 7},
    )  # fmt: skip
    rules = connected(shortfall="partial_payment", payer="right")
    result = reconcile(rules, invoices, payments, engine=session)
    assert {(m["match_key"], m["left_rows"], m["right_rows"]) for m in result.matches.to_pylist()} == {
        ("1", 3, 2), ("4", 1, 2),
    }  # fmt: skip
    assert types(result) == {"5": "amount", "7": "missing_right", "thanks": "missing_left"}
    short = next(b for b in result.breaks.to_pylist() if b["break_type"] == "amount")
    assert (short["left_rows"], short["difference"], short["part_partial_payment"]) == (2, 2, 2)


def test_a_long_chain_of_references_is_one_group(session):
    invoices = rows(*({"number": f"INV-{n}", "amount": 1} for n in range(300)))
    payments = rows(*({"number": f"INV-{n} INV-{n + 1}", "amount": 1} for n in range(299)), {"number": "INV-0"})
    result = reconcile(connected(), invoices, payments, engine=session)
    assert [(b["left_rows"], b["right_rows"], b["difference"]) for b in result.breaks.to_pylist()] == [(300, 300, -9)]


@pytest.mark.parametrize(
    ("payments", "expected"),
    [(["3", "3"], None), (["3", "3", "3"], "duplicate"), (["3", "4"], "amount")],
)
def test_a_surplus_of_copies_among_connected_rows_is_a_duplicate(session, payments, expected):
    invoices = rows({"number": "INV-1", "amount": 2}, {"number": "INV-2", "amount": 4})
    result = reconcile(
        connected(), invoices, rows(*({"number": "INV-1 INV-2", "amount": p} for p in payments)), engine=session
    )
    assert types(result).get("1") == expected


def test_null_keys_never_match(session):
    result = reconcile(definition(), rows({"number": None}), rows({"number": None}), engine=session)
    assert sorted(b["break_type"] for b in result.breaks.to_pylist()) == ["missing_left", "missing_right"]
    assert [b["ordinal"] for b in result.breaks.to_pylist()] == [1, 2]


@pytest.mark.parametrize(
    ("tolerance", "left", "right", "currency", "agrees"),
    [
        ({"minor_units": 1}, "10.00", "10.01", "EUR", True),
        ({"minor_units": 1}, "10.00", "10.02", "EUR", False),
        ({"minor_units": 1}, "10", "11", "JPY", True),
        ({"minor_units": 1}, "10.000", "10.001", "KWD", True),
        ({"minor_units": 1}, "10.000", "10.002", "KWD", False),
        ({"minor_units": {"default": 1, "JPY": 0}}, "10", "11", "JPY", False),
        ({"percent": "1"}, "100.00", "101.00", "EUR", True),
        ({"percent": "1"}, "100.00", "101.02", "EUR", False),
        ({"percent": "1"}, "-100.00", "-101.00", "EUR", True),
        ({"minor_units": 1, "percent": "1"}, "100.00", "100.50", "EUR", True),
        ({"minor_units": 1, "percent": "1", "combine": "lesser"}, "100.00", "100.50", "EUR", False),
        ({"minor_units": 5, "direction": "left_higher"}, "10.02", "10.00", "EUR", True),
        ({"minor_units": 5, "direction": "left_higher"}, "10.00", "10.02", "EUR", False),
    ],
)
def test_tolerance(session, tolerance, left, right, currency, agrees):
    compare = [{"name": "amount", "kind": "amount", "left": "amount", "right": "amount", "tolerance": tolerance}]
    sides = [rows({"number": "a", "amount": a, "currency": currency}) for a in (left, right)]
    result = reconcile(definition(compare=compare), *sides, engine=session)
    assert result.summary.matched == int(agrees)
    if agrees:
        assert result.matches.to_pylist()[0]["tolerated"].startswith("amount differs by ")


def test_a_surplus_row_never_takes_a_partner(session):
    result = reconcile(definition(), rows("a", "b"), rows("a", "a", "b"), engine=session)
    found = only(result)
    assert (found["break_type"], found["left_rows"], found["right_rows"]) == ("duplicate", 1, 2)
    assert (found["left_amount"], found["right_amount"], found["difference"]) == (10, 20, -10)
    assert result.summary.matched == 1


@pytest.mark.parametrize(
    ("payments", "expected"),
    [
        (["40", "60"], None),
        (["50", "50"], None),
        (["100", "100"], "duplicate"),
        (["100", "60"], "amount"),
        (["40"], "amount"),
        (["30", "40", "60", "30"], "amount"),
        (["100", "100", "100"], "duplicate"),
        (["40", "60", "60"], "duplicate"),
    ],
    ids=str,
)
def test_one_invoice_and_many_payments(session, payments, expected):
    rules = definition(passes=[{"name": "p", "by": ["number"], "cardinality": "1:N", "shortfall": "partial_payment"}])
    result = reconcile(
        rules,
        rows({"number": "a", "amount": 100}),
        rows(*({"number": "a", "amount": p} for p in payments)),
        engine=session,
    )
    assert types(result).get("a") == expected
    if payments == ["40"]:
        found = only(result)
        assert (found["difference"], found["part_partial_payment"], found["part_unexplained"]) == (60, 60, 0)
        assert "(partial payment)." in found["sentence"]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"status": "paid"}, "status is open in billing but open, paid in the ledger"),
        ({"status": None}, "status is open in billing but open, empty in the ledger"),
        ({"currency": None}, "is in EUR in billing but in EUR, empty in the ledger"),
        ({"day": date(2026, 4, 2)}, "belongs to 2026-03 in billing but to 2026-03, 2026-04 in the ledger"),
        ({"day": date(2026, 3, 29)}, "is dated 2026-03-20 in billing and 2026-03-20 to 2026-03-29 in the ledger"),
    ],
    ids=["two states", "a state and none", "a currency and none", "two periods", "two days"],
)
def test_what_several_rows_say_differently_is_all_in_the_sentence(session, changed, said):
    compare = [
        {"name": "status", "kind": "status", "left": "status", "right": "status"},
        {"name": "day", "kind": "date", "left": "day", "right": "day", "window": {"latest": 1}},
    ]
    both = rows({"number": "a", "amount": 5}, {"number": "a", "amount": 5} | changed)
    for cardinality in ("1:N", "N:N"):
        rules = definition(compare=compare, passes=[{"name": "p", "cardinality": cardinality, "by": ["number"]}])
        assert said in only(reconcile(rules, rows("a"), both, engine=session))["sentence"]


@pytest.mark.parametrize("cardinality", ["1:N", "N:N"])
def test_a_sum_with_an_amount_lacking_agrees_with_nothing(session, cardinality):
    rules = definition(passes=[{"name": "p", "cardinality": cardinality, "by": ["number"]}])
    unpriced = rows("a", {"number": "a", "amount": None})
    result = reconcile(rules, rows("a"), unpriced, engine=session)
    assert types(result) == {"a": "amount"}
    assert (only(result)["right_amount"], only(result)["difference"]) == (10, None)
    if cardinality == "N:N":
        assert types(reconcile(rules, unpriced, unpriced, engine=session)) == {"a": "amount"}


def test_one_payment_that_falls_short_of_one_invoice_is_partial_whichever_side_pays(session):
    passes = [{"name": "p", "by": ["number"], "shortfall": "partial_payment", "payer": "right"}]
    rules = load_definition(definition(passes=passes))
    invoices, payments = rows("a", "b"), rows({"number": "a", "amount": 4}, {"number": "b", "amount": 12})
    found = reconcile(rules, invoices, payments, engine=session).breaks.to_pylist()
    assert [(b["difference"], parts(b)) for b in found] == [(6, {"partial_payment": "6"}), (-2, {"unexplained": "-2"})]
    found = reconcile(rules.mirrored(), payments, invoices, engine=session).breaks.to_pylist()
    assert [parts(b) for b in found] == [{"partial_payment": "-6"}, {"unexplained": "2"}]
    with pytest.raises(DefinitionError, match="a pass 1:1 needs `payer`"):
        load_definition(definition(passes=[passes[0] | {"payer": None}]))


def test_mixed_currencies_in_a_group_are_never_summed(session):
    rules = definition(passes=[{"name": "p", "by": ["number"], "cardinality": "1:N"}])
    right = rows({"number": "a", "amount": 5}, {"number": "a", "amount": 5, "currency": "USD"})
    assert types(reconcile(rules, rows("a"), right, engine=session)) == {"a": "currency"}


def test_a_tax_difference_is_told_from_rounding(session):
    compare = [
        {"name": "amount", "kind": "amount", "left": "amount", "right": "amount"},
        {"name": "tax", "kind": "amount", "left": "tax", "right": "tax", "part": "tax"},
    ]
    result = reconcile(
        definition(compare=compare),
        rows({"number": "a", "amount": "119.01", "tax": 19}, {"number": "b", "tax": 2}),
        rows({"number": "a", "amount": 116, "tax": 16}, {"number": "b", "tax": 1}),
        engine=session,
    )
    a, b = result.breaks.to_pylist()
    assert (a["difference"], a["part_tax"], a["part_rounding"]) == (Decimal("3.01"), 3, Decimal("0.01"))
    assert (b["break_type"], b["field"], b["difference"], b["part_tax"]) == ("amount", "tax", 1, 1)


def test_each_of_two_taxes_explains_its_own_difference_and_both_explain_the_amounts(session):
    compare = [*TAXES, {"name": "levy", "kind": "amount", "left": "levy", "right": "levy", "part": "tax"}]
    left = with_columns(rows({"number": "a", "tax": 3}, {"number": "b", "amount": 15, "tax": 3}), levy=[1, 4])
    right = with_columns(rows({"number": "a", "tax": 1}, {"number": "b", "tax": 1}), levy=[3, 1])
    for rules in (
        load_definition(definition(compare=compare)),
        load_definition(definition(compare=compare)).mirrored(),
    ):
        sign = 1 if rules.left.name == "billing" else -1
        a, b = reconcile(rules, *(left, right)[::sign], engine=session).breaks.to_pylist()
        assert (a["field"], a["difference"], parts(a)) == ("tax", 2 * sign, {"tax": str(2 * sign)})
        assert (b["field"], b["difference"], parts(b)) == ("amount", 5 * sign, {"tax": str(5 * sign)})


AMOUNTS = [{"name": "amount", "kind": "amount", "left": "amount", "right": "amount"}]
TAXES = [*AMOUNTS, {"name": "tax", "kind": "amount", "left": "tax", "right": "tax", "part": "tax"}]


def with_columns(table, **columns):
    for column, values in columns.items():
        kind = pa.string() if isinstance(values[0], str) else pa.decimal128(18, 6)
        values = values if isinstance(values[0], str) else [Decimal(str(v)) for v in values]
        table = table.append_column(column, pa.array(values, kind))
    return table


def parts(found):
    return {c.removeprefix("part_"): str(v.normalize()) for c, v in found.items() if c.startswith("part_") and v}


def test_fees_and_withheld_tax_explain_a_difference(session):
    deductions = [{"part": "fee", "right": "fee"}, {"part": "withholding", "left": "withheld", "right": "withheld"}]
    passes = [{"name": "p", "by": ["number"], "cardinality": "1:N", "shortfall": "partial_payment"}]
    rules = load_definition(definition(compare=AMOUNTS, deductions=deductions, passes=passes))
    due = [{"number": n, "amount": 100} for n in "abcd"]
    left = with_columns(rows(*due), withheld=[0, 0, 2, 0])
    paid = [("a", 97), ("b", 50), ("b", 20), ("c", 98), ("d", 99)]
    right = with_columns(
        rows(*({"number": n, "amount": a} for n, a in paid)), fee=[3, 2, 1, 0, 5], withheld=[0, 15, 0, 0, 0]
    )
    expected = {
        "a": {"fee": "3"},
        "b": {"fee": "3", "withholding": "15", "partial_payment": "12"},
        "c": {"withholding": "-2", "partial_payment": "4"},
        "d": {"fee": "5", "unexplained": "-4"},
    }
    result = reconcile(rules, left, right, engine=session)
    found = {b["break_key"]: parts(b) for b in result.breaks.to_pylist()}
    assert found == expected
    assert "(fee)" in result.breaks.to_pylist()[0]["sentence"]
    mirrored = reconcile(rules.mirrored(), right, left, engine=session).breaks.to_pylist()
    assert [b["difference"] for b in mirrored] == [-b["difference"] for b in result.breaks.to_pylist()]
    assert [b["part_fee"] for b in mirrored] == [-b["part_fee"] for b in result.breaks.to_pylist()]


def test_two_rates_explain_a_difference_and_are_named(session):
    conversions = {
        "left": {"amount": "original", "rate": "rate", "source": "bank"},
        "right": {"amount": "original", "rate": "rate"},
    }
    rules = load_definition(definition(compare=AMOUNTS, conversions=conversions))
    keys = [{"number": n} for n in "abc"]
    left = rows(*(k | {"amount": "110"} for k in keys))
    left = with_columns(left, original=[100] * 3, rate=[1.1] * 3, bank=["ECB"] * 3)
    right = rows(
        {"number": "a", "amount": "112.35"}, {"number": "b", "amount": "101.11"}, {"number": "c", "amount": 109}
    )
    right = with_columns(right, original=[100, 90, 100], rate=[1.1235, 1.1235, 1.1])
    result = reconcile(rules, left, right, engine=session)
    assert [(str(b["difference"].normalize()), parts(b), b["reason"]) for b in result.breaks.to_pylist()] == [
        ("-2.35", {"fx": "-2.35"}, "rate 1.1 (ECB) in billing, 1.1235 in the ledger"),
        ("8.89", {"fx": "-2.12", "unexplained": "11.01"}, "rate 1.1 (ECB) in billing, 1.1235 in the ledger"),
        ("1", {"unexplained": "1"}, None),
    ]
    mirrored = reconcile(rules.mirrored(), right, left, engine=session)
    assert [b["part_fx"] for b in mirrored.breaks.to_pylist()] == [-b["part_fx"] for b in result.breaks.to_pylist()]


def test_a_rate_of_many_decimals_explains_all_that_it_makes(session):
    conversion = {"amount": "original", "rate": "rate"}
    rules = definition(compare=AMOUNTS, conversions={"left": conversion, "right": conversion})
    converted = [("39123.46", "0.000039123456"), ("39120", "0.00003912")]
    left, right = (
        rows({"number": "a", "amount": amount})
        .append_column("original", pa.array([10**9]))
        .append_column("rate", pa.array([Decimal(rate)], pa.decimal128(18, 12)))
        for amount, rate in converted
    )
    assert parts(only(reconcile(rules, left, right, engine=session))) == {"fx": "3.46"}


@pytest.mark.parametrize(
    ("tax", "expected", "reason"),
    [
        # Xero developer guide, "Rounding": 15% of 25.06, 25.61 and 25.63 is 11.44 by line and 11.45 on the total
        ("11.45", {"rounding": "0.01"}, "tax is rounded by line in the ledger and on the total in billing"),
        ("12.44", {"tax": "1"}, None),
    ],
)
def test_tax_rounded_by_line_is_told_from_tax_rounded_on_the_total(session, tax, expected, reason):
    rules = definition(
        compare=TAXES,
        passes=[{"name": "p", "by": ["number"], "cardinality": "1:N"}],
        tax_lines={"side": "right", "net": "net", "rate": "percent"},
        rounding_minor_units=0,
    )
    left = rows({"number": "a", "amount": Decimal("76.30") + Decimal(tax), "tax": tax})
    lines = [("25.06", "3.76"), ("25.61", "3.84"), ("25.63", "3.84")]
    right = rows(*({"number": "a", "amount": Decimal(n) + Decimal(t), "tax": t} for n, t in lines))
    right = with_columns(right, net=[Decimal(n) for n, _ in lines], percent=[15, 15, 15])
    found = only(reconcile(rules, left, right, engine=session))
    assert (found["break_type"], parts(found), found["reason"]) == ("amount", expected, reason)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"compare": [], "deductions": [{"part": "fee", "right": "fee"}]}, "explain an amount"),
        ({"deductions": [{"part": "fee"}]}, "name the column"),
        ({"tax_lines": {"side": "left", "net": "n", "rate": "r"}}, "with `part: tax`"),
    ],
)
def test_causes_that_explain_nothing_are_refused(changes, told):
    with pytest.raises(DefinitionError, match=told):
        load_definition(definition(**changes))


def test_each_break_names_owner_action_and_materiality(session):
    rules = definition(
        owners={"default": "finance", "amount": "billing"},
        actions={"amount": "Ask about {key}."},
        materiality={"EUR": 5},
    )
    result = reconcile(rules, rows({"number": "a", "amount": "12"}, "b"), rows("a"), engine=session)
    a, b = result.breaks.to_pylist()
    assert (a["owner"], a["next_action"], a["is_material"], a["value"]) == ("billing", "Ask about a.", False, 2)
    assert (b["owner"], b["is_material"], b["value"], b["economic_date"]) == ("finance", True, 10, DAY)


def test_a_value_map_brings_states_to_one_vocabulary(session):
    compare = [
        {"name": "status", "kind": "status", "left": "status", "right": "status", "right_values": {"past_due": "open"}}
    ]
    right = rows({"number": "a", "status": "past_due"}, {"number": "b", "status": "void"})
    result = reconcile(definition(compare=compare), rows("a", "b"), right, engine=session)
    assert types(result) == {"b": "status"}
    assert (
        only(result)["sentence"]
        == "Invoice b of Acme over 10.00 EUR: status is open in billing but void in the ledger."
    )


@pytest.mark.parametrize(
    ("normalise", "values", "left", "right"),
    [
        (["trim", "upper"], {"Past due": "open"}, " past DUE", "Open"),
        (["upper"], {"PAST_DUE": "OPEN"}, "past_due", "open"),
        ([{"extract": "state: (.*)"}], {"late": "open"}, "state: late", "state: open"),
    ],
    ids=["words as the system writes them", "words as normalising leaves them", "words as the pattern finds them"],
)
def test_the_words_of_a_value_map_are_normalised_as_the_column_is(session, normalise, values, left, right):
    status = {"name": "status", "kind": "status", "left": "status", "right": "status"}
    compare = [status | {"left_values": values, "normalise": normalise}]
    sides = (rows({"number": "a", "status": state}) for state in (left, right))
    assert reconcile(definition(compare=compare), *sides, engine=session).summary.matched == 1


def test_evidence_explains_what_is_missing_or_stops_a_match(session):
    left = definition()["left"] | {"evidence": [{"type": "mapping", "column": "gap"}]}
    right = definition()["right"] | {"evidence": [{"type": "orphan", "column": "gap", "applies": "always"}]}
    result = reconcile(
        definition(left=left, right=right),
        rows({"number": "a", "gap": "no product"}, {"number": "b", "gap": "no product"}, "c"),
        rows("b", {"number": "c", "gap": "no customer"}),
        engine=session,
    )
    assert types(result) == {"a": "mapping", "c": "orphan"}


@pytest.mark.parametrize("passes", [[{"name": "p", "by": ["number"]}], [search(accept="automatic")]])
def test_rows_in_no_currency_match_nothing_and_say_so(session, passes):
    both = rows({"number": "a", "currency": "EURO"}, {"number": "b", "customer": "Beta"})
    result = reconcile(definition(passes=passes), both, both, engine=session)
    assert result.summary.matched == 1
    assert {(b["break_type"], b["reason"]) for b in result.breaks.to_pylist()} == {
        ("mapping", "EURO is no ISO 4217 currency")
    }


def test_evidence_against_a_row_keeps_it_out_of_a_search(session):
    left = definition()["left"] | {"evidence": [{"type": "mapping", "column": "gap", "applies": "always"}]}
    rules = definition(left=left, passes=[search(accept="automatic")])
    result = reconcile(rules, rows({"number": "a", "gap": "no product"}), rows("p"), engine=session)
    assert types(result) == {"a": "mapping", "p": "missing_left"}


def test_very_many_rows_of_one_key_are_one_break(session):
    many = pa.concat_tables([rows("a")] * 20_000).combine_chunks()
    found = only(reconcile(definition(), many, rows("a"), engine=session))
    assert (found["break_type"], found["left_rows"], found["left_ids"][-14:]) == (
        "duplicate",
        20_000,
        "and 19950 more",
    )
    searched = reconcile(definition(passes=[search()]), many, rows("a"), engine=session).summary
    assert searched.breaks_by_type == {"missing_left": 1, "duplicate": 1}


def test_a_match_and_a_suggestion_list_all_their_rows_and_another_break_the_first(session):
    many = rows(*({"number": "a", "customer": f"c{n:02}", "amount": 1} for n in range(60)))
    ids = {"id": ["customer"]}
    named = {"left": definition()["left"] | ids, "right": definition()["right"] | ids}
    for accept, amount, kind in (("automatic", 60, "matches"), ("suggested", 60, "breaks"), ("suggested", 5, "breaks")):
        one = {"name": "p", "cardinality": "N:1", "by": ["number"], "accept": accept}
        rules = definition(passes=[one], **named)
        result = reconcile(rules, many, rows({"number": "a", "amount": amount}), engine=session)
        (found,) = getattr(result, kind).to_pylist()
        listed = [f"c{n:02}" for n in range(60)]
        assert found["left_ids"].split("; ") == (listed if amount == 60 else [*listed[:50], "and 10 more"])


def test_excluded_rows_are_counted_with_their_reason(session):
    left = definition()["left"] | {
        "filter": "customer <> 'Test'",
        "exclude": [
            {"when": "status = 'void'", "reason": "voided"},
            {"when": "amount = 0", "reason": "nothing to do", "applies": "unmatched"},
        ],
    }
    result = reconcile(
        definition(left=left, completeness="left"),
        rows({"number": "a", "status": "void"}, {"number": "b", "amount": 0}, {"number": "c", "customer": "Test"}, "d"),
        rows("a", "d"),
        engine=session,
    )
    reasons = {
        (t["detail"], t["left_rows"], t["right_rows"]) for t in result.totals.to_pylist() if t["outcome"] == "excluded"
    }
    assert reasons == {
        ("voided", 1, 0), ("nothing to do", 1, 0), ("outside the filter", 1, 0), ("no counterpart required", 0, 1),
    }  # fmt: skip
    assert result.summary.breaks == 0
    assert result.summary.matched == 1


@pytest.mark.parametrize(("age", "expected"), [(1, "timing"), (2, "missing_right"), (3, "missing_right")])
def test_a_lag_ends_on_its_day(session, age, expected):
    rules = definition(lags=[{"type": "missing_right", "days": 2}])
    as_of = date(2026, 3, 20 + age)
    assert types(reconcile(rules, rows("a"), rows(), engine=session, as_of=as_of)) == {"a": expected}


@pytest.mark.parametrize(
    ("day", "window", "expected"),
    [
        (date(2026, 3, 31), None, None),
        (date(2026, 4, 1), None, "cut_off"),
        (date(2026, 3, 22), {"latest": 2}, None),
        (date(2026, 3, 23), {"latest": 2}, "timing"),
        (date(2026, 3, 19), {"latest": 2}, "timing"),
        (date(2026, 4, 1), {"latest": 30}, "cut_off"),
    ],
)
def test_dates_are_compared_by_window_and_period(session, day, window, expected):
    compare = [{"name": "day", "kind": "date", "left": "day", "right": "day", "window": window}]
    result = reconcile(definition(compare=compare), rows("a"), rows({"number": "a", "day": day}), engine=session)
    assert types(result).get("a") == expected


HOLIDAYS = {"US": {"country": "US"}, "default": {"closures": ["2026-04-06"]}}


DATED = [
    ("US", date(2026, 3, 20), date(2026, 3, 23), True),  # Friday to Monday
    ("US", date(2026, 3, 20), date(2026, 3, 24), False),
    ("US", date(2026, 3, 21), date(2026, 3, 23), True),  # Saturday to Monday
    ("US", date(2026, 7, 2), date(2026, 7, 6), True),  # Independence Day is kept on the Friday
    ("DE", date(2026, 7, 2), date(2026, 7, 6), False),
    ("DE", date(2026, 4, 3), date(2026, 4, 7), True),  # its own closure on the Monday
    ("US", date(2026, 4, 3), date(2026, 4, 7), False),
    ("US", date(2026, 3, 23), date(2026, 3, 20), False),
    ("US", date(9999, 12, 31), date(9999, 12, 31), False),
]


@pytest.mark.parametrize("how", ["search", "compare"])
def test_a_window_counts_business_days(session, how):
    window = {"earliest": 0, "latest": 1, "count": "business"}
    compare = [{"name": "day", "kind": "date", "left": "day", "right": "day", "window": window, "periods": False}]
    changes = {"passes": [search(window=window)]} if how == "search" else {"compare": compare}
    rules = load_definition(definition(calendars=HOLIDAYS, **changes))
    sides = [
        rows(
            *(
                {"number": str(n), "customer": str(n), "legal_entity_id": case[0], "day": case[position]}
                for n, case in enumerate(DATED)
            )
        )
        for position in (1, 2)
    ]
    result = reconcile(rules, *sides, engine=session)
    agreeing = {str(n) for n, (*_, agrees) in enumerate(DATED) if agrees}
    assert {m["match_key"] for m in result.matches.to_pylist()} == agreeing
    back = reconcile(rules.mirrored(), *reversed(sides), engine=session)
    assert {m["match_key"] for m in back.matches.to_pylist()} == agreeing


@pytest.mark.parametrize(("as_of", "expected"), [(date(2026, 3, 23), "timing"), (date(2026, 3, 24), "missing_right")])
def test_a_lag_counts_business_days(session, as_of, expected):
    rules = definition(lags=[{"type": "missing_right", "days": 2, "count": "business"}])
    assert types(reconcile(rules, rows("a"), rows(), engine=session, as_of=as_of)) == {"a": expected}


def test_entities_never_match_each_other(session):
    result = reconcile(definition(), rows("a"), rows({"number": "a", "legal_entity_id": "DE"}), engine=session)
    assert {(b["legal_entity_id"], b["break_type"]) for b in result.breaks.to_pylist()} == {
        ("US", "missing_right"), ("DE", "missing_left"),
    }  # fmt: skip


def test_a_search_beyond_its_ceiling_is_refused(session):
    passes = [{"name": "wide", "method": "search", "by": ["customer"], "amount": {"left": "amount", "right": "amount"},
               "window": {"earliest": -9, "latest": 9}}]  # fmt: skip
    many = rows(*(str(n) for n in range(40)))
    with pytest.raises(DefinitionError, match=r"pass wide .* got: 1,600"):
        reconcile(definition(passes=passes, max_candidates=1000), many, many, engine=session)


def test_a_row_that_is_there_twice_takes_no_partner(session):
    for accept in ("automatic", "suggested", "only_if_unambiguous"):
        rules = definition(passes=[search(accept=accept)])
        result = reconcile(rules, rows("a", {"number": "b", "amount": 5}), rows("p", "p"), engine=session)
        assert types(result) == {"a": "missing_right", "b": "missing_right", "p": "duplicate"}
        copies = next(b for b in result.breaks.to_pylist() if b["break_type"] == "duplicate")
        assert (copies["right_rows"], copies["rivals"], copies["pass_name"]) == (2, "a", "wide")


def test_equal_rows_meet_in_order_and_at_once(session, capsys):
    many = [rows(*(f"{side}{n:02}" for n in range(30))) for side in "ab"]
    result = reconcile(definition(passes=[search(accept="automatic")]), *many, engine=session, explain=True)
    assert [(m["left_ids"], m["right_ids"]) for m in result.matches.to_pylist()] == [
        (f"a{n:02}", f"b{n:02}") for n in range(30)
    ]
    assert capsys.readouterr().out.count("INSERT INTO pairs_1") == 1


def test_the_nearest_amount_is_taken_before_the_nearest_day(session):
    amount = {"left": "amount", "right": "amount", "tolerance": {"minor_units": 100}}
    right = rows({"number": "near", "amount": "10.50"}, {"number": "exact", "day": date(2026, 3, 22)})
    result = reconcile(definition(passes=[search(accept="automatic", amount=amount)]), rows("a"), right, engine=session)
    assert [m["right_ids"] for m in result.matches.to_pylist()] == ["exact"]


@pytest.mark.parametrize("accept", ["automatic", "suggested"])
def test_a_nearer_pair_gives_way_where_more_rows_then_find_one(session, accept):
    # the nearest pair a–q alone would leave b and p without anybody
    left = rows({"number": "a", "day": date(2026, 3, 10)}, {"number": "b", "day": date(2026, 3, 12)})
    right = rows({"number": "p", "day": date(2026, 3, 8)}, {"number": "q", "day": date(2026, 3, 11)})
    rules = definition(passes=[search(accept=accept, window={"earliest": -2, "latest": 2})])
    result = reconcile(rules, left, right, engine=session)
    found = result.matches.to_pylist() if accept == "automatic" else result.breaks.to_pylist()
    assert [(f["left_ids"], f["right_ids"]) for f in found] == [("a", "p"), ("b", "q")]
    if accept == "suggested":
        assert [b["rivals"] for b in found] == ["q", "a"]
        assert found[0]["sentence"] == "Invoice a of Acme over 10.00 EUR probably belongs to p; q would fit too."


def test_a_suggestion_may_be_refused_where_there_are_rivals(session):
    right = rows("p", "q")
    rules = definition(passes=[search(accept="suggested", rivals="refuse")])
    assert types(reconcile(rules, rows("a"), right, engine=session)) == {"a": "ambiguous"}
    with pytest.raises(DefinitionError, match="only_if_unambiguous"):
        load_definition(definition(passes=[search(accept="automatic", rivals="refuse")]))


def bulk(**changes):
    return search(name="bulk", method="subset", cardinality="N:1", accept="only_if_unambiguous") | changes


@pytest.mark.parametrize(
    ("invoices", "payment", "kind", "ids"),
    [
        (["10", "20", "35", "50"], "55", "matched", "i1; i2"),
        (["10", "20", "35", "45"], "55", "ambiguous", "i0; i1; i2; i3"),
        (["20", "20"], "20", "ambiguous", "i0; i1"),
        (["10", "20"], "25", "missing_left", ""),
        (["100", "-20", "0"], "80", "matched", "i0; i1"),
        (["10", "20"], "0", "missing_left", ""),
    ],
    ids=str,
)
def test_the_invoices_that_add_up_to_a_payment(session, invoices, payment, kind, ids):
    left = rows(*({"number": f"i{n}", "amount": a} for n, a in enumerate(invoices)))
    result = reconcile(definition(passes=[bulk()]), left, rows({"number": "p", "amount": payment}), engine=session)
    found = [("matched", m) for m in result.matches.to_pylist()]
    found += [(b["break_type"], b) for b in result.breaks.to_pylist()]
    assert [(k, row["left_ids"]) for k, row in found if row["right_ids"] == "p"] == [(kind, ids)]
    if kind == "ambiguous":
        assert next(row["rivals"] for k, row in found if k == kind) == ids


def test_invoices_that_two_payments_could_take_are_given_to_neither(session):
    left = rows({"number": "i1", "amount": 10}, {"number": "i2", "amount": 20}, {"number": "i3", "amount": 40})
    right = rows({"number": "p1", "amount": 30}, {"number": "p2", "amount": 60})
    assert reconcile(definition(passes=[bulk()]), left, right, engine=session).summary.breaks_by_type == {
        "ambiguous": 2
    }
    clear = reconcile(definition(passes=[bulk(accept="suggested")]), left, right.slice(0, 1), engine=session)
    assert clear.summary.breaks_by_type == {"missing_right": 1, "suggested_match": 1}


def test_a_payment_with_too_many_open_invoices_is_not_searched_and_says_so(session):
    left = rows(*(str(n) for n in range(9)))
    rules = definition(passes=[bulk(max_items=8)])
    result = reconcile(rules, left, rows({"number": "p", "amount": 20}), engine=session)
    refused = next(b for b in result.breaks.to_pylist() if b["break_type"] == "missing_left")
    assert refused["reason"] == "9 candidates (invoice) are more than the 8 that pass bulk adds up"
    assert result.summary.breaks == 10


@pytest.mark.parametrize(("ceiling", "told"), [(15, "pairs; .* got: 16"), (20, "combinations; .* got: 32")])
def test_too_many_combinations_are_refused(session, ceiling, told):
    left = rows(*({"number": str(n), "amount": 1 + n} for n in range(8)))
    rules = definition(passes=[bulk()], max_candidates=ceiling)
    right = rows({"number": "p", "amount": 20}, {"number": "q", "amount": "0.01"})
    with pytest.raises(DefinitionError, match=f"pass bulk would have to look at too many {told}"):
        reconcile(rules, left, right, engine=session)


@pytest.mark.parametrize(("left", "right"), [((), ()), (("a",), ()), ((), ("a",))], ids=["both", "right", "left"])
def test_empty_sides(session, left, right):
    result = reconcile(definition(), rows(*left), rows(*right), engine=session)
    assert result.summary.breaks == len(left) + len(right)
    assert result.breaks.schema == result_schema("breaks")


def test_a_missing_column_and_a_float_are_refused(session):
    with pytest.raises(DataError, match="no column amount"):
        reconcile(definition(), rows("a").drop_columns(["amount"]), rows("a"), engine=session)
    floats = rows("a").set_column(4, "amount", pa.array([1.5]))
    with pytest.raises(DataError, match="never a float"):
        reconcile(definition(), floats, rows("a"), engine=session)
    texts = rows("a").set_column(6, "day", pa.array(["2026-03-20"]))
    with pytest.raises(DataError, match="is no date"):
        reconcile(definition(), texts, rows("a"), engine=session)


def test_a_condition_that_is_not_understood_is_told(session):
    left = definition()["left"] | {"filter": "nonsense = 1"}
    with pytest.raises(DefinitionError, match="nonsense"):
        reconcile(definition(left=left), rows("a"), rows("a"), engine=session)


@pytest.mark.parametrize(
    "condition", [{"filter": "amount > 'ten'"}, {"exclude": [{"when": "status", "reason": "open"}]}]
)
def test_a_condition_that_the_values_do_not_fit_is_told(session, condition):
    with pytest.raises(DataError, match=r"a value does not fit .*remedy: check `filter`, `exclude` and `where`"):
        reconcile(definition(left=definition()["left"] | condition), rows("a"), rows("a"), engine=session)


def test_an_amount_too_large_to_be_added_up_is_told(session):
    huge = rows("a").set_column(4, "amount", pa.array([Decimal("9" * 35)], pa.decimal128(38, 2)))
    with pytest.raises(DataError, match=r"a value does not fit .*below 10\^32"):
        reconcile(definition(), huge, rows("a"), engine=session)


def test_a_condition_may_end_in_a_comment(session):
    left = definition()["left"] | {
        "filter": "amount > 0 -- money only",
        "exclude": [{"when": "status = 'draft' -- not yet", "reason": "draft"}],
    }
    passes = [definition()["passes"][0] | {"where": {"left": "true -- all"}}]
    left_rows = rows("a", {"number": "b", "status": "draft"}, {"number": "c", "amount": 0})
    result = reconcile(definition(left=left, passes=passes), left_rows, rows("a"), engine=session)
    assert result.summary.left_rows == {"all": 3, "matched": 1, "break": 0, "excluded": 2}


def test_paths_in_and_out(tmp_path):
    for name, table in (("l", rows("a", "b")), ("r", rows("a"))):
        pq.write_table(table, tmp_path / f"{name}.parquet")
    result = reconcile(definition(), tmp_path / "l.parquet", [tmp_path / "r.parquet"], out=tmp_path / "out")
    assert pq.read_table(result.breaks).num_rows == 1
    assert pq.read_table(result.matches).num_rows == 1
    assert (tmp_path / "out" / "summary.json").read_text().startswith('{"as_of":null')


def test_differing_lists_only_matches_that_needed_a_tolerance(session):
    compare = [
        {"name": "amount", "kind": "amount", "left": "amount", "right": "amount", "tolerance": {"minor_units": 1}}
    ]
    left, right = rows("a", "b"), rows("a", {"number": "b", "amount": "10.01"})
    result = reconcile(definition(compare=compare), left, right, engine=session, matches="differing")
    assert [m["match_key"] for m in result.matches.to_pylist()] == ["b"]
    assert result.summary.matched == 2


@pytest.mark.parametrize(
    ("left", "right", "found"),
    [
        (("a", "a", "b"), ("a", "a", "b"), {"a": "duplicate"}),
        (({"number": "a"}, {"number": "a", "currency": "USD"}), ({"number": "a"}, {"number": "a", "currency": "USD"}),
         {"a": "duplicate"}),
        ((), ("a", "a"), {"a": "missing_left"}),
        (({"number": "a", "currency": "USD"}, {"number": "b"}), ({"number": "a"}, {"number": "b", "currency": "USD"}),
         {"a": "currency", "b": "currency"}),
        (({"number": "a", "amount": "11"}, {"number": "b", "amount": "9"}), ("a", "b"), {"a": "amount", "b": "amount"}),
        (({"number": "a", "amount": "999999999999999"},), ({"number": "a", "amount": "999999999999999.001"},),
         {"a": "amount"}),
        (({"number": "a", "amount": "999999999999999"},), ({"number": "a", "amount": "999999999999999"},), {}),
        (({"number": "a", "status": None},), ({"number": "a", "status": ""},), {}),
        (({"number": "a", "legal_entity_id": None},) * 2, ({"number": "a", "legal_entity_id": ""},) * 2,
         {"a": "duplicate"}),
        (({"number": None}, ""), ("",), {"": "missing_left"}),
        (({"number": "a", "amount": None}, "b"), ({"number": "a", "amount": None},), {"b": "missing_right"}),
    ],
    ids=["a key repeated on both sides", "a repeated key in two currencies", "an empty side", "two currencies swapped",
         "differences that cancel out", "amounts too large to add up", "equal amounts too large to add up",
         "an empty text and none", "no entity and an empty one", "no key", "no amount"],
)  # fmt: skip
def test_setting_identical_rows_aside_changes_no_break_and_no_total(session, left, right, found):
    named = (
        [{"number": row} if row is None else row for row in left],
        [{"number": r} if r is None else r for r in right],
    )
    compare = [*definition()["compare"], {"name": "status", "kind": "status", "left": "status", "right": "status"}]
    sides = rows(*named[0]), rows(*named[1])
    whole, less = (
        reconcile(definition(compare=compare), *sides, engine=session, matches=m) for m in ("all", "differing")
    )
    assert less.breaks.equals(whole.breaks)
    assert less.totals.equals(whole.totals)
    assert less.summary == whole.summary
    assert types(less) == found


@pytest.mark.parametrize("cardinality", ["1:N", "N:1"])
def test_setting_single_identical_rows_aside_changes_nothing_where_one_side_may_have_several(session, cardinality):
    left = rows("a", {"number": "b", "amount": "20"}, "c", "d", "e", "e", {"number": "f", "amount": "15"})
    right = rows("a", "b", "b", {"number": "c", "amount": "10.001"}, "d", "d", "e", "e", "g")
    rules = definition(passes=[{"name": "by_number", "cardinality": cardinality, "by": ["number"]}])
    whole, less = (reconcile(rules, left, right, engine=session, matches=m) for m in ("all", "differing"))
    assert less.breaks.equals(whole.breaks)
    assert less.totals.equals(whole.totals)
    assert less.summary == whole.summary


@pytest.mark.parametrize(
    "changes",
    [{}, {"passes": [{"name": "by_number", "by": [{"left": "number", "right": "number", "normalise": ["trim"]}]}]},
     {"passes": [{"name": "by_both", "by": ["customer", "number"]}]},
     *({side: {n: v for n, v in definition()[side].items() if n != "amount"}} for side in ("left", "right"))],
    ids=["the key is the id", "the ids differ", "keys that read the same", "the left rows have no amount",
         "the right rows have no amount"],
)  # fmt: skip
def test_identical_rows_set_aside_are_listed_as_the_passes_would(session, changes, monkeypatch, tmp_path):
    left = rows("a", "b", "c", {"number": "d", "amount": "11"}, {"number": "f", "customer": "x|e"})
    left = pa.concat_tables([left, rows({"number": "e|f", "customer": "x"})])
    right = rows(" a" if "normalise" in str(changes) else "a", "b", "c", "c", "d", {"number": "f", "customer": "x|e"})
    right = pa.concat_tables([right, rows({"number": "e|f", "customer": "x"})])
    plain = reconcile(definition(**changes), left, right, engine=session)
    monkeypatch.setattr(run, "MANY_ROWS", 0)
    aside = reconcile(definition(**changes), left, right, engine=session)
    assert aside.matches.equals(plain.matches)
    assert aside.breaks.equals(plain.breaks)
    assert aside.summary == plain.summary
    written = reconcile(definition(**changes), left, right, engine=session, out=tmp_path)
    order = [(c, "ascending") for c in ("legal_entity_id", "pass_name", "match_key", "ordinal")]
    assert pq.read_table(written.matches).cast(plain.matches.schema).sort_by(order).equals(plain.matches)


@pytest.mark.parametrize(
    ("window", "right_day", "found"),
    [
        (None, date(2026, 4, 2), "cut_off"),
        ({"earliest": 1, "latest": 5}, date(2026, 3, 31), "timing"),
        ({"earliest": 0, "latest": 0, "count": "business"}, date(2026, 3, 31), None),
    ],
    ids=["posted in another period", "a window without the day itself", "business days"],
)
def test_rows_of_one_document_day_are_not_set_aside_where_their_dates_break(session, window, right_day, found):
    """The compared day is the left side's own date, and on the right another column."""
    compare = [*definition()["compare"], {"name": "booked", "kind": "date", "left": "day", "right": "document_day"}]
    compare[-1] |= {"window": window} if window else {}
    left, right = rows({"number": "a", "day": date(2026, 3, 31)}), rows({"number": "a", "day": right_day})
    left, right = (t.append_column("document_day", pa.array([date(2026, 3, 31)])) for t in (left, right))
    whole, less = (
        reconcile(definition(compare=compare), left, right, engine=session, matches=m) for m in ("all", "differing")
    )
    assert less.breaks.equals(whole.breaks)
    assert types(less) == ({"a": found} if found else {})


def test_rows_are_set_aside_per_currency_and_in_the_decimals_of_the_finer_side(session):
    left = rows(*({"number": str(n), "currency": "EUR" if n % 3 else "USD", "amount": n} for n in range(500)))
    coarse = left.column("amount").cast(pa.decimal128(12, 1))
    right = left.set_column(left.schema.names.index("amount"), "amount", coarse).slice(3)
    result = reconcile(definition(), left, right, engine=session, matches="differing")
    assert types(result) == {"0": "missing_right", "1": "missing_right", "2": "missing_right"}
    assert result.summary.matched == 497


def test_amounts_that_differ_by_less_than_a_minor_unit_do_not_read_the_same(session):
    left, right = rows({"number": "a", "amount": "1234.004"}), rows({"number": "a", "amount": "1230"})
    assert (
        "amount is 1,234.004 EUR in billing but 1,230.00 EUR in the ledger, a difference of 4.004 EUR"
        in only(reconcile(definition(), left, right, engine=session))["sentence"]
    )
    compare = [definition()["compare"][0] | {"tolerance": {"percent": 1}}]
    (match,) = reconcile(definition(compare=compare), left, right, engine=session).matches.to_pylist()
    assert match["tolerated"] == "amount differs by 4.004 EUR"
    yen = [rows({"number": "a", "amount": amount, "currency": "JPY"}) for amount in ("10.5", "-9")]
    assert (
        "amount is 10.50 JPY in billing but -9.00 JPY in the ledger, a difference of 19.50 JPY"
        in only(reconcile(definition(), *yen, engine=session))["sentence"]
    )


def test_explain_prints_the_statements(session, capsys):
    reconcile(definition(), rows("a"), rows("a"), engine=session, explain=True)
    printed = capsys.readouterr().out
    assert "-- joined_1\n" in printed
    assert "CREATE TEMP TABLE" in printed


@pytest.mark.parametrize(
    ("amount", "currency", "shown"),
    [("1234567.005", "EUR", "1,234,567.01 EUR"), ("-0.5", "EUR", "-0.50 EUR"), ("1234", "JPY", "1,234 JPY"),
     ("12.345", "KWD", "12.345 KWD"), ("0", "EUR", "0.00 EUR"), ("999", "EUR", "999.00 EUR")],
)  # fmt: skip
def test_money_is_written_as_people_write_it(session, amount, currency, shown):
    rules = definition(sentences={"missing_right": "{amount}"})
    result = reconcile(rules, rows({"number": "a", "amount": amount, "currency": currency}), rows(), engine=session)
    assert only(result)["sentence"] == shown
