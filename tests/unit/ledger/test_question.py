"""What an approver is shown of a batch, who is asked, and that what vendors wrote stays text."""

from datetime import date, timedelta

import pytest

from tieout.errors import LedgerError
from tieout.orchestration import approval, by_hand
from tieout.orchestration.work import Work
from tieout.settings import SHIPPED_CONFIG, Settings
from tieout.store import approvals, breaks

DAY = date(2026, 3, 29)
RULES = 'approval: {thresholds: {billing: "50.00"}, approvers: [anna, {name: ben, id: "7"}], escalate_to: [cfo]}'


@pytest.fixture
def waiting(make_books, tmp_path):
    (tmp_path / "config").mkdir()
    shipped = (SHIPPED_CONFIG / "entities.yaml").read_text()
    (tmp_path / "config" / "entities.yaml").write_text(
        shipped.replace("    country: US\n", f"    country: US\n    {RULES}\n")
    )
    books = make_books(approval={"thresholds": {"billing": "50.00"}})
    books.invoice("A|<img src=x>", DAY, {"amount": "100"})
    plan = books.plan(DAY)
    books.store.publish("run1", plan.versions)
    settings = Settings(home=tmp_path, config=tmp_path / "config", lake=str(tmp_path / "lake"), store=books.store.url)
    return Work(settings), plan.batches[0]


def decided_about_a_break(work, who):
    with work.store.transaction() as session:
        session.add(
            breaks.BreakRow(
                break_id=who, definition_id="d", legal_entity_id="US", break_key=who, ordinal=1, break_type="amount",
                state="open", owner="o", first_seen=DAY, last_seen=DAY, sentence="s",
            )
        )  # fmt: skip
        session.add(
            breaks.BreakChangeRow(
                break_id=who, business_date=DAY, run_id="", at=work.store.now(), to_state="resolved",
                to_type="amount", actor=who, action="resolve",
            )
        )  # fmt: skip


def test_it_shows_lines_source_rows_and_preparers_and_asks_who_prepared_nothing(waiting):
    work, batch_id = waiting
    assert approval.waiting(work) == [batch_id]
    decided_about_a_break(work, "anna")
    asked = approval.question(work, batch_id)
    assert asked.may_answer == (("7", "ben"),)
    assert asked.expires_at - work.store.now() == pytest.approx(timedelta(hours=24), abs=timedelta(minutes=5))
    assert asked.subject == f"Approve {batch_id}: 100.00 USD gross"
    assert r"| 1 | 11000 | 100.00 |  | invoice delivered | 1 | A\|\<img src=x\> 100.00 |" in asked.body
    assert "| anna | decided about breaks |" in asked.body
    assert "| 11000 | debit | 100.00 | 0.00 | 0.00 |" in asked.body
    assert "| Threshold | 50.00 USD |" in asked.body
    assert "| Second person | needed |" in asked.body

    approval.ask(work, asked, "run1")
    assert approval.waiting(work) == []
    with pytest.raises(LedgerError, match="preparer"):
        approval.answer(work, "run1", who="anna", accept=True, comment="")
    refused = [e for e in work.store.audit_entries(subject=batch_id) if e.action == "approval.refused"]
    assert [e.actor for e in refused] == ["anna"]
    approval.escalate(work, "run1")
    assert approval.question(work, batch_id).names == ("ben", "cfo")
    assert (
        approval.decide(work, batch_id, asked.content_hash, who="cfo", accept=True, comment="", via="t") == "approved"
    )
    assert approval.question(work, batch_id) is None
    assert approval.answer(work, "run1", who="ben", accept=False, comment="late") == "approved"
    assert "approved by cfo" in approval.shown(work, batch_id)
    with work.store.reading() as session:
        assert approvals.decision(session, batch_id).preparers == ("anna",)


def test_where_everybody_who_may_decide_prepared_it_that_is_said(waiting):
    work, batch_id = waiting
    for who in ("anna", "ben"):
        decided_about_a_break(work, who)
    with pytest.raises(LedgerError, match="everybody who may approve it prepared it"):
        approval.question(work, batch_id)


def test_the_second_person_behind_a_reversal_is_one_who_could_approve_the_batch(waiting):
    work, batch_id = waiting
    decided_about_a_break(work, "anna")
    for second, why in (("Anna", "preparer"), ("mal", "among those")):
        with pytest.raises(LedgerError, match=why):
            by_hand.reverse(work, batch_id, on=DAY, actor="cy", second=second, reason="wrong account")
