from datetime import date, timedelta
from decimal import Decimal
from itertools import product

import pyarrow as pa
import pytest

from tieout.errors import DefinitionError
from tieout.lake.engine import engine
from tieout.reconcile import load_definition, reconcile

DAY = date(2026, 3, 20)
SHAPE = pa.schema(
    [
        ("legal_entity_id", pa.string()), ("id", pa.string()), ("customer", pa.string()), ("currency", pa.string()),
        ("amount", pa.decimal128(18, 2)), ("day", pa.date32()), ("memo", pa.string()),
    ]
)  # fmt: skip
AMOUNT = {"left": "amount", "right": "amount", "tolerance": {"minor_units": 50}}
GIVEN = {
    "amount": {"m": ["0.8", "0.2"], "u": ["0.5", "0.5"]},
    "lag": {"m": ["0.5", "0.25", "0.125", "0.125"], "u": ["0.25", "0.25", "0.25", "0.25"]},
    "memo": {"m": ["0.7", "0.2", "0.1"], "u": ["0.01", "0.09", "0.9"]},
}


@pytest.fixture(scope="module")
def session():
    with engine() as one:
        yield one


def rows(*given):
    """Rows of (id, amount, days after the first, memo), with other columns where given."""
    names = ("id", "amount", "day", "memo", "customer")
    full = [dict(zip(names, row, strict=False)) for row in given]
    return pa.Table.from_pylist(
        [
            {"customer": "Acme"} | row | {"legal_entity_id": "US", "currency": "EUR", "amount": Decimal(row["amount"]),
                                          "day": DAY + timedelta(days=row["day"])}
            for row in full
        ],
        schema=SHAPE,
    )  # fmt: skip


def definition(given=GIVEN, max_candidates=5_000_000, **changes):
    side = {"currency": "currency", "amount": "amount", "date": "day", "id": ["id"]}
    given = given or {}
    likelihood = {name: {"likelihood": given[name]} for name in given if name != "prior"}
    fuzzy = {
        "name": "alike",
        "method": "fuzzy",
        "by": ["customer"],
        "amount": AMOUNT | likelihood.get("amount", {}),
        "window": {"earliest": 0, "latest": 3} | likelihood.get("lag", {}),
        "texts": [{"name": "memo", "left": "memo", "right": "memo", "normalise": ["upper"], "levels": ["0.8"]}
                  | likelihood.get("memo", {})],
        "prior": "0.5" if given else None,
        "accept": "automatic",
        "threshold": "0.9",
    }  # fmt: skip
    return {
        "id": "sample",
        "title": "Sample",
        "left": {"name": "billing", "record": "invoice"} | side,
        "right": {"name": "the bank", "record": "payment"} | side,
        "passes": [fuzzy | changes],
        "max_candidates": max_candidates,
    }


def found(result):
    pairs = {(m["left_ids"], m["right_ids"]): "matched" for m in result.matches.to_pylist()}
    return pairs | {(b["left_ids"], b["right_ids"]): b["break_type"] for b in result.breaks.to_pylist()}


def shares_of_all_pairings(weights):
    """Of every way to pair rows (each at most once), as probable as the product of its odds: each pair's share."""
    pairs = list(weights)
    total, share = 0.0, dict.fromkeys(pairs, 0.0)
    for taken in product((False, True), repeat=len(pairs)):
        chosen = [pair for pair, is_in in zip(pairs, taken, strict=True) if is_in]
        if any(len({pair[side] for pair in chosen}) < len(chosen) for side in (0, 1)):
            continue
        weight = 1.0
        for pair in chosen:
            weight *= weights[pair]
        total += weight
        for pair in chosen:
            share[pair] += weight
    return {pair: share[pair] / total for pair in pairs}


def test_a_match_says_how_probable_it_is_and_why(session):
    result = reconcile(definition(), rows(("a", "10", 0, "inv-1")), rows(("p", "10", 1, "INV-1")), engine=session)
    (match,) = result.matches.to_pylist()
    # prior 1:1, amount 0.8/0.5, lag 0.25/0.25, memo 0.7/0.01
    assert float(match["probability"]) == pytest.approx(112 / 113, abs=1e-9)
    assert match["tolerated"] == "match weight +6.8: amount equal +0.7, lag of 1 days +0.0, memo equal +6.1"
    assert result.summary.models["alike"]["prior"] == "0.500000"


