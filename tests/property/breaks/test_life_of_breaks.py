"""Nights and people move breaks as a small model says they do, and every move is in a chain that verifies."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from sqlalchemy.orm import Session

from tieout import schema
from tieout.breaks.life import departures, kept_lives, make_life, sightings
from tieout.ids import Slot, run_key, short_key
from tieout.lake.engine import engine
from tieout.reconcile import Definition, result_schema
from tieout.store import Store, batches, write_offs
from tieout.store.break_acts import Act, Evidence, Pair, carry_out
from tieout.store.breaks import break_id, history, record, select_breaks
from tieout.store.write_offs import ToWriteOff

NAME, DAY, KEYS = "d", date(2026, 3, 29), ("a", "b", "c")
SIDE = {"name": "one", "id": ["id"], "currency": "currency", "amount": "amount"}
DEFINITION = Definition.model_validate(
    {
        "id": NAME, "title": "Both sides", "left": SIDE, "right": SIDE, "passes": [{"name": "p", "by": ["id"]}],
        "immaterial_limit": {"default": "15"},
    }
)  # fmt: skip
PROOF = (Evidence("0" * 64, "mail.eml", 1),)
ACTS = (
    "assign", "unassign", "resolve", "known_difference", "write_off", "approve_write_off", "reopen", "accept",
    "reject", "withdraw", "comment",
)  # fmt: skip


@dataclass
class Model:
    """A break as people would keep it on a sheet of paper."""

    state: str = "open"
    found: bool = True
    value: int = 0
    is_suggestion: bool = False
    cap: int | None = None
    expires: date | None = None
    decided_on: date | None = None
    asked_by: str | None = None
    approved: bool = False
    asked_for: int | None = None
    written_off: int = 0
    has_batch: bool = False
    verdict: str | None = None
    moves: int = 1

    def move(self, state: str) -> None:
        self.moves += 1
        self.state = state


def undecided(model: Model) -> None:
    model.cap = model.expires = model.decided_on = model.asked_by = None
    model.approved = False


def night(model: Model, day: date, value: int | None, is_suggestion: bool, matched: bool) -> None:
    """What one run makes of a break that was seen before; `value` is None where it finds none."""
    before = (model.state, model.is_suggestion)
    closed = model.state in ("resolved", "disappeared")
    if value is None:
        if not closed:
            model.state = "resolved" if matched else "disappeared"
            undecided(model)
    else:
        model.is_suggestion, model.value = is_suggestion, value
        outgrown = model.state == "known_difference" and (value > model.cap or model.expires < day)
        covered = 0 < value <= model.written_off
        found_again = closed and model.decided_on != day
        if outgrown or found_again or (model.state == "written_off" and not covered):
            model.state = "written_off" if found_again and covered else "open"
            undecided(model)
    model.found = value is not None
    model.moves += (model.state, model.is_suggestion) != before


def person(model: Model, act: str, who: str, today: date, cap: int, days: int) -> bool:
    """What a person's act makes of a break; False where it is refused."""
    living = model.state in ("open", "assigned")
    if act == "comment":
        model.moves += 1
        return True
    if act == "withdraw":
        if model.verdict is None:
            return False
        model.verdict = None
        model.moves += 1
        return True
    if not model.found and not (act == "resolve" and model.state == "disappeared"):
        return False
    may = {
        "assign": living,
        "unassign": model.state == "assigned",
        "resolve": living or model.state in ("known_difference", "disappeared"),
        "known_difference": (living or model.state == "known_difference") and cap >= model.value and days >= 0,
        "write_off": (living or model.state == "known_difference") and model.value > model.written_off,
        "approve_write_off": model.state == "write_off_pending" and not model.approved and who != model.asked_by,
        "reopen": model.state in ("known_difference", "write_off_pending", "resolved"),
        "accept": living and model.is_suggestion and model.verdict != "accepted",
        "reject": living and model.is_suggestion and model.verdict != "rejected",
    }[act]
    if not may:
        return False
    if act in ("accept", "reject"):
        model.verdict = act + "ed"
        model.moves += 1
    elif act == "approve_write_off":
        model.approved, model.decided_on = True, today
        model.moves += 1
    else:
        undecided(model)
        model.decided_on, model.asked_by = today, who
        if act in ("write_off", "reopen"):
            model.asked_for, model.has_batch = (model.value if act == "write_off" else None), False
        if act == "known_difference":
            model.cap, model.expires = cap, today + timedelta(days=days)
        model.move(
            {
                "assign": "assigned", "unassign": "open", "resolve": "resolved", "reopen": "open",
                "known_difference": "known_difference", "write_off": "write_off_pending",
            }[act]
        )  # fmt: skip
    return True


