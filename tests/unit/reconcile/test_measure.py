"""Measured on labelled pairs: known confusion gives known figures; simulated: what a change moves, and by how much."""

from datetime import date
from decimal import Decimal

import pyarrow as pa
import pytest
from typer.testing import CliRunner

from tieout.cli.commands import app
from tieout.errors import DataError
from tieout.reconcile import Reconciliation, Summary, compare, measure, reconcile, result_schema, simulate
from tieout.reconcile.measure import read_truth

SUMMARY = Summary("d", "h", None, 0, 0, {}, {}, {})


def table(name, rows, **more):
    shape = result_schema(name)
    defaults = {"definition_id": "d", "legal_entity_id": "US", "left_rows": 1, "right_rows": 1, "ordinal": 1}
    defaults |= {"is_material": True, "owner": "o", "sentence": "s", "next_action": "n", "break_key": "k"}
    full = [{k: v for k, v in (defaults | more | row).items() if k in shape.names} for row in rows]
    return pa.Table.from_pylist(full, schema=shape)


def result(matches, suggested=(), scored=False):
    found = [dict(zip(("pass_name", "left_ids", "right_ids", "probability"), m, strict=False)) for m in matches]
    waiting = [dict(zip(("pass_name", "left_ids", "right_ids", "probability"), m, strict=False)) for m in suggested]
    for number, row in enumerate((*found, *waiting)):
        row |= {"match_key": f"k{number}", "break_key": f"k{number}", "break_type": "suggested_match"}
        if row.get("probability"):
            row["probability"] = Decimal(row["probability"])
    tables = table("matches", found), table("breaks", waiting)
    if not scored:
        tables = [t.drop_columns(["probability"]) if "probability" in t.column_names else t for t in tables]
    return Reconciliation(tables[0], tables[1], table("totals", []), SUMMARY)


def truth(*pairs):
    return pa.table({"left_id": [p[0] for p in pairs], "right_id": [p[1] for p in pairs]})


def test_precision_recall_and_f1_of_the_whole_and_of_each_pass():
    found = result(
        [("key", "a", "1"), ("key", "b", "2"), ("near", "c", "4"), ("near", "d", "5; 6")], [("near", "e", "7")]
    )
    known = truth(("a", "1"), ("b", "2"), ("c", "3"), ("d", "5"), ("e", "7"), ("f", "8"))
    measured = measure(found, known, passes=["key", "near", "never"])
    whole = measured.whole
    assert (whole.claimed, whole.right, whole.true) == (5, 3, 6)
    assert (whole.precision, whole.recall, whole.f1) == (Decimal("0.6"), Decimal("0.5"), Decimal("0.545455"))
    key, near, never = measured.passes
    assert (key.precision, key.recall) == (1, Decimal("0.333333"))
    assert (near.claimed, near.right, near.true) == (3, 1, 4)
    assert (never.claimed, never.precision, never.recall) == (0, None, 0)
    assert (measured.suggested.claimed, measured.suggested.right, measured.suggested.true) == (1, 1, 2)
    assert measured.wrong.to_pylist() == [
        {"pass_name": "near", "legal_entity_id": "", "left_id": "c", "right_id": "4"},
        {"pass_name": "near", "legal_entity_id": "", "left_id": "d", "right_id": "6"},
    ]
    assert [list(row.values()) for row in measured.missed.to_pylist()] == [["", "c", "3"], ["", "f", "8"]]
    assert measured.calibration == ()


def test_probabilities_are_held_against_what_is_true():
    sure = [("fuzzy", f"l{i}", f"r{i}", "0.95") for i in range(4)]
    found = result(sure, [("fuzzy", "x", "y", "0.55"), ("fuzzy", "u", "v", "1")], scored=True)
    known = truth(*((f"l{i}", f"r{i}") for i in range(3)), ("x", "y"), ("u", "v"))
    figures = [(c.lower, c.pairs, c.expected, c.observed) for c in measure(found, known).calibration]
    assert figures == [
        (Decimal("0.5"), 1, Decimal("0.55"), 1),
        (Decimal("0.9"), 5, Decimal("0.96"), Decimal("0.8")),
    ]


def test_nothing_found_and_nothing_known_has_no_figures():
    whole = measure(result([]), truth().cast(pa.schema([("left_id", "string"), ("right_id", "string")]))).whole
    assert (whole.precision, whole.recall, whole.f1) == (None, None, None)


def test_truth_without_its_columns_is_refused():
    with pytest.raises(DataError, match="truth lacks columns"):
        measure(result([]), pa.table({"invoice": ["a"]}))


def test_entities_that_number_their_rows_alike_are_told_apart():
    found = result([("p", "1", "1"), ("p", "2", "2"), ("p", "1", "1")])
    of_both = pa.array(["US", "US", "DE"])
    matches = found.matches.set_column(found.matches.schema.names.index("legal_entity_id"), "legal_entity_id", of_both)
    found = Reconciliation(matches, found.breaks, found.totals, SUMMARY)
    with pytest.raises(DataError, match=r"two legal entities have rows of these ids.*record: 1 and 1"):
        measure(found, truth(("1", "1")))
    known = truth(("1", "1"), ("2", "2"), ("3", "3")).append_column("legal_entity_id", pa.array(["US", "US", "DE"]))
    measured = measure(found, known)
    assert (measured.whole.claimed, measured.whole.right, measured.whole.true) == (3, 2, 3)
    assert [list(row.values()) for row in measured.wrong.to_pylist()] == [["p", "DE", "1", "1"]]
    assert [list(row.values()) for row in measured.missed.to_pylist()] == [["DE", "3", "3"]]