def test_a_text_that_one_side_lacks_says_nothing(session):
    result = reconcile(definition(), rows(("a", "10", 0, None)), rows(("p", "10.30", 1, "INV-1")), engine=session)
    (suggested,) = reconcile(
        definition(suggest_from="0.2"), rows(("a", "10", 0, None)), rows(("p", "10.30", 1, "INV-1")), engine=session
    ).breaks.to_pylist()
    assert found(result) == {("a", ""): "missing_right", ("", "p"): "missing_left"}
    assert float(suggested["probability"]) == pytest.approx(0.4 / 1.4)
    assert suggested["sentence"] == "Invoice a over 10.00 EUR probably belongs to p (28.6 %)."
    assert suggested["reason"] == "match weight -1.3: amount within the tolerance -1.3, lag of 1 days +0.0"


@pytest.mark.parametrize(
    ("measure", "left", "right", "alike"),
    [
        ("levenshtein", "Müller", "Muller", "0.83"),  # one of six letters differs
        ("levenshtein", "äöü", "aöü", "0.66"),
        ("levenshtein", "日本", "日木", "0.5"),
        ("jaccard", "日本語", "日本人", "0.5"),  # two of four letters
        ("jaro_winkler", "Zoë", "Zoe", "0.82"),
        ("jaro_winkler", "é", "e", None),
        ("levenshtein", "0123456789", "0123456780", "0.9"),
        ("levenshtein", "".join(map(chr, range(0x400, 0x450))), "".join(map(chr, range(0x400, 0x450))) + "a", "0.9"),
    ],
)
def test_texts_are_compared_letter_by_letter_in_any_script(session, measure, left, right, alike):
    def level(least):
        texts = [{"name": "memo", "left": "memo", "right": "memo", "measure": measure, "levels": [least],
                  "likelihood": GIVEN["memo"]}]  # fmt: skip
        rules = load_definition(definition(texts=texts, suggest_from="0.001", threshold="0.999"))
        sides = rows(("a", "10", 0, left)), rows(("p", "10", 0, right))
        (found,) = reconcile(rules, *sides, engine=session).breaks.to_pylist()
        (mirrored,) = reconcile(rules.mirrored(), *sides[::-1], engine=session).breaks.to_pylist()
        assert mirrored["probability"] == found["probability"]
        return found["reason"].partition("memo ")[2].rsplit(" ", 1)[0]

    if alike is None:
        assert level("0.01") == "different"
        return
    assert level(alike) == f"at least {alike} alike"
    assert level(str(Decimal(alike) + Decimal("0.02"))) == "different" or Decimal(alike) > Decimal("0.88")


def test_probabilities_are_the_shares_of_all_pairings(session):
    """Rivals in a chain a – p – b – q – c: the farther ones count too."""
    left = rows(("a", "10.00", 0, None), ("b", "10.40", 1, None), ("c", "10.80", 3, None))
    right = rows(("p", "10.20", 1, None), ("q", "10.60", 4, None))
    rules = definition(suggest_from="0.001", margin="0.9", threshold="0.99", amount={
        "left": "amount", "right": "amount", "tolerance": {"minor_units": 20}, "levels": [10],
        "likelihood": {"m": ["0.5", "0.5"], "u": ["0.5", "0.5"]},
    })  # fmt: skip
    weights = {("a", "p"): 1.0, ("b", "p"): 2.0, ("b", "q"): 0.5, ("c", "q"): 1.0}  # by the lag alone
    expected = shares_of_all_pairings(weights)
    listed = {}
    for row in reconcile(rules, left, right, engine=session).breaks.to_pylist():
        if row["break_type"] == "ambiguous":
            for rival in row["rivals"].split("; "):
                name, percent = rival.removesuffix(" %)").split(" (")
                listed[row["break_key"], name] = float(percent)
    assert listed == {pair: pytest.approx(100 * share, abs=0.15) for pair, share in expected.items()}


def test_a_rival_that_comes_close_is_refused_and_listed(session):
    left = rows(("a", "10", 0, "INV-1"))
    twins = rows(("p", "10", 1, "INV-1"), ("q", "10", 1, "INV-1"))
    result = reconcile(definition(), left, twins, engine=session)
    assert found(result) == {("a", "p; q"): "ambiguous"}
    assert result.breaks.to_pylist()[0]["rivals"] == "p (49.8 %); q (49.8 %)"
    far = rows(("p", "10", 1, "INV-1"), ("q", "10.50", 3, "other"))
    assert found(reconcile(definition(), left, far, engine=session)) == {
        ("a", "p"): "matched", ("", "q"): "missing_left",
    }  # fmt: skip
    only = definition(accept="only_if_unambiguous")
    assert found(reconcile(only, left, far, engine=session))["a", "p"] == "suggested_match"
    near = rows(("p", "10", 1, "INV-1"), ("q", "10", 0, "INV-2"))
    (suggested,) = (
        b for b in reconcile(definition(accept="suggested"), left, near, engine=session).breaks.to_pylist()
        if b["break_type"] == "suggested_match"
    )  # fmt: skip
    assert (suggested["right_ids"], suggested["rivals"]) == ("p", "q (5.9 %)")


