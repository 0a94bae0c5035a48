"""The posting protocol step by step, against a Tryton of forty lines that remembers moves."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import date
from decimal import Decimal
from itertools import groupby
from typing import Any

import pytest
import requests
import responses

from tieout import ids
from tieout.entities import LegalEntity
from tieout.erp import Erp, ErpJournal, ErpLine, connect
from tieout.erp.drafts import same_content
from tieout.erp.jsonrpc import decode, encode
from tieout.erp.tryton import TrytonConfig, TrytonLedger
from tieout.errors import ConfigError, LeaseLost, PeriodClosed, Rejected, UnknownOutcome
from tieout.settings import Connection

SLOT = ids.Slot("US", "main", "2026-03", "billing", date(2026, 3, 29))
CONFIG = {"companies": {"US": "US"}, "tries": 2, "pause_ms": 0}


def journal(version: int = 1, amount: str = "10.00", **changes: Any) -> ErpJournal:
    key = ids.run_key(SLOT, version)
    lines = (ErpLine("11000", Decimal(amount), Decimal(0), "a"), ErpLine("40100", Decimal(0), Decimal(amount), "b"))
    values = {"entity": "US", "run_key": key, "short_key": ids.short_key(key), "date": SLOT.business_date}
    return ErpJournal(**{**values, "currency": "USD", "narrative": "Invoices", "lines": lines, **changes})


class FakeTryton:
    """Answers the calls the adapter makes; `before` and `after` let a test spoil a method."""

    def __init__(self) -> None:
        self.moves: dict[int, dict[str, Any]] = {}
        self.next_id = 1
        self.calls: list[str] = []
        self.period: str | None = "open"
        self.journal_period_closed = False
        self.ended: set[str] = set()
        """Methods that find the session ended, once."""
        self.before: dict[str, Callable[[], Any]] = {}
        self.after: dict[str, Callable[[], Any]] = {}
        self.instead: dict[str, dict[str, Any] | int] = {}
        """Always answered in place of the method: an error, or an HTTP status."""
        self.reads_fail_after: tuple[str, dict[str, Any] | int] | None = None
        """Once this method was called, every search is answered like that."""

    def __call__(self, request: Any) -> tuple[int, dict[str, str], str]:
        body = json.loads(request.body, object_hook=decode)
        method, params = body["method"], body["params"]
        name = method.removeprefix("model.")
        self.calls.append(name)
        if name in self.ended:
            self.ended.discard(name)
            return 401, {}, ""
        if spoil := self.before.pop(name, None):
            return 503, {}, spoil()
        result = self.instead.get(name)
        if self.reads_fail_after and self.reads_fail_after[0] in self.calls and name.endswith("search_read"):
            result = self.reads_fail_after[1]
        if isinstance(result, int):
            return result, {}, ""
        result = result or self.answer(name, params)
        if spoil := self.after.pop(name, None):
            raise spoil()
        return 200, {}, json.dumps({"id": body["id"], **result}, default=encode)

    def answer(self, name: str, params: list[Any]) -> dict[str, Any]:
        if name == "common.db.login":
            return {"result": [1, "token", None]}
        if name == "account.move.create":
            for values in params[0]:
                self.add(values["description"], values["lines"][0][1], values["date"])
            return {"result": [self.next_id - 1]}
        if name == "account.move.delete":
            for number in params[0]:
                if self.moves[number]["state"] == "posted":
                    return {"error": ["UserError", ["posted moves cannot be deleted", "", None]]}
                del self.moves[number]
            return {"result": None}
        if name == "account.move.post":
            (number,) = params[0]
            move = self.moves[number]
            if move["state"] == "posted":
                return {"error": ["UserError", ['You can not call "post".', "", None]]}
            if sum(line["debit"] - line["credit"] for line in move["lines"]):
                return {"error": ["UserError", ["you must balance all its lines", "", None]]}
            move |= {"state": "posted", "number": f"US-{number}", "post_date": date(2026, 11, 1)}
            return {"result": None}
        return {"result": self.rows(name.removesuffix(".search_read"), params[0])}

    def add(self, description: str, lines: list[dict[str, Any]], on: date, state: str = "draft") -> int:
        number, self.next_id = self.next_id, self.next_id + 1
        common = {"company": 1, "number": None, "post_date": None, "journal": 3}
        self.moves[number] = {
            "id": number, "date": on, "description": description, "state": state, "lines": lines, **common
        }  # fmt: skip
        return number

    def rows(self, model: str, domain: list[Any]) -> list[dict[str, Any]]:
        text = json.dumps(domain, default=str)
        match model:
            case "company.company":
                return [{"id": 1, "currency.": {"code": "USD"}}]
            case "account.account":
                return [{"id": n, "code": code, "closed": False} for n, code in ((11, "11000"), (40, "40100"))]
            case "account.journal":
                return [{"id": 3, "code": "TIE"}]
            case "account.journal.period":
                return [{"id": 1, "state": "closed"}] if self.journal_period_closed else []
            case "account.period":
                dates = {"start_date": date(2026, 3, 1), "end_date": date(2026, 3, 31)}
                return [{"id": 5, "name": "2026-03", "state": self.period, **dates}] if self.period else []
            case "account.move":
                key = text.split('"like", "')[1].split("%")[0] if "like" in text else None
                value = domain[0][0][2]
                asked = value if isinstance(value, list) else [value]
                found = [
                    m for m in self.moves.values()
                    if (m["description"].startswith(key) if key else m["id"] in asked)
                ]  # fmt: skip
                return [{k: v for k, v in m.items() if k != "lines"} for m in found]
            case "account.move.line":
                return [
                    {"id": number * 10 + i, "move": number, **line}
                    for number, move in self.moves.items()
                    for i, line in enumerate(move["lines"])
                    if number in domain[0][0][2]
                ]
        raise AssertionError(f"unexpected read of {model}")


@pytest.fixture
def tryton() -> Iterator[FakeTryton]:
    fake = FakeTryton()
    with responses.RequestsMock() as mock:
        mock.add_callback(responses.POST, "https://erp.test/erp/rpc/", callback=fake)
        yield fake


@pytest.fixture
def ledger() -> TrytonLedger:
    made = connect("tryton", Connection("tryton", "https://erp.test", "poster", "secret", "erp"), CONFIG)
    assert isinstance(made, TrytonLedger)
    return made


def description(of: ErpJournal) -> str:
    return f"{of.run_key} {of.short_key}"


def as_stored(of: ErpJournal) -> list[dict[str, Any]]:
    codes = {"11000": 11, "40100": 40}
    return [
        {"account": codes[line.account], "debit": line.debit, "credit": line.credit, "description": line.description}
        for line in of.lines
    ]


def test_a_journal_is_looked_up_drafted_posted_and_looked_up_again(ledger: TrytonLedger, tryton: FakeTryton) -> None:
    ref = ledger.post(journal())
    assert (ref.state, ref.number) == ("posted", "US-1")
    names = {"search_read": "look", "create": "create", "post": "post"}
    steps = [names[c.removeprefix("account.move.")] for c in tryton.calls if c.count(".") == 2 and "account.move." in c]
    assert [step for step, _ in groupby(steps)] == ["look", "create", "post", "look"]


@pytest.mark.parametrize("method", ["account.move.create", "account.move.post"])
def test_a_session_that_ended_is_opened_again_and_the_write_sent_once(
    ledger: TrytonLedger, tryton: FakeTryton, method: str
) -> None:
    tryton.ended.add(method)
    assert ledger.post(journal()).state == "posted"
    assert tryton.calls.count("common.db.login") == 2
    assert len(tryton.moves) == 1


def test_many_journals_are_posted_with_few_calls_and_read_back_with_three(
    ledger: TrytonLedger, tryton: FakeTryton
) -> None:
    refs = [ledger.post(journal(version)) for version in range(1, 6)]
    tryton.calls.clear()
    ledger.post(journal(6))
    assert len(tryton.calls) == 4
    tryton.calls.clear()
    assert ledger.read_back_many(refs) == [journal(version) for version in range(1, 6)]
    assert len(tryton.calls) == 2  # three with dimensions


def test_of_many_journals_one_that_is_gone_does_not_keep_the_others_from_being_read(
    ledger: TrytonLedger, tryton: FakeTryton
) -> None:
    refs = [ledger.post(journal(version)) for version in (1, 2)]
    del tryton.moves[int(refs[0].erp_id)]
    gone, there = ledger.read_back_many(refs)
    assert isinstance(gone, Rejected)
    assert there == journal(2)


def test_posting_the_same_run_key_again_returns_the_posted_journal(ledger: TrytonLedger, tryton: FakeTryton) -> None:
    first = ledger.post(journal())
    assert ledger.post(journal()) == first
    assert len(tryton.moves) == 1


def test_an_equal_draft_that_was_left_over_is_posted_instead_of_a_new_one(
    ledger: TrytonLedger, tryton: FakeTryton
) -> None:
    left = tryton.add(description(journal()), as_stored(journal()), SLOT.business_date)
    assert ledger.post(journal()).erp_id == str(left)
    assert "account.move.create" not in tryton.calls


def test_a_draft_with_other_content_is_deleted_never_posted(ledger: TrytonLedger, tryton: FakeTryton) -> None:
    left = tryton.add(description(journal()), as_stored(journal(amount="99.00")), SLOT.business_date)
    ref = ledger.post(journal())
    assert left not in tryton.moves
    assert ledger.read_back(ref) == journal()


@pytest.mark.parametrize("writes", [0, 1, 2])
def test_before_every_write_the_fence_is_asked(ledger: TrytonLedger, tryton: FakeTryton, writes: int) -> None:
    tryton.add(description(journal()), as_stored(journal(amount="99.00")), SLOT.business_date)  # to be deleted
    asked: list[str] = []

    def fence() -> None:
        if len(asked) == writes:
            raise LeaseLost("taken over")
        asked.append("asked")

    with pytest.raises(LeaseLost):
        ledger.post(journal(), fence=fence)
    written = [c for c in tryton.calls if c.rpartition(".")[2] in ("create", "delete", "post")]
    assert len(written) == writes


def test_of_two_equal_drafts_the_oldest_is_posted_and_the_other_deleted(
    ledger: TrytonLedger, tryton: FakeTryton
) -> None:
    drafts = [tryton.add(description(journal()), as_stored(journal()), SLOT.business_date) for _ in range(2)]
    assert ledger.post(journal()).erp_id == str(drafts[0])
    assert list(tryton.moves) == drafts[:1]


def test_a_journal_posted_twice_in_the_erp_stops_everything(ledger: TrytonLedger, tryton: FakeTryton) -> None:
    for _ in range(2):
        tryton.add(description(journal()), as_stored(journal()), SLOT.business_date, state="posted")
    with pytest.raises(Rejected, match="more than once"):
        ledger.post(journal())


@pytest.mark.parametrize("lost", ["account.move.create", "account.move.post"])
def test_a_lost_answer_is_unknown_and_the_next_call_completes_it_once(
    ledger: TrytonLedger, tryton: FakeTryton, lost: str
) -> None:
    tryton.after[lost] = lambda: requests.exceptions.ConnectionError("reset by peer")
    with pytest.raises(UnknownOutcome):
        ledger.post(journal())
    ref = ledger.post(journal())
    assert ref.state == "posted"
    assert [m["state"] for m in tryton.moves.values()] == ["posted"]
    assert tryton.calls.count("account.move.create") == 1


@pytest.mark.parametrize("write", ["account.move.create", "account.move.post"])
@pytest.mark.parametrize(
    "answer",
    [400, 401, 403, 404, 413, 302, 503,
     {"error": ["UserError", ["not allowed to read", "", None]]}, {"error": ["'foo'", ""]}],
    ids=str,
)  # fmt: skip
def test_once_something_was_written_a_failing_read_is_never_a_refusal(
    ledger: TrytonLedger, tryton: FakeTryton, write: str, answer: Any
) -> None:
    tryton.reads_fail_after = (write, answer)
    with pytest.raises(UnknownOutcome):
        ledger.post(journal())
    tryton.reads_fail_after = None
    assert ledger.post(journal()).state == "posted"
    assert [m["state"] for m in tryton.moves.values()] == ["posted"]


def test_a_refused_posting_whose_outcome_cannot_be_read_is_unknown(ledger: TrytonLedger, tryton: FakeTryton) -> None:
    tryton.reads_fail_after = ("account.move.post", 403)
    with pytest.raises(UnknownOutcome):
        ledger.post(journal(lines=journal().lines[:1]))


def test_a_posting_request_that_is_turned_away_leaves_no_draft_behind(ledger: TrytonLedger, tryton: FakeTryton) -> None:
    tryton.instead["account.move.post"] = 403
    with pytest.raises(Rejected, match="403"):
        ledger.post(journal())
    assert tryton.moves == {}


def test_a_failure_inside_the_erp_while_it_posts_is_unknown(ledger: TrytonLedger, tryton: FakeTryton) -> None:
    tryton.instead["account.move.post"] = {"error": ["connection already closed", "Traceback"]}
    with pytest.raises(UnknownOutcome):
        ledger.post(journal())
    assert len(tryton.moves) == 1


@pytest.mark.parametrize("answer", [403, 503, {"error": ["UserError", ["posted moves cannot be deleted", "", None]]}])
def test_while_another_draft_of_the_key_cannot_be_deleted_nothing_is_posted(
    ledger: TrytonLedger, tryton: FakeTryton, answer: Any
) -> None:
    for amount in ("99.00", "10.00"):
        tryton.add(description(journal()), as_stored(journal(amount=amount)), SLOT.business_date)
    tryton.instead["account.move.delete"] = answer
    with pytest.raises(UnknownOutcome, match="draft"):
        ledger.post(journal())
    assert "account.move.post" not in tryton.calls
    tryton.instead.clear()
    assert ledger.post(journal()).state == "posted"
    assert len(tryton.moves) == 1


@pytest.mark.parametrize("deletable", [True, False])
def test_a_draft_beside_the_posted_journal_is_deleted_where_possible(
    ledger: TrytonLedger, tryton: FakeTryton, deletable: bool
) -> None:
    left = tryton.add(description(journal()), as_stored(journal()), SLOT.business_date)
    posted = tryton.add(description(journal()), as_stored(journal()), SLOT.business_date, state="posted")
    if not deletable:
        tryton.instead["account.move.delete"] = 403
    assert ledger.post(journal()).erp_id == str(posted)
    assert (left in tryton.moves) is not deletable


@pytest.mark.parametrize("step", ["create", "post"])
def test_a_lock_that_was_not_obtained_repeats_that_step_alone(
    ledger: TrytonLedger, tryton: FakeTryton, step: str
) -> None:
    tryton.before[f"account.move.{step}"] = lambda: "could not obtain lock on row"
    assert ledger.post(journal()).state == "posted"
    assert len(tryton.moves) == 1
    counts = {name: tryton.calls.count(f"account.move.{name}") for name in ("create", "post")}
    assert counts == {"create": 1, "post": 1} | {step: 2}


def test_a_refused_journal_leaves_no_draft_behind(ledger: TrytonLedger, tryton: FakeTryton) -> None:
    with pytest.raises(Rejected, match="must balance"):
        ledger.post(journal(lines=journal().lines[:1]))
    assert tryton.moves == {}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"currency": "EUR"}, "functional currency"),
        ({"lines": (ErpLine("99999", Decimal(1), Decimal(0)),)}, "no such account"),
        ({"lines": (ErpLine("11000", Decimal(1), Decimal(0), "", {"region": "west"}),)}, "no such dimension"),
        ({"lines": (ErpLine("11000", Decimal(1), Decimal(0)),) * 501}, "too many lines"),
        ({"short_key": "short"}, "not a run key"),
    ],
    ids=["another currency", "unknown account", "unknown dimension", "too long", "malformed key"],
)
def test_what_the_erp_would_misread_is_refused_before_anything_is_sent(
    ledger: TrytonLedger, tryton: FakeTryton, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(Rejected, match=message):
        ledger.post(journal(**changes))
    assert tryton.moves == {}


@pytest.mark.parametrize(
    ("period", "journal_closed", "expected"),
    [
        ("closed", False, PeriodClosed),
        ("locked", False, PeriodClosed),
        ("open", True, PeriodClosed),
        (None, False, Rejected),
    ],
    ids=["closed", "locked", "only our journal closed", "no period"],
)
def test_a_date_that_cannot_be_posted_to_is_refused(
    ledger: TrytonLedger, tryton: FakeTryton, period: str | None, journal_closed: bool, expected: type[Exception]
) -> None:
    tryton.period, tryton.journal_period_closed = period, journal_closed
    with pytest.raises(expected) as caught:
        ledger.post(journal())
    assert type(caught.value) is expected
    assert not ledger.period_status("US", SLOT.business_date).is_open


def test_a_slot_finds_all_its_versions_and_chunks_and_no_other(ledger: TrytonLedger, tryton: FakeTryton) -> None:
    keys = [ids.run_key(SLOT, v, chunk) for v, chunk in ((1, None), (10, None), (2, (1, 2)), (2, (2, 2)))]
    other = ids.run_key(ids.Slot("US", "main", "2026-03", "billing", date(2026, 3, 30)), 1)
    for key in (*keys, other):
        tryton.add(f"{key} {ids.short_key(key)}", [], SLOT.business_date)
    assert [r.run_key for r in ledger.find_by_run_key(str(SLOT))] == keys
    assert [r.run_key for r in ledger.find_by_run_key(ids.run_key(SLOT, 1))] == [keys[0]]
    assert [r.run_key for r in ledger.find_by_run_key(ids.run_key(SLOT, 2))] == keys[2:]


def test_a_reversal_mirrors_every_line_under_its_own_key() -> None:
    key = ids.run_key(SLOT, 2)
    mirror = journal().mirrored(date(2026, 4, 1), key, ids.short_key(key))
    assert [(x.debit, x.credit) for x in mirror.lines] == [(x.credit, x.debit) for x in journal().lines]
    assert (mirror.run_key, mirror.date) == (key, date(2026, 4, 1))


def test_content_is_compared_without_regard_to_the_order_of_lines() -> None:
    assert same_content(journal(), journal(lines=journal().lines[::-1]))
    assert not same_content(journal(), journal(amount="10.01"))


def test_an_entity_without_a_company_says_what_to_configure(ledger: TrytonLedger) -> None:
    with pytest.raises(ConfigError, match="add it to `companies`"):
        ledger.period_status("FR", date(2026, 3, 29))


def test_an_unknown_kind_of_erp_names_those_there_are() -> None:
    with pytest.raises(ConfigError, match="tryton"):
        connect("abacus", Connection("x", "https://erp.test"), {})


def test_a_receivable_mode_the_adapter_cannot_do_is_refused_by_the_check() -> None:
    common = {"name": "x", "functional_currency": "USD", "zone": "UTC", "country": "US", "go_live": date(2026, 3, 29)}
    fine = LegalEntity(id="US", **common)
    erp = Erp("tryton", "tryton", TrytonConfig.load(CONFIG))
    assert erp.problems([fine]) == []
    (missing, mode) = erp.problems([LegalEntity(id="FR", receivable_mode="documents", **common)])
    assert "FR: no company" in missing
    assert "use gl_control" in mode