def journal(model: Model, fate: str, today: date) -> None:
    """What becomes of a break once its write-off's journal was planned, posted or refused."""
    if model.asked_for is None:
        return
    pending = model.state == "write_off_pending"
    if not pending or model.asked_for != model.value:
        ended = "open" if pending else None
    elif not model.approved:
        return
    elif not model.has_batch:
        model.has_batch = True
        return
    elif fate == "wait":
        return
    else:
        ended = "written_off" if fate == "posted" else "open"
    if ended == "written_off":
        model.written_off = model.asked_for
    if ended:
        model.move(ended)
        model.approved = ended == "written_off"
        model.decided_on = today
    model.asked_for, model.has_batch = None, False


class Life(RuleBasedStateMachine):
    """Runs of one reconciliation, night after night, and people in between."""

    @initialize()
    def begin(self) -> None:
        self.home = tempfile.TemporaryDirectory()
        self.store = Store(
            f"sqlite:///{Path(self.home.name) / 'store.sqlite'}", clock=lambda: datetime(2026, 4, 1, tzinfo=UTC)
        )
        self.store.upgrade()
        self.day = DAY
        self.lake = schema.table("breaks").arrow.empty_table()
        self.models: dict[str, Model] = {}
        self.night({}, set(), set())

    def teardown(self) -> None:
        if hasattr(self, "home"):
            self.home.cleanup()

    @rule(
        found=st.dictionaries(st.sampled_from(KEYS), st.integers(1, 20), max_size=3),
        suggested=st.sets(st.sampled_from(KEYS)),
        matched=st.sets(st.sampled_from(KEYS)),
    )
    def next_night(self, found: dict[str, int], suggested: set[str], matched: set[str]) -> None:
        self.day += timedelta(days=1)
        self.night(found, suggested, matched)

    @rule(
        key=st.sampled_from(KEYS),
        act=st.sampled_from(ACTS),
        who=st.sampled_from(("anna", "ben")),
        cap=st.integers(0, 20),
        days=st.integers(-1, 2),
    )
    def decide(self, key: str, act: str, who: str, cap: int, days: int) -> None:
        identity = break_id(NAME, "US", key, 1)
        asked = Act(
            act, who, "because", cap=Decimal(cap), cap_currency="USD", expires=self.day + timedelta(days=days),
            assignee=f"{who} {self.models[key].moves}" if key in self.models else who, evidence=PROOF,
            pairs={identity: Pair(key, f"{key}'", Decimal(1), Decimal(1))}, write_offs={identity: self.rest(key)},
        )  # fmt: skip
        with self.store.transaction() as session:
            done = carry_out(session, asked, [identity], self.store.now())
        told = key in self.models and person(self.models[key], act, who, self.day, cap, days)
        assert bool(done.changed) is told
        assert bool(done.refused) is not told

    def rest(self, key: str) -> ToWriteOff | str:
        model = self.models.get(key, Model())
        left = model.value - model.written_off
        return ToWriteOff(Decimal(left), "USD", "receivable", "credit") if left > 0 else "all of it is written off"

    @rule(fate=st.sampled_from(("wait", "posted", "posted", "refused")))
    def journals(self, fate: str) -> None:
        now = self.store.now()
        with self.store.transaction() as session:
            write_offs.settle(session, now)
            for batch in batches.select_batches(session, states=["awaiting_approval"]):
                steps = {"wait": (), "posted": ("approved", "submitted", "confirmed", "posted")}
                for state in steps.get(fate, ("rejected_by_approver",)):
                    batches.transition(session, batch.batch_id, state, actor="carla", now=now)
            for what in write_offs.accepted(session):
                self.plan(session, what)
            write_offs.settle(session, now)
            assert write_offs.settle(session, now) == 0
        for model in self.models.values():
            journal(model, fate, self.day)

    @rule(fate=st.sampled_from(("posted", "refused")))
    def write_all_off(self, fate: str) -> None:
        for key in KEYS:
            self.decide(key, "write_off", "anna", 0, 0)
            self.decide(key, "approve_write_off", "ben", 0, 0)
        self.journals("wait")
        self.journals(fate)

    def plan(self, session: Session, what: write_offs.Accepted) -> None:
        slot = Slot("US", "main", "2026-03", f"write_off-{what.break_key}", DAY)
        version, now = batches.next_version(session, slot), self.store.now()
        key = run_key(slot, version)
        content = {"amount": what.amount}
        lines = [batches.PlannedJournal(key, short_key(key), "USD", DAY, what.amount, 2, content)]
        batch = batches.plan(
            session, slot, version, lines, digest=key, accounting_date=DAY, kind=batches.WRITE_OFF,
            origin=what.break_id, needs_approval=True, run_id="r", actor="tieout", now=now,
        )  # fmt: skip
        write_offs.carry(session, what, batch.batch_id)
        for state in ("validated", "awaiting_approval"):
            batches.transition(session, batch.batch_id, state, actor="tieout", now=now)

    @invariant()
    def what_is_posted_is_what_is_written_off(self) -> None:
        if not hasattr(self, "store"):
            return
        with self.store.reading() as session:
            posted = {}
            for batch in batches.select_batches(session, states=["posted"]):
                posted[batch.origin] = posted.get(batch.origin, Decimal(0)) + batch.gross["USD"]
            for row in select_breaks(session, NAME):
                assert (row.written_off or 0) == posted.get(row.break_id, 0) == self.models[row.break_key].written_off

    @invariant()
    def the_store_is_as_the_model_says(self) -> None:
        if not hasattr(self, "store"):
            return
        with self.store.reading() as session:
            kept = {row.break_key: row for row in select_breaks(session, NAME)}
            assert {k: r.state for k, r in kept.items()} == {k: m.state for k, m in self.models.items()}
            for key, model in self.models.items():
                row = kept[key]
                assert (row.cap, row.expires) == (model.cap, model.expires)
                past = history(session, row.break_id, people=True)
                assert len(past) == model.moves
                assert past[-1].to_state == model.state
                by_people = sum(change.action != "recorded" for change in past)  # or by the journal of a write-off
                assert len(self.store.audit_entries(subject=row.break_id)) == by_people
        assert self.store.verify_audit(f"breaks/{NAME}") == []

    def night(self, found: dict[str, int], suggested: set[str], matched: set[str]) -> None:
        rows = [
            {
                "definition_id": NAME, "legal_entity_id": "US", "break_key": key, "ordinal": 1, "currency": "USD",
                "break_type": "suggested_match" if key in suggested else "amount", "left_rows": 1, "right_rows": 1,
                "value": Decimal(value), "is_material": value >= 10, "left_ids": key, "right_ids": f"{key}'",
                "owner": "team", "sentence": f"{key} differs.", "next_action": "Look.",
            }
            for key, value in found.items()
        ]  # fmt: skip
        matches = [
            {
                "definition_id": NAME, "legal_entity_id": "US", "pass_name": "p", "match_key": key, "ordinal": 1,
                "left_rows": 1, "right_rows": 1, "left_ids": key, "right_ids": f"{key}'",
            }
            for key in matched - set(found)
        ]  # fmt: skip
        with engine() as session:
            session.bind("breaks", self.lake)
            days = pa.table({"definition_id": [NAME] * 2, "business_date": [self.day - timedelta(days=1), self.day]})
            session.bind("totals", days)
            session.bind("found_breaks", pa.Table.from_pylist(rows, schema=result_schema("breaks")))
            session.bind("found_matches", pa.Table.from_pylist(matches, schema=result_schema("matches")))
            kept, newest = kept_lives(self.store, NAME)
            make_life(
                session, DEFINITION, self.day, kept=kept, looks_back=newest is not None and self.day < newest,
                sides={}, complete=True, unproven=(),
            )  # fmt: skip
            with self.store.transaction() as transaction:
                record(
                    transaction, NAME, self.day, "run", sightings(session), departures(session), self.store.now()
                )  # fmt: skip
            shape = schema.table("breaks").arrow
            query = f"SELECT DATE '{self.day}' AS business_date, * FROM current_breaks"
            self.lake = session.sql(query).select(shape.names).cast(shape)
            forward = session.sql("SELECT * FROM forward").to_pylist()
        for key, model in self.models.items():
            night(model, self.day, found.get(key), key in suggested, key in matched)
        for key in set(found) - set(self.models):
            self.models[key] = Model(value=found[key], is_suggestion=key in suggested)
        assert {r["break_key"]: r["state"] for r in self.lake.to_pylist()} == {
            key: self.models[key].state for key in found
        }
        self.the_movements_add_up(forward, found)

    def the_movements_add_up(self, forward: list[dict], found: dict[str, int]) -> None:
        for row in forward:
            for unit in ("breaks", "value"):
                moves = ("opening", "new", "reopened", "revalued", "resolved", "disappeared")
                assert sum(row[f"{move}_{unit}"] for move in moves) == row[f"closing_{unit}"]
            small = [value for value in found.values() if value < 10]
            assert row["closing_value"] == sum(found.values())
            assert (row["immaterial_breaks"], row["immaterial_value"]) == (len(small), sum(small))
            assert row["is_watched"] is (sum(small) > 15)


Life.TestCase.settings = settings(
    max_examples=8,
    stateful_step_count=12,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
TestLifeOfBreaks = Life.TestCase
