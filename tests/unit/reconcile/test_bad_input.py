"""Whatever the rows are like: a clear error or a named break, and nothing lost."""

from collections import Counter, defaultdict
from datetime import date
from decimal import Decimal

import pyarrow as pa
import pytest

from tieout.errors import DataError, DefinitionError
from tieout.lake.engine import engine
from tieout.reconcile import reconcile

DAY = date(2026, 3, 20)
SHAPE = pa.schema(
    [
        ("legal_entity_id", pa.string()), ("id", pa.string()), ("key", pa.string()), ("customer", pa.string()),
        ("currency", pa.string()), ("amount", pa.decimal128(18, 2)), ("day", pa.date32()), ("memo", pa.string()),
    ]
)  # fmt: skip
AMOUNT = {"left": "amount", "right": "amount"}
SEARCHED = {"by": ["customer"], "amount": AMOUNT, "window": {"earliest": -2, "latest": 2}}
REFERENCES = [{"left": "key", "right": "key", "normalise": [{"split": ","}]}]
PASSES = {
    "1:1": {"by": ["key"]},
    "1:N": {"by": ["key"], "cardinality": "1:N"},
    "N:N": {"by": REFERENCES, "cardinality": "N:N", "max_rows": 50},
    "search": SEARCHED | {"method": "search", "accept": "automatic"},
    "subset": SEARCHED | {"method": "subset", "cardinality": "N:1"},
    "fuzzy": SEARCHED | {"method": "fuzzy", "texts": [{"name": "memo", "left": "memo", "right": "memo"}]},
}
EVERY_KIND = pytest.mark.parametrize("kind", list(PASSES))


@pytest.fixture(scope="module")
def session():
    with engine() as one:
        yield one


def rows(*given):
    defaults = {"legal_entity_id": "US", "key": None, "customer": "Acme", "currency": "EUR", "amount": "10", "day": DAY}
    full = [defaults | row for row in given]
    return pa.Table.from_pylist([row | {"amount": Decimal(row["amount"])} for row in full], schema=SHAPE)


def repeated(count, **row):
    """Rows that differ in nothing but their id."""
    one = rows({"id": ""} | row).combine_chunks()
    many = pa.Table.from_arrays([pa.repeat(column[0], count) for column in one.columns], schema=SHAPE)
    return many.set_column(1, "id", pa.array([f"n{n}" for n in range(count)]))


def definition(kind, **changes):
    side = {"currency": "currency", "amount": "amount", "date": "day", "id": ["id"]}
    return {
        "id": "sample",
        "title": "Sample",
        "left": {"name": "billing"} | side,
        "right": {"name": "the ledger"} | side,
        "passes": [{"name": "p"} | PASSES[kind]],
        "compare": [{"name": "amount", "kind": "amount", **AMOUNT}],
    } | changes


def nothing_is_lost(result, left, right):
    for side, table in (("left", left), ("right", right)):
        landed = Counter()
        for row in [*result.matches.to_pylist(), *result.breaks.to_pylist()]:
            landed[row[f"{side}_ids"] and side] += row[f"{side}_rows"]
        assert landed[side] == table.num_rows
        given, counted = defaultdict(Decimal), defaultdict(Decimal)
        for row in table.to_pylist():
            given[row["currency"]] += row["amount"]
        for row in result.totals.to_pylist():
            if row["outcome"] in ("matched", "break") and row[f"{side}_rows"]:
                counted[row["currency"]] += row[f"{side}_amount"]
        assert counted == given


@EVERY_KIND
def test_odd_rows_each_land_somewhere_and_amounts_of_two_currencies_are_never_summed(session, kind):
    left = rows(
        {"id": "null key", "customer": None}, {"id": "empty key", "key": "", "customer": ""},
        {"id": "zero", "key": "Z", "customer": "Z", "amount": "0"},
        {"id": "negative", "key": "N", "customer": "N", "amount": "-5"},
        {"id": "unknown", "key": "U", "customer": "U", "currency": "EURO"},
        {"id": "upper", "key": "CASE", "customer": "CASE"}, {"id": "spaced", "key": " s ", "customer": " s "},
        {"id": "euro", "key": "M", "customer": "M"}, {"id": "dollar", "key": "M", "customer": "M", "currency": "USD"},
    )  # fmt: skip
    right = rows(
        {"id": "null key", "customer": None}, {"id": "zero", "key": "Z", "customer": "Z", "amount": "0"},
        {"id": "negative", "key": "N", "customer": "N", "amount": "-5"},
        {"id": "unknown", "key": "U", "customer": "U", "currency": "EURO"},
        {"id": "lower", "key": "case", "customer": "case"}, {"id": "plain", "key": "s", "customer": "s"},
        {"id": "euro", "key": "M", "customer": "M", "amount": "20"},
    )  # fmt: skip
    result = reconcile(definition(kind), left, right, engine=session)
    nothing_is_lost(result, left, right)
    breaks = {(b["break_type"], b["left_ids"], b["right_ids"]): b for b in result.breaks.to_pylist()}
    together = {(m["left_ids"], m["right_ids"]) for m in result.matches.to_pylist()}
    together |= {ids for of, *ids in breaks if of == "suggested_match" for ids in [tuple(ids)]}
    assert ("negative", "negative") in together
    assert (("zero", "zero") in together) is (kind != "subset")  # zeros add nothing to a sum
    for only_left, only_right in (("upper", "lower"), ("spaced", "plain")):
        assert ("missing_right", only_left, "") in breaks
        assert ("missing_left", "", only_right) in breaks
    assert {b["reason"] for (of, *_), b in breaks.items() if of == "mapping"} == {"EURO is no ISO 4217 currency"}
    mixed = [b for b in breaks.values() if b["left_ids"] == "dollar; euro"]
    assert [b["left_amount"] for b in mixed] == [None] * len(mixed)
    if kind == "N:N":
        assert "is in EUR, USD in billing but in EUR in the ledger" in mixed[0]["sentence"]