def bulk(count):
    """Invoices and their payments: most memos name the invoice, some misspelt, some are empty; lags are short."""
    left, right = [], []
    for n in range(count):
        number, customer = f"INV-{(n * 7919) % 99991:05d}", f"C{n % (count // 8)}"
        amount = f"{100 + n * 13 % 217 * 25}.00"
        left.append((f"a{n:03}", amount, n % 30, number, customer))
        memo = (number, number, number, number[:-1] + "X", None)[n % 5]
        lag = (0, 0, 0, 0, 1, 1, 2)[n % 7]
        right.append((f"p{n:03}", amount if n % 9 else f"{100 + n * 13 % 217 * 25}.35", n % 30 + lag, memo, customer))
    return rows(*left), rows(*right)


@pytest.fixture(scope="module")
def trained(session):
    left, right = bulk(240)
    return left, right, reconcile(definition(given=None), left, right, engine=session)


def test_likelihoods_are_learned_from_the_rows(trained):
    left, _, result = trained
    model = result.summary.models["alike"]["likelihoods"]
    lags = [float(share) for share in model["lag"]["m"]]
    assert lags[0] > lags[1] > lags[2] > lags[3]
    assert float(model["memo"]["m"][0]) > 0.6 > 0.05 > float(model["memo"]["u"][0])
    assert all(left[1:] == right[1:] for (left, right), kind in found(result).items() if kind == "matched")
    paired = [pair for pair, kind in found(result).items() if kind in ("matched", "suggested_match")]
    assert len(paired) > 0.9 * left.num_rows


def test_learned_likelihoods_given_back_give_the_same_result(session, trained):
    left, right, result = trained
    model = result.summary.models["alike"]
    learned = definition(given=model["likelihoods"], prior=model["prior"])
    again = reconcile(learned, left, right, engine=session)
    assert again.summary.models == result.summary.models
    assert again.matches.equals(result.matches)


def test_training_does_not_depend_on_the_order_of_rows(session, trained):
    left, right, result = trained
    turned = [table.take(list(reversed(range(table.num_rows)))) for table in (left, right)]
    again = reconcile(definition(given=None), *turned, engine=session)
    assert again.summary.models == result.summary.models
    assert again.matches.equals(result.matches)


def test_training_mirrors(session, trained):
    left, right, result = trained
    back = reconcile(load_definition(definition(given=None)).mirrored(), right, left, engine=session)
    assert {(m["right_ids"], m["left_ids"], m["probability"]) for m in back.matches.to_pylist()} == {
        (m["left_ids"], m["right_ids"], m["probability"]) for m in result.matches.to_pylist()
    }


@pytest.mark.parametrize("sides", [((), ()), ((("a", "10", 0, "x"),), ()), ((), (("p", "10", 0, "x"),))], ids=str)
def test_nothing_to_compare(session, sides):
    result = reconcile(definition(given=None), *(rows(*side) for side in sides), engine=session)
    assert result.summary.breaks == sum(map(len, sides))


def test_too_many_candidates_are_refused(session):
    many = rows(*((f"a{n}", "10", 0, None) for n in range(40)))
    with pytest.raises(DefinitionError, match=r"pass alike would have to look at too many pairs.* got: 1,600"):
        reconcile(definition(max_candidates=1000), many, many, engine=session)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"by": []}, "at least 1 item"),
        ({"threshold": None}, "needs the `threshold`"),
        ({"threshold": "0.4"}, "must not be below `suggest_from`"),
        ({"window": {"earliest": 0, "latest": 40}}, "needs `levels`"),
        ({"window": {"earliest": 0, "latest": 40, "levels": [5, 40]}}, "day before `latest`"),
        ({"texts": [{"name": "memo", "left": "memo", "right": "memo", "levels": ["0.8", "0.9"]}]}, "levels must fall"),
        ({"texts": [{"name": "lag", "left": "memo", "right": "memo"}]}, "names of texts repeat"),
        ({"amount": AMOUNT | {"likelihood": {"m": ["1"], "u": ["1"]}}}, "each of the 2 levels"),
        ({"amount": AMOUNT | {"likelihood": {"m": ["0.9", "0.9"], "u": ["0.5", "0.5"]}}}, "add up to 1"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_a_definition_that_cannot_work_is_told(changes, told):
    with pytest.raises(DefinitionError, match=told):
        load_definition(definition(**changes))
