"""Who may approve a batch: not who prepared it, not for other content, not by waiting."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from pydantic import ValidationError

from tieout.entities import Approval, LegalEntity
from tieout.errors import LedgerError
from tieout.ids import Slot, run_key, short_key
from tieout.store import Store, approvals, batches, breaks, configuration

DAY = date(2026, 3, 29)
NOW = datetime(2026, 3, 30, 9, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def store(tmp_path):
    made = Store(f"sqlite:///{tmp_path / 'store.sqlite'}", clock=lambda: NOW)
    made.upgrade()
    return made


def planned(session, stream="billing", version=1, gross="100", state="awaiting_approval", now=NOW, run="night"):
    slot = Slot("US", "main", "2026-03", stream, DAY)
    key = run_key(slot, version)
    content = {"entity": "US", "date": DAY, "currency": "USD", "narrative": stream, "lines": []}
    journal = batches.PlannedJournal(key, short_key(key), "USD", DAY, Decimal(gross), 2, content)
    batch = batches.plan(
        session, slot, version, [journal], digest=f"{version:064}", accounting_date=DAY, kind="original", origin=None,
        needs_approval=True, run_id=run, actor="tieout", now=now,
    )  # fmt: skip
    session.get(batches.BatchRow, batch.batch_id).state = state
    session.flush()
    return batches.get(session, batch.batch_id)


def decide(session, batch, who="bea", now=NOW, **changes):
    options = {"accept": True, "comment": "seen"} | changes
    return approvals.decide(session, batch.batch_id, batch.content_hash, approver=who, now=now, **options)


def decided_break(session, who, at=NOW, entity="US", action="resolve"):
    row = breaks.BreakRow(
        break_id=f"{who}{at:%H%M}{entity}", definition_id="d", legal_entity_id=entity, break_key="k", ordinal=1,
        break_type="amount", state="open", owner="o", first_seen=DAY, last_seen=DAY, sentence="s",
    )  # fmt: skip
    session.add(row)
    session.add(
        breaks.BreakChangeRow(
            break_id=row.break_id, business_date=DAY, run_id="", at=at, to_state="resolved", to_type="amount",
            actor=who, action=action,
        )
    )  # fmt: skip
    session.flush()


def live(session, who, files, now=NOW):
    configuration.bootstrap(session, {"posting_rules.yaml": b"1", "reconciliations/a.yaml": b"1"}, NOW - 9 * HOUR)
    made = configuration.propose(session, files, who=who, reason="r", now=now)
    configuration.decide(session, made.number, who="second", accept=True, comment="", now=now)


class TestPreparers:
    def test_are_who_changed_rules_decided_about_breaks_or_asked_for_the_backfill(self, store):
        store.start_run("b", "backfill", DAY, {"asked_by": "dan", "mode": "post", "entities": ["US"]})
        store.start_run("r", "backfill", DAY, {"asked_by": "eve", "mode": "report_only", "entities": ["US"]})
        store.start_run("de", "backfill", DAY, {"asked_by": "fay", "mode": "post", "entities": ["DE"]})
        with store.transaction() as session:
            batch = planned(session)
            live(session, "al", {"posting_rules.yaml": b"2", "reconciliations/a.yaml": b"1"})
            live(session, "gus", {"posting_rules.yaml": b"2", "reconciliations/a.yaml": b"2"}, NOW + HOUR)
            decided_break(session, "cy")
            decided_break(session, "hal", entity="DE")
            found = approvals.preparers(session, batch)
            assert [(p.who, p.why) for p in found] == [
                ("al", "changed rules or mappings"),
                ("cy", "decided about breaks"),
                ("dan", "asked for the backfill"),
            ]
            for who in ("al", "CY ", "Dan"):
                with pytest.raises(LedgerError, match="preparer"):
                    decide(session, batch, who)
            assert decide(session, batch, "eve").state == "approved"

    def test_are_free_again_once_a_batch_of_the_stream_was_approved(self, store):
        with store.transaction() as session:
            decided_break(session, "cy")
            decide(session, planned(session, "cash"), now=NOW + HOUR)
            with pytest.raises(LedgerError, match="preparer"):  # an approved cash batch vouches for no billing
                decide(session, first := planned(session), "cy", NOW + 2 * HOUR)
            decide(session, first, now=NOW + 3 * HOUR)
            assert decide(session, planned(session, version=2), "cy", NOW + 4 * HOUR).state == "approved"

    def test_are_not_free_because_an_older_batch_was_approved(self, store):
        """It was made before what they did, and its approver saw nothing of it."""
        with store.transaction() as session:
            older = planned(session)
            live(session, "al", {"posting_rules.yaml": b"2", "reconciliations/a.yaml": b"1"}, NOW + HOUR)
            newer = planned(session, version=2, now=NOW + 2 * HOUR)
            decide(session, older, now=NOW + 3 * HOUR)
            with pytest.raises(LedgerError, match="preparer"):
                decide(session, newer, "al", NOW + 4 * HOUR)
            assert decide(session, newer, now=NOW + 4 * HOUR).state == "approved"

    def test_are_known_by_their_id_too(self, store):
        approval = Approval.model_validate({"approvers": [{"name": "Al Smith", "id": "al"}, "bea"]})
        assert approval.names_of("al smith") == approval.names_of("AL") == ("Al Smith", "al")
        with store.transaction() as session:
            decided_break(session, "al")
            with pytest.raises(LedgerError, match="preparer"):
                decide(session, planned(session), "Al Smith", also_known_as=approval.names_of("Al Smith"))

    def test_may_withdraw_what_they_prepared(self, store):
        with store.transaction() as session:
            decided_break(session, "cy")
            assert decide(session, planned(session), "cy", accept=False).state == "rejected_by_approver"


def test_a_decision_needs_somebody_allowed_a_reason_to_reject_and_the_same_content(store):
    with store.transaction() as session:
        batch = planned(session)
        for who, options, why in (
            ("", {}, "somebody"),
            ("mal", {"allowed": ["bea"]}, "among those"),
            ("bea", {"accept": False, "comment": " "}, "reason"),
        ):
            with pytest.raises(LedgerError, match=why):
                decide(session, batch, who, **options)
        with pytest.raises(LedgerError, match="other content"):
            approvals.decide(session, batch.batch_id, "f" * 64, approver="bea", accept=True, comment="", now=NOW)
        decide(session, batch, "BEA", allowed=["bea"])
        assert approvals.decision(session, batch.batch_id) == approvals.Decision("approved", "BEA", "seen", ())
        assert approvals.is_approved(session, batches.get(session, batch.batch_id))


def test_a_question_left_unanswered_is_escalated_and_asked_again_never_approved(store):
    with store.transaction() as session:
        batch = planned(session)
        approvals.ask(session, batch.batch_id, "run1", ["bea"], NOW + HOUR, NOW)
        assert approvals.unasked(session, NOW) == []
        assert approvals.unasked(session, NOW + 2 * HOUR) == [batch.batch_id]  # a run that was lost asks no more
        told = approvals.escalate(session, "run1", "cfo", "nobody decided", NOW + HOUR)
        assert (told.state, told.owner, told.reason) == ("awaiting_approval", "cfo", "nobody decided")
        assert not approvals.is_approved(session, told)
        assert approvals.escalated(session, batch.batch_id)
        assert approvals.unasked(session, NOW) == [batch.batch_id]
    assert store.verify_audit("US/main") == []


def test_every_version_that_was_posted_or_may_be_counts_towards_the_threshold(store):
    with store.transaction() as session:
        for version, state in enumerate(("posted", "reversed", "rejected", "rejected_by_approver", "validated"), 1):
            batch = planned(session, version=version, state=state)
        assert approvals.gross_of_slot(session, batch.slot) == {"USD": Decimal(300)}
        assert approvals.gross_of_slot(session, batch.slot, 5) == {"USD": Decimal(200)}


class TestThresholds:
    @pytest.mark.parametrize(
        ("stream", "gross", "needs"),
        [
            ("billing", {"USD": "99.99"}, False),
            ("billing", {"USD": "100"}, True),
            ("cash", {"USD": "100"}, False),
            ("cash", {"USD": "500"}, True),
            ("billing", {"EUR": "1"}, True),  # no rate decides whether it is over
            ("write_off", {"USD": "0.01"}, True),
        ],
    )
    def test_are_by_stream_and_in_the_functional_currency(self, stream, gross, needs):
        entity = LegalEntity(
            id="US", name="n", functional_currency="USD", zone="UTC", country="US", go_live=DAY,
            approval={"thresholds": {"billing": "100", "*": 500}},
        )  # fmt: skip
        assert entity.needs_approval(stream, {c: Decimal(a) for c, a in gross.items()}) is needs

    def test_without_one_nothing_waits(self):
        entity = LegalEntity(id="US", name="n", functional_currency="USD", zone="UTC", country="US", go_live=DAY)
        assert not entity.needs_approval("billing", {"USD": Decimal(10**9)})

    @pytest.mark.parametrize(
        ("wrong", "why"),
        [({"billing": 1.5}, "quotes"), ({"sales": "1"}, "no such stream"), ({"cash": "-1"}, "negative")],
        ids=["float", "stream", "negative"],
    )
    def test_that_cannot_be_meant_are_refused(self, wrong, why):
        with pytest.raises(ValidationError, match=why):
            Approval(thresholds=wrong)
