"""Who posts what: by turns, never two at once."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from tieout.entities import LegalEntity
from tieout.ledger.authorship import problems

D29, D30 = date(2026, 3, 29), date(2026, 3, 30)
APRIL = date(2026, 4, 1)


def entity(**changes: Any) -> LegalEntity:
    values = {"id": "US", "name": "x", "functional_currency": "USD", "zone": "UTC", "country": "US", "go_live": D29}
    return LegalEntity.model_validate(values | changes)


def test_a_stream_is_posted_by_turns() -> None:
    one = entity(
        streams={"cash": "verify", "billing": [{"mode": "verify", "from": D29}, {"mode": "post", "from": D30}]}
    )
    assert not one.posts("cash", D30)
    assert (one.posts("billing", D29), one.posts("billing", D30)) == (False, True)
    assert one.posts("release", D29)
    assert not one.posts("revaluation", D29)
    assert entity(revaluation="tieout").posts("revaluation", D29)


def test_two_turns_from_one_day_on_are_refused() -> None:
    turns = [{"mode": "verify", "from": D29}, {"mode": "post", "from": D29}]
    with pytest.raises(ValidationError, match="two turns"):
        entity(streams={"billing": turns})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        pytest.param({}, None, id="nobody else"),
        pytest.param(
            {"authors": [{"stream": "release", "by": "NetSuite ARM", "from": D29}]},
            "release is posted by Tieout and by NetSuite ARM from 2026-03-29",
            id="both post without end",
        ),
        pytest.param(
            {
                "streams": {"release": [{"mode": "verify", "from": D29}, {"mode": "post", "from": APRIL}]},
                "authors": [{"stream": "release", "by": "NetSuite ARM", "from": "2025-01-01", "until": "2026-03-31"}],
            },
            None,
            id="one ends before the other begins",
        ),
        pytest.param(
            {
                "streams": {"release": [{"mode": "verify", "from": D29}, {"mode": "post", "from": APRIL}]},
                "authors": [{"stream": "release", "by": "NetSuite ARM", "from": "2025-01-01", "until": APRIL}],
            },
            "from 2026-04-01 to 2026-04-01",
            id="a day too long",
        ),
        pytest.param({"schedule_source": "erp"}, "set stream release to verify", id="the ERP has the schedules"),
        pytest.param({"schedule_source": "erp", "streams": {"release": "verify"}}, None, id="and posts the releases"),
        pytest.param(
            {"streams": {"accrual": [{"mode": "verify", "from": D29}, {"mode": "post", "from": "2026-04-15"}]}},
            "within period 2026-04",
            id="a turn within a period",
        ),
    ],
)
def test_overlapping_authorship_is_told(changes: dict[str, Any], said: str | None) -> None:
    found = problems(entity(**changes))
    assert (found == []) if said is None else (len(found) == 1 and said in found[0])


def test_days_that_somebody_else_posts_are_left_out_and_what_was_posted_before_stays(make_books: Any) -> None:
    turns = [{"mode": "post", "from": D29}, {"mode": "verify", "from": D30}]
    books = make_books()
    books.invoice("A", D29, {"amount": "100"})
    books.post(books.plan(D29))
    books.entity = books.entity.model_copy(update={"streams": entity(streams={"billing": turns}).streams})
    books.invoice("B", D30, {"amount": "50"})
    assert books.plan(D30).batches == ()
    assert books.balances()["11000"] == Decimal("100")
