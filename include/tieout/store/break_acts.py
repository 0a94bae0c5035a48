"""What people do about breaks: which transitions they may make; each is recorded, audited, and refused where wrong.

A break is *found* where the newest recorded run has it. Only a found break can be open, assigned, a known difference or
about to be written off; what is gone can be commented on, and looked at where it disappeared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import delete, insert, select, update
from sqlalchemy.orm import Session

from tieout.errors import DataError, IllegalTransition
from tieout.store import audit, write_offs
from tieout.store.breaks import CLOSED, BreakChangeRow, BreakRow, BreakVerdictRow, last_recorded
from tieout.store.write_offs import ToWriteOff

TRANSITIONS: Mapping[str, Mapping[str, str]] = {
    "assign": {"open": "assigned", "assigned": "assigned"},
    "unassign": {"assigned": "open"},
    "resolve": dict.fromkeys(("open", "assigned", "known_difference", "disappeared"), "resolved"),
    "known_difference": dict.fromkeys(("open", "assigned", "known_difference"), "known_difference"),
    "write_off": dict.fromkeys(("open", "assigned", "known_difference"), "write_off_pending"),
    "approve_write_off": {"write_off_pending": "write_off_pending"},
    "reopen": dict.fromkeys(("known_difference", "write_off_pending", "resolved"), "open"),
    "accept": {"open": "open", "assigned": "assigned"},
    "reject": {"open": "open", "assigned": "assigned"},
    "withdraw": {},  # any state, where a verdict stands
    "comment": {},  # any state
}
"""By what is done: from which states, to which. `comment` and `withdraw` leave the state as it is."""

NEEDS_REASON = ("resolve", "known_difference", "write_off", "reopen", "reject", "withdraw", "comment")
_SUGGESTIONS = ("suggested_match", "ambiguous")
_IN = 500
_LONGEST_NAME = 200
_LONGEST_PAIR = 2_500
"""Bytes of the ids of both sides: they are the verdict's key, and PostgreSQL's indexes hold no longer one."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """A file that proves something, as it is kept: by its content hash."""

    sha256: str
    name: str
    size: int


@dataclass(frozen=True, slots=True)
class Pair:
    """The rows a verdict is about, as the break lists them, and their amounts then."""

    left_ids: str
    right_ids: str
    left_amount: Decimal | None
    right_amount: Decimal | None


@dataclass(frozen=True, slots=True)
class Act:
    """What a person does to one break or to many. Which fields count depends on `action`.

    `cap` is in `cap_currency`; `expires` is the last business date it is accepted for; `pairs` gives, by break, the
    rows that an accept or reject is about; `write_offs` what of it can be written off, or why nothing can.
    """

    action: str
    actor: str
    reason: str = ""
    assignee: str | None = None
    cap: Decimal | None = None
    cap_currency: str | None = None
    expires: date | None = None
    evidence: tuple[Evidence, ...] = ()
    pairs: Mapping[str, Pair] | None = None
    write_offs: Mapping[str, ToWriteOff | str] | None = None

    def __post_init__(self) -> None:
        if self.action not in TRANSITIONS:
            raise DataError("nobody can do that to a break", got=self.action, expected=", ".join(TRANSITIONS))
        if not self.actor.strip():
            raise DataError("say who does it", record=self.action)
        for name in (self.actor, self.assignee or ""):
            if len(name) > _LONGEST_NAME:
                raise DataError(
                    "a name is too long", record=self.action, expected=f"at most {_LONGEST_NAME} characters"
                )
        if self.action in NEEDS_REASON and not self.reason.strip():
            raise DataError("give a reason", record=self.action)
        if self.action == "assign" and not (self.assignee or "").strip():
            raise DataError("say whom it is assigned to", record=self.action)
        if self.action == "resolve" and not self.evidence:
            raise DataError("a resolution needs evidence", record=self.action, remedy="add a file that proves it")
        if self.action == "known_difference" and self.expires is None:
            raise DataError("a known difference needs the last day it is accepted for", record=self.action)


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a break stands, as far as a person's act depends on it."""

    break_id: str
    definition_id: str
    break_type: str
    state: str
    currency: str | None
    value: Decimal | None
    assignee: str | None
    decided_by: str | None
    approved_by: str | None
    found: bool
    newest: date
    """The newest business date recorded for its definition."""
    verdicts: frozenset[tuple[str, Pair]] = frozenset()
    """`accepted` or `rejected`, and which rows."""
    is_on_its_way: bool = False
    """The batch that writes it off may have reached the ERP."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a break stays as it is."""

    break_id: str
    reason: str

    def __str__(self) -> str:
        return f"{self.break_id[:12]}  {self.reason}"


