"""Precision and recall of a run's breaks against the answer key."""

from datetime import date

from tieout_sandbox.company.model import Label
from tieout_sandbox.scoring import score

DAY = date(2026, 3, 30)


def label(key, break_type="amount", *, entity="US", visible_from=DAY, visible_to=None):
    return Label(f"L{key}", "usage_to_billing", break_type, entity, key, visible_from, visible_to, None, None, "")


def row(key, break_type="amount", entity="US"):
    return {
        "definition_id": "usage_to_billing",
        "legal_entity_id": entity,
        "break_key": key,
        "break_type": break_type,
    }


def test_a_break_counts_only_with_the_planted_type_and_entity():
    result = score(
        [row("a"), row("b", "missing_left"), row("c", entity="DE")], [label("a"), label("b"), label("c")], DAY
    )
    assert {b.break_key for b in result.found} == {"a"}
    assert {b.break_key for b in result.missed} == {"b", "c"}
    assert result.by_type() == {
        "amount": {"planted": 3, "found": 1, "invented": 1},
        "missing_left": {"planted": 0, "found": 0, "invented": 1},
    }
    assert (result.precision, result.recall) == (1 / 3, 1 / 3)


def test_a_label_counts_while_it_is_visible():
    later = label("later", visible_from=date(2026, 3, 31))
    gone = label("gone", visible_to=DAY)
    assert score([], [later, gone], DAY).planted == frozenset()


def test_a_record_of_nobody_has_an_empty_entity():
    assert score([row("t", entity="")], [label("t", entity=None)], DAY).recall == 1


def test_nothing_planted_and_nothing_found_is_perfect():
    nothing = score([], [], DAY)
    assert (nothing.precision, nothing.recall) == (1.0, 1.0)
