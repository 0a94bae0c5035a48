"""The life of breaks over business dates, on the entitlement reconciliation."""

from datetime import date, timedelta

from tieout.lake.hashing import result_hash
from tieout.store.breaks import break_id, history, select_breaks

DAY = date(2026, 3, 29)
NAME = "entitlement_to_contract"


def days(n):
    return DAY + timedelta(days=n)


TERM = {"start_date": date(2026, 1, 1), "end_date": date(2027, 1, 1)}
CUSTOMER = {"customer_id": "crm:A", "customer_source_id": "A"}


def sold(house, *roots, **changes):
    line = TERM | CUSTOMER | {
        "contract_source_id": "K1", "product_family": "support", "product_source_id": "S", "is_trial": False,
    }  # fmt: skip
    house.put("product", {"source_id": "S", "name": "Premium support", "family": "support"})
    house.put("contract", TERM | CUSTOMER | {"source_id": "K1", "number": "100", "status": "Activated"})
    house.put("contract_line", *(line | {"source_id": root, "root_line_id": root} | changes for root in roots))


def granted(house, *roots):
    rows = TERM | CUSTOMER | {"level": "Premium", "status": "Active"}
    house.put("entitlement", *(rows | {"source_id": f"e-{root}", "contract_line_ref": root} for root in roots))


def life(result):
    return {
        b["break_key"]: (b["break_type"], b["state"], b["change"], b["first_seen"], b["age_days"], b["days_seen"])
        for b in result.breaks.to_pylist()
    }


def gone(house, day):
    rows = house.lake.read("breaks_gone", house.store.published()["breaks_gone"]).to_pylist()
    return {r["break_key"]: (r["state"], r["first_seen"]) for r in rows if r["business_date"] == day}


def states(house):
    with house.store.reading() as session:
        return {b.break_key: (b.state, b.break_type) for b in select_breaks(session, NAME)}


def test_timing_that_becomes_missing_keeps_its_age_and_history(house):
    sold(house, "a", start_date=days(-1))
    assert life(house.run(NAME)) == {"a": ("timing", "open", "new", DAY, 1, 0)}
    assert life(house.run(NAME, days(1))) == {"a": ("timing", "open", "continuing", DAY, 2, 1)}
    assert life(house.run(NAME, days(2))) == {"a": ("missing_left", "open", "continuing", DAY, 3, 2)}
    with house.store.reading() as session:
        changes = history(session, break_id(NAME, "US", "a", 1))
    assert [(c.business_date, c.from_type, c.to_type) for c in changes] == [
        (DAY, None, "timing"), (days(2), "timing", "missing_left"),
    ]  # fmt: skip
    assert house.store.verify_audit(f"breaks/{NAME}") == []
    assert len(house.store.audit_entries(f"breaks/{NAME}")) == 2


def test_a_break_whose_rows_match_now_is_resolved(house):
    sold(house, "a", "b")
    house.run(NAME)
    granted(house, "a")
    assert set(life(house.run(NAME, days(1)))) == {"b"}
    assert gone(house, days(1)) == {"a": ("resolved", DAY)}
    assert states(house) == {"a": ("resolved", "missing_left"), "b": ("open", "missing_left")}


def test_a_break_that_vanishes_with_its_rows_disappeared(house):
    sold(house, "a", "b")
    house.run(NAME)
    sold(house, "b")
    house.run(NAME, days(1))
    assert gone(house, days(1)) == {"a": ("disappeared", DAY)}
    assert states(house)["a"][0] == "disappeared"


def test_a_break_is_not_resolved_by_another_entitys_row_of_the_same_number(house):
    """The German line a is granted all the time; the American one is deleted."""
    german = TERM | CUSTOMER | {"legal_entity_id": "DE"}
    line = german | {
        "contract_source_id": "K1", "product_family": "support", "product_source_id": "S", "is_trial": False,
        "source_id": "a", "root_line_id": "a",
    }  # fmt: skip
    house.put("product", {"source_id": "S", "name": "Premium support", "family": "support"})
    house.put(
        "contract",
        *(t | {"source_id": "K1", "number": "100", "status": "Activated"} for t in (german, TERM | CUSTOMER)),
    )
    house.put(
        "entitlement", german | {"source_id": "e-a", "contract_line_ref": "a", "level": "Premium", "status": "Active"}
    )
    house.put("contract_line", line, line | {"legal_entity_id": "US"})
    assert set(life(house.run(NAME))) == {"a"}
    house.put("contract_line", line)
    house.run(NAME, days(1))
    assert gone(house, days(1)) == {"a": ("disappeared", DAY)}


def test_nothing_is_resolved_while_a_side_is_incomplete(house):
    sold(house, "a")
    house.run(NAME)
    granted(house, "a")
    house.run(NAME, days(1), sides_complete=False)
    assert gone(house, days(1)) == {"a": ("disappeared", DAY)}


def test_nothing_of_an_unproven_entity_is_resolved(house):
    sold(house, "a")
    house.run(NAME)
    granted(house, "a")
    house.run(NAME, days(1), unproven_entities={"US"})
    assert gone(house, days(1)) == {"a": ("disappeared", DAY)}


def test_a_break_that_comes_back_is_reopened_with_its_first_date(house):
    sold(house, "a")
    house.run(NAME)
    granted(house, "a")
    house.run(NAME, days(1))
    granted(house)
    assert life(house.run(NAME, days(2)))["a"][1:4] == ("open", "reopened", DAY)
    assert states(house)["a"][0] == "open"


def test_running_a_date_again_changes_nothing(house):
    sold(house, "a", "b")
    tables = ("breaks", "matches", "totals", "breaks_gone")

    def hashes():
        published = house.store.published()
        return [result_hash(house.lake.read(t, published[t]), ["definition_id", "legal_entity_id"]) for t in tables]

    house.run(NAME)
    granted(house, "a")
    house.run(NAME, days(1))
    first, audited, known = hashes(), len(house.store.audit_entries(f"breaks/{NAME}")), states(house)
    house.run(NAME, days(1))
    assert hashes() == first
    assert states(house) == known
    assert len(house.store.audit_entries(f"breaks/{NAME}")) == audited


def test_an_earlier_date_run_again_decides_nothing(house):
    sold(house, "a")
    house.run(NAME, days(1))
    granted(house, "a")
    house.run(NAME, DAY)
    assert states(house) == {"a": ("open", "missing_left")}