@dataclass(frozen=True, slots=True)
class Done:
    """What an act did, or would do: by break the state before and after, and what was refused and why."""

    changed: tuple[tuple[str, str, str], ...]
    refused: tuple[Refusal, ...]


def judge(act: Act, at: Standing) -> str:
    """The state an act leads to. Raises IllegalTransition, saying why and what to do, where it may not be done."""

    def refuse(reason: str, remedy: str | None = None) -> IllegalTransition:
        return IllegalTransition(reason, record=at.break_id, remedy=remedy)

    if act.action == "comment":
        return at.state
    if act.action == "withdraw":
        if not at.verdicts:
            raise refuse("nobody accepted or rejected a match of this break")
        return at.state
    allowed = TRANSITIONS[act.action]
    if at.state not in allowed:
        verb = act.action.replace("_", " ")
        is_posted = act.action == "reopen" and at.state == "written_off"
        remedy = "reverse the journal that wrote it off" if is_posted else None
        raise refuse(f"{verb} is for breaks that are {_listed(allowed)}; this one is {_words(at.state)}", remedy)
    if not at.found and at.state != "disappeared":
        raise refuse("the newest run does not find it any more", "it opens again by itself when it is back")
    if act.action == "assign" and at.state == "assigned" and at.assignee == act.assignee:
        raise refuse(f"it is assigned to {act.assignee} already")
    if act.action in _WITH_RULES:
        _WITH_RULES[act.action](act, at, refuse)
    return allowed[at.state]


Refuse = Callable[..., IllegalTransition]


def _known(act: Act, at: Standing, refuse: Refuse) -> None:
    if act.expires is None or act.expires < at.newest:
        raise refuse(f"it would have expired before {at.newest}", "give a later day")
    if at.value is None:
        if act.cap is not None:
            raise refuse("it has no single amount that a cap could hold", "leave the cap out")
        return
    if act.cap is None:
        raise refuse(f"it is worth {at.value.normalize():f} {at.currency or ''}".rstrip(), "give a cap")
    if act.cap_currency != at.currency:
        raise refuse(f"its amount is in {at.currency}, the cap in {act.cap_currency}", "give a cap in its currency")
    if at.value > act.cap:
        raise refuse(f"its {at.value.normalize():f} {at.currency} is beyond the cap already", "give a higher cap")


def _written(act: Act, at: Standing, refuse: Refuse) -> None:
    what = (act.write_offs or {}).get(at.break_id, "it was not looked up what of it can be written off")
    if at.value is None:
        raise refuse("there is no single amount to write off")
    if isinstance(what, str):
        raise refuse(what)
    _not_on_its_way(act, at, refuse)


def _approved(act: Act, at: Standing, refuse: Refuse) -> None:
    if at.approved_by is not None:
        raise refuse(f"{at.approved_by} approved it already")
    if act.actor == at.decided_by:
        raise refuse("who asks for a write-off may not approve it", "ask a second person")


def _not_on_its_way(act: Act, at: Standing, refuse: Refuse) -> None:
    if at.is_on_its_way:
        raise refuse("the journal that writes it off is on its way into the ERP", "reverse it once it is posted")


def _about_a_match(act: Act, at: Standing, refuse: Refuse) -> None:
    if at.break_type not in _SUGGESTIONS:
        raise refuse(f"it is no suggested match but {_words(at.break_type)}")
    pair = (act.pairs or {}).get(at.break_id)
    if pair is None:
        raise refuse("it is not clear which rows are meant", "name one of the candidates it lists")
    if len(f"{pair.left_ids}{pair.right_ids}".encode()) > _LONGEST_PAIR:
        raise refuse(f"it has too many rows to be {act.action}ed as one", "settle it in the systems its rows come from")
    if (act.action + "ed", pair) in at.verdicts:
        raise refuse(f"it is {act.action}ed already")


_WITH_RULES: Mapping[str, Callable[[Act, Standing, Refuse], None]] = {
    "known_difference": _known,
    "write_off": _written,
    "approve_write_off": _approved,
    "reopen": _not_on_its_way,
    "accept": _about_a_match,
    "reject": _about_a_match,
}


