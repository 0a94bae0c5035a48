"""A backfill shows what exists, what would be added and the net effect; it posts exactly that, by a second person."""

import shutil
from dataclasses import replace
from datetime import date
from decimal import Decimal

import pytest

from tieout.errors import LedgerError
from tieout.orchestration import past_dates
from tieout.orchestration.work import Work
from tieout.settings import SHIPPED_CONFIG, Settings
from tieout.store import approvals
from tieout.store.batches import select_batches

DAY = date(2026, 3, 29)
FORM = {"from_date": "2026-03-29", "to_date": "2026-03-29", "entities": ["US"], "reason": "an invoice came late"}


@pytest.fixture
def work(books, tmp_path):
    settings = Settings(home=tmp_path, config=SHIPPED_CONFIG, lake=str(tmp_path / "lake"), store=books.store.url)
    books.invoice("A", DAY, {"amount": "100"})
    assert books.post(books.plan(DAY)) == ["posted"]
    return Work(settings)


def late(books, number, amount):
    books.invoice(number, DAY, {"amount": amount})
    books.store.publish(f"catch up {number}", books.snapshot())


def asked_for(work, run_id, **form):
    request = past_dates.open_backfill(work, run_id, FORM | {"mode": "post"} | form, "anna")
    return request, past_dates.backfill_dry_run(work, request)


def test_it_shows_its_differences_and_posts_what_a_second_person_approved(work, books):
    late(books, "B", "60")
    request, counts = asked_for(work, "b1")
    assert counts == {"US": 1}
    found = past_dates.preview_backfill(work, DAY, DAY, ["US"])
    (slot,) = found.slots
    assert (slot.exists, slot.existing, slot.version, slot.added) == ("v1 posted", Decimal(100), 2, Decimal(60))
    assert [(e.account, e.existing, e.change) for e in found.accounts] == [
        ("11000", Decimal(100), Decimal(60)),
        ("40100", Decimal(-100), Decimal(-60)),
    ]
    put = past_dates.question(work, "b1")
    assert "| US | 11000 | 100.00 | 60.00 | 160.00 | USD |" in put.body
    assert "anna" in put.body

    with pytest.raises(LedgerError, match="no second person"):
        past_dates.plan_backfill(work, request)
    for who, options, why in (
        ("Anna", {"accept": True, "comment": ""}, "asked for a backfill"),
        ("ben", {"accept": False, "comment": ""}, "reason"),
        (" ", {"accept": True, "comment": ""}, "may decide"),
    ):
        with pytest.raises(LedgerError, match=why):
            past_dates.decide(work, "b1", who=who, **options)
    past_dates.decide(work, "b1", who="ben", accept=True, comment="")
    assert past_dates.question(work, "b1") is None

    late(books, "C", "7")  # what would be posted is no longer what was approved
    with pytest.raises(LedgerError, match="no second person"):
        past_dates.plan_backfill(work, request)
    again, _ = asked_for(work, "b2")
    past_dates.decide(work, "b2", who="ben", accept=True, comment="")
    for _ in range(2):  # a task that died is tried again
        past_dates.plan_backfill(work, again)
    batch = books.batch("billing/2026-03-29", 2)
    assert batch.gross == {"USD": Decimal(67)}
    with work.store.reading() as session:
        assert [p.who for p in approvals.preparers(session, batch)] == ["anna"]
    assert past_dates.preview_backfill(work, DAY, DAY, ["US"]).empty


def test_report_only_asks_nobody_and_plans_nothing(work, books):
    late(books, "B", "60")
    request, counts = asked_for(work, "b1", mode="report_only")
    assert counts == {"US": 1}
    assert past_dates.question(work, "b1") is None
    past_dates.plan_backfill(work, request | {"mode": "post"})  # the form that was kept counts, not what is handed on
    assert not past_dates.preview_backfill(work, DAY, DAY, ["US"]).empty


def test_streams_by_turns_are_shown_as_they_are_planned(work, books, tmp_path):
    config = tmp_path / "config"
    shutil.copytree(SHIPPED_CONFIG, config)
    text = (config / "entities.yaml").read_text()
    by_turns = "    streams: {cash: [{mode: post, from: 2026-03-29}]}\n    receivable_mode: gl_control\n"
    (config / "entities.yaml").write_text(text.replace("    receivable_mode: gl_control\n", by_turns, 1))
    turns = Work(replace(work.settings, config=config))
    books.pay("ch_1", DAY, "77")
    late(books, "B", "60")
    request, _ = asked_for(turns, "b1")
    shown = turns.store.facts("b1")["preview"]["contents"]
    assert {key.split("/")[3] for key in shown} == {"billing", "cash"}
    past_dates.decide(turns, "b1", who="ben", accept=True, comment="")
    past_dates.plan_backfill(turns, request)
    with books.store.reading() as session:
        planned = {b.batch_id for b in select_batches(session, states=("validated", "awaiting_approval"))}
    assert planned == {f"TIEOUT/{key}" for key in shown}