@pytest.mark.parametrize("kind", ["search", "subset", "fuzzy"])
@pytest.mark.parametrize("lacking", ["amount", "day", "currency"])
def test_a_row_without_an_amount_a_day_or_a_currency_is_found_by_no_search(session, kind, lacking):
    near = PASSES[kind] | {"amount": AMOUNT | {"tolerance": {"minor_units": 100}}}
    sides = [rows({"id": "a", "amount": "10"}) for _ in range(2)]
    place = SHAPE.names.index(lacking)
    sides = [t.set_column(place, lacking, pa.nulls(1, SHAPE.field(lacking).type)) for t in sides]
    found = reconcile(definition(kind, passes=[{"name": "p"} | near]), *sides, engine=session)
    assert found.summary.breaks_by_type == {"missing_left": 1, "missing_right": 1}


def test_an_empty_currency_is_told(session):
    nowhere = rows({"id": "a", "key": "A", "currency": ""})
    (found,) = reconcile(definition("1:1"), nowhere, nowhere, engine=session).breaks.to_pylist()
    assert (found["break_type"], found["reason"]) == ("mapping", "an empty text is no ISO 4217 currency")


@EVERY_KIND
@pytest.mark.parametrize("sides", [(1, 0), (0, 0)], ids=["empty side", "both sides empty"])
def test_empty_sides(session, kind, sides):
    left, right = (rows(*({"id": "a", "key": "A"} for _ in range(n))) for n in sides)
    result = reconcile(definition(kind), left, right, engine=session)
    nothing_is_lost(result, left, right)
    assert result.summary.breaks_by_type == ({"missing_right": 1} if sum(sides) else {})


@pytest.mark.parametrize("kind", ["1:1", "N:N"])
def test_a_million_rows_of_one_key_are_one_break(session, kind):
    left, right = repeated(1_000_000, key="A"), repeated(3, key="A")
    (found,) = reconcile(definition(kind), left, right, engine=session).breaks.to_pylist()
    expected = {"1:1": "duplicate", "N:N": "ambiguous"}
    assert (found["break_type"], found["left_rows"], found["right_rows"]) == (expected[kind], 1_000_000, 3)
    if kind == "N:N":
        assert found["rivals"] == "1,000,003 rows are connected, more than the 50 that pass p judges"


@pytest.mark.parametrize("kind", ["search", "subset", "fuzzy"])
def test_a_search_among_very_many_rows_of_one_key_is_refused(session, kind):
    many = repeated(10_000)
    with pytest.raises(DefinitionError, match=r"pass p would have to look at too many pairs.* got: 100,000,000"):
        reconcile(definition(kind), many, many, engine=session)


def test_groups_that_are_too_large_break_and_the_rest_goes_through(session):
    left = pa.concat_tables([repeated(51, key="A,B"), rows({"id": "x", "key": "X"})])
    right = rows({"id": "p", "key": "B"}, {"id": "q", "key": "X"})
    result = reconcile(definition("N:N"), left, right, engine=session)
    nothing_is_lost(result, left, right)
    assert result.summary.breaks_by_type == {"ambiguous": 1}
    assert result.summary.matched == 1


def test_lists_of_references_that_multiply_are_refused(session):
    many = ",".join(f"R{n}" for n in range(2_000))
    by = [*REFERENCES, {"left": "memo", "right": "memo", "normalise": [{"split": ","}]}]
    rules = definition("N:N", passes=[{"name": "p", "by": by, "cardinality": "N:N"}], max_candidates=1_000_000)
    left = rows({"id": "a", "key": many, "memo": many})
    with pytest.raises(DefinitionError, match=r"pass p would have to look at too many references.* got: 4,000,000"):
        reconcile(rules, left, rows(), engine=session)


@EVERY_KIND
def test_a_missing_column_and_a_wrong_type_are_told(session, kind):
    good = rows({"id": "a"})
    for column in ("customer", "amount", "day") if "method" in PASSES[kind] else ("key", "amount"):
        with pytest.raises(DataError, match=f"no column {column}"):
            reconcile(definition(kind), good.drop_columns([column]), good, engine=session)
    floats = good.set_column(5, "amount", pa.array([1.5]))
    with pytest.raises(DataError, match="never a float"):
        reconcile(definition(kind), good, floats, engine=session)
    key = "customer" if "method" in PASSES[kind] else "key"
    numbers = good.set_column(SHAPE.names.index(key), key, pa.array([12.0]))
    with pytest.raises(DataError, match=f"column {key} is no exact key.*12 as 12.0"):
        reconcile(definition(kind), good, numbers, engine=session)


@EVERY_KIND
def test_a_definition_that_can_match_nothing_breaks_every_row(session, kind):
    both = rows({"id": "a", "key": "A"})
    rules = definition(kind, passes=[{"name": "p"} | PASSES[kind] | {"where": {"left": "1 = 0"}}])
    assert reconcile(rules, both, both, engine=session).summary.breaks_by_type == {
        "missing_left": 1, "missing_right": 1,
    }  # fmt: skip