def _words(state: str) -> str:
    return state.replace("_", " ")


def _listed(states: Iterable[str]) -> str:
    return " or ".join(_words(s) for s in states)


def standings(session: Session, ids: Sequence[str], *, locked: bool = False) -> dict[str, Standing]:
    """Where breaks stand, by id; an id that is unknown is missing."""
    newest: dict[str, date] = {}
    found: dict[str, Standing] = {}
    for start in range(0, len(ids), _IN):
        part = list(ids[start : start + _IN])
        verdicts: dict[str, set[tuple[str, Pair]]] = {}
        for said in session.scalars(select(BreakVerdictRow).where(BreakVerdictRow.break_id.in_(part))):
            pair = Pair(said.left_ids, said.right_ids, said.left_amount, said.right_amount)
            verdicts.setdefault(said.break_id, set()).add((said.verdict, pair))
        on_their_way = write_offs.on_their_way(session, part)
        query = select(BreakRow).where(BreakRow.break_id.in_(part)).order_by(BreakRow.break_id)
        for row in session.scalars(query.with_for_update() if locked else query):
            if row.definition_id not in newest:
                newest[row.definition_id] = last_recorded(session, row.definition_id) or row.last_seen
            found[row.break_id] = Standing(
                row.break_id,
                row.definition_id,
                row.break_type,
                row.state,
                row.currency,
                row.value,
                row.assignee,
                row.decided_by,
                row.approved_by,
                _is_found(row, newest[row.definition_id]),
                newest[row.definition_id],
                frozenset(verdicts.get(row.break_id, ())),
                row.break_id in on_their_way,
            )
    return found


def _is_found(row: BreakRow, newest: date) -> bool:
    """Closed by a person since the newest run, it is still there; closed by a run, it is not."""
    return row.state not in CLOSED or (row.decided_by is not None and row.last_seen == newest)


def consider(session: Session, act: Act, ids: Sequence[str], *, locked: bool = False) -> Done:
    """What an act would do to each of these breaks; nothing is written."""
    at = standings(session, ids, locked=locked)
    changed: list[tuple[str, str, str]] = []
    refused: list[Refusal] = []
    for identity in dict.fromkeys(ids):
        if identity not in at:
            refused.append(Refusal(identity, "no break has this id"))
            continue
        try:
            to_state = judge(act, at[identity])
        except IllegalTransition as problem:
            told = problem.message + (f"; {problem.remedy}" if problem.remedy else "")
            refused.append(Refusal(identity, told))
            continue
        changed.append((identity, at[identity].state, to_state))
    return Done(tuple(changed), tuple(refused))


def carry_out(session: Session, act: Act, ids: Sequence[str], now: datetime, *, partly: bool = False) -> Done:
    """Do it: to all of these breaks or, where one is refused, to none; with `partly` to those that are not refused.

    Each change is one entry in the audit chain `breaks/<definition>` and one in the break's history.
    """
    done = consider(session, act, ids, locked=True)
    if done.refused and not partly:
        return replace(done, changed=())
    at = standings(session, [identity for identity, _, _ in done.changed])
    moved = [(at[identity], to_state) for identity, _, to_state in done.changed]
    values = _decided(act)
    if values is not None:
        rows = [
            {"break_id": s.break_id, "state": to_state, "decided_on": s.newest}
            | ({"last_seen": s.newest} if s.found else {})
            | values
            for s, to_state in moved
        ]
        if rows:
            session.execute(update(BreakRow), rows)
    _keep_verdicts(session, act, [s for s, _ in moved])
    _keep_write_offs(session, act, [s for s, _ in moved], now)
    details = _details(act)
    if moved:
        session.execute(
            insert(BreakChangeRow),
            [
                {
                    "break_id": s.break_id,
                    "business_date": s.newest,
                    "run_id": "",
                    "at": now,
                    "from_state": s.state,
                    "to_state": to_state,
                    "from_type": s.break_type,
                    "to_type": s.break_type,
                    "actor": act.actor,
                    "action": act.action,
                    "note": act.reason or None,
                    "details": details | _own_details(act, s.break_id),
                }
                for s, to_state in moved
            ],
        )
    for definition in sorted({s.definition_id for s, _ in moved}):
        acts = [
            (
                s.break_id,
                {"from_state": s.state, "to_state": to_state, "reason": act.reason, "value": s.value,
                 "currency": s.currency} | details | _own_details(act, s.break_id),
            )
            for s, to_state in moved
            if s.definition_id == definition
        ]  # fmt: skip
        audit.append_all(session, f"breaks/{definition}", f"break.{act.action}", act.actor, acts, now)
    return done