def test_every_row_of_a_large_match_is_measured():
    invoices, payments = side(*((f"i{n:03}", "1") for n in range(60))), side(("p", "60"))
    keyed = (table.append_column("key", pa.array(["k"] * table.num_rows)) for table in (invoices, payments))
    rules = RULES | {"passes": [{"name": "by_key", "cardinality": "N:1", "by": ["key"]}]}
    found = reconcile(rules, *keyed)
    assert measure(found, truth(*((f"i{n:03}", "p") for n in range(60)))).whole.f1 == 1


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("left_id,right_id\na,1\nb\n", "row 2; expected: left_id, right_id; got: b"),
        ("left_id,right_id\na,1,x\n", "row 1; expected: left_id, right_id; got: a, 1, x"),
        ("left_id,right_id\na,\xe9\n", "not in UTF-8"),
    ],
)
def test_a_truth_that_cannot_be_read_is_told_by_row(tmp_path, written, told):
    path = tmp_path / "truth.CSV"
    path.write_bytes(written.encode("latin-1"))
    with pytest.raises(DataError, match=told):
        read_truth(path)
    path.write_text("left_id, right_id\na, 1\n\n")
    assert read_truth(path).to_pylist() == [{"left_id": "a", "right_id": "1"}]


def side(*rows):
    kinds = {"amount": pa.decimal128(18, 2)}
    columns = ("legal_entity_id", "currency", "id", "amount", "day")
    data = [("US", "USD", key, Decimal(amount), date(2026, 3, 1)) for key, amount in rows]
    return pa.table({c: pa.array(v, kinds.get(c)) for c, v in zip(columns, zip(*data, strict=True), strict=True)})


SIDE = {"name": "x", "id": ["id"], "currency": "currency", "amount": "amount", "date": "day"}
RULES = {
    "id": "d", "title": "Both sides", "left": SIDE, "right": SIDE,
    "passes": [{"name": "by_id", "by": ["id"]}],
    "compare": [{"name": "amount", "kind": "amount", "left": "amount", "right": "amount"}],
}  # fmt: skip
WIDER = RULES | {
    "compare": [RULES["compare"][0] | {"tolerance": {"minor_units": 50}}],
}
LEFT, RIGHT = side(("a", "10"), ("b", "20"), ("c", "30")), side(("a", "10"), ("b", "20.40"), ("c", "33"))


def test_a_change_is_told_by_what_it_gains_loses_and_changes_in_money():
    found = simulate(RULES, WIDER, LEFT, RIGHT)
    assert [(r["kind"], r["change"], r["key"], r["was"], r["is"]) for r in found.changes.to_pylist()] == [
        ("break", "lost", "b", "amount", None),
        ("match", "gained", "b", None, "by_id"),
    ]
    assert [(r["kind"], r["change"], r["currency"], r["number"], r["value"]) for r in found.summary.to_pylist()] == [
        ("break", "lost", "USD", 1, Decimal("0.4")),
        ("match", "gained", "USD", 1, Decimal(20)),
    ]
    back = simulate(WIDER, RULES, LEFT, RIGHT).summary.to_pylist()
    assert [(r["kind"], r["change"]) for r in back] == [("break", "gained"), ("match", "lost")]


def test_a_match_or_break_that_stays_but_differs_is_changed():
    renamed = RULES | {"passes": [{"name": "by_number", "by": ["id"]}]}
    kinds = {(r["kind"], r["change"], r["key"]) for r in simulate(RULES, renamed, LEFT, RIGHT).changes.to_pylist()}
    assert kinds == {("match", "changed", "a")}
    same = reconcile(RULES, LEFT, RIGHT)
    assert compare(same, same).changes.num_rows == 0


def test_two_files_are_measured_without_a_store(tmp_path, monkeypatch):
    import json

    import pyarrow.parquet as pq

    monkeypatch.setenv("TIEOUT_HOME", str(tmp_path / "nothing"))
    (tmp_path / "rules.yaml").write_text(json.dumps(RULES))
    pq.write_table(LEFT, tmp_path / "left.parquet")
    pq.write_table(RIGHT, tmp_path / "right.parquet")
    (tmp_path / "truth.csv").write_text("left_id,right_id\na,a\nb,b\nc,c\n")
    words = ["measure", str(tmp_path / "rules.yaml"), "--truth", str(tmp_path / "truth.csv"), "--json"]
    words += ["--left", str(tmp_path / "left.parquet"), "--right", str(tmp_path / "right.parquet")]
    said = CliRunner().invoke(app, ["reconcile", *words])
    figures = json.loads(said.output)
    assert (figures["whole"]["precision"], figures["whole"]["recall"]) == ("1.000000", "0.333333")
    assert figures["missed"] == 2
    assert not (tmp_path / "nothing").exists()