def _decided(act: Act) -> dict[str, Any] | None:
    """The columns of a break that an act sets besides its state; None where it leaves the break's row alone."""
    nothing: dict[str, Any] = dict.fromkeys(("assignee", "cap", "cap_currency", "expires", "approved_by"))
    match act.action:
        case "assign":
            return nothing | {"assignee": act.assignee, "decided_by": act.actor}
        case "known_difference":
            known = {"cap": act.cap, "cap_currency": act.cap_currency, "expires": act.expires}
            if act.cap is None:
                known["cap_currency"] = None
            return nothing | known | {"assignee": act.assignee, "decided_by": act.actor}
        case "approve_write_off":
            return {"approved_by": act.actor}
        case "write_off":  # who looks after it does so still where the write-off is refused
            return {n: None for n in nothing if n != "assignee"} | {"decided_by": act.actor}
        case "comment" | "accept" | "reject" | "withdraw":
            return None
        case _:
            return nothing | {"decided_by": act.actor}


def _keep_write_offs(session: Session, act: Act, about: Sequence[Standing], now: datetime) -> None:
    for s in about:
        what = (act.write_offs or {}).get(s.break_id)
        if act.action == "write_off" and isinstance(what, ToWriteOff) and s.value is not None:
            write_offs.request(session, s.break_id, what, s.value, act.actor, now)
        elif act.action == "approve_write_off":
            write_offs.approve(session, s.break_id, act.actor, s.newest)
        elif act.action == "reopen" and s.state == "write_off_pending":
            write_offs.withdraw(session, s.break_id, act.actor, act.reason, now)


def _keep_verdicts(session: Session, act: Act, about: Sequence[Standing]) -> None:
    if act.action not in ("accept", "reject", "withdraw") or not about:
        return
    ids = [s.break_id for s in about]
    for start in range(0, len(ids), _IN):
        old = delete(BreakVerdictRow).where(BreakVerdictRow.break_id.in_(ids[start : start + _IN]))
        if act.action != "withdraw":  # one match may be accepted; candidates may be rejected one after the other
            old = old.where(BreakVerdictRow.verdict == "accepted")
        session.execute(old)
    if act.action == "withdraw":
        return
    for s in about:
        pair = (act.pairs or {})[s.break_id]
        if any(kept.left_ids == pair.left_ids and kept.right_ids == pair.right_ids for _, kept in s.verdicts):
            session.execute(
                delete(BreakVerdictRow).where(
                    BreakVerdictRow.break_id == s.break_id,
                    BreakVerdictRow.left_ids == pair.left_ids,
                    BreakVerdictRow.right_ids == pair.right_ids,
                )
            )
    entities = {
        identity: entity
        for start in range(0, len(ids), _IN)
        for identity, entity in session.execute(
            select(BreakRow.break_id, BreakRow.legal_entity_id).where(BreakRow.break_id.in_(ids[start : start + _IN]))
        )
    }
    rows = [
        {
            "break_id": s.break_id,
            "definition_id": s.definition_id,
            "legal_entity_id": entities[s.break_id],
            "verdict": act.action + "ed",
            "actor": act.actor,
            "decided_on": s.newest,
        }
        | asdict((act.pairs or {})[s.break_id])
        for s in about
    ]
    session.execute(insert(BreakVerdictRow), rows)


def _details(act: Act) -> dict[str, Any]:
    found = {
        "assignee": act.assignee,
        "cap": act.cap,
        "cap_currency": act.cap_currency,
        "expires": act.expires,
    }
    kept = {name: value for name, value in found.items() if value is not None}
    return kept | ({"evidence": [asdict(e) for e in act.evidence]} if act.evidence else {})


def _own_details(act: Act, break_id: str) -> dict[str, Any]:
    """What an act says of one break alone."""
    pair, what = (act.pairs or {}).get(break_id), (act.write_offs or {}).get(break_id)
    if act.action == "write_off" and isinstance(what, ToWriteOff):
        return {"written_off": what.difference, "role": what.role, "side": what.side}
    return {"left_ids": pair.left_ids, "right_ids": pair.right_ids} if pair else {}
