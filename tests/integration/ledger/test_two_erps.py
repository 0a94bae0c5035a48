"""Two Trytons of one entity: each takes the dates it is in force for, history follows, each proves on its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import pytest
from tests.unit.ledger.conftest import Books

from tieout.breaks import run as reconcile
from tieout.entities import load_entities
from tieout.erp import Ledger
from tieout.erp.jsonrpc import JsonRpc
from tieout.errors import Rejected, TieoutError
from tieout.ledger import post_batch, resolve
from tieout.orchestration import intake, ledgers, planning, posting
from tieout.orchestration.work import Work
from tieout.settings import Connection, Settings
from tieout.store import late_events
from tieout.store.batches import get
from tieout_sandbox.tryton import chart, server

pytestmark = pytest.mark.server
GO_LIVE, CUT, DAY = "2026-03-29", "2026-04-01", "2026-04-02"
ENTITIES = f"""
entities:
  - id: US
    name: Northwind Cloud Inc.
    functional_currency: USD
    zone: America/Los_Angeles
    country: US
    go_live: {GO_LIVE}
    go_live_waiver: a made-up company
    late_materiality: {{net: "50", gross: "50"}}
    ledgers:
      - {{ledger: main, from: {GO_LIVE}, parallel_until: 2026-04-30}}
      - {{ledger: next, from: {CUT}, history_from: {GO_LIVE}}}
"""
SOURCES = """
sources:
  - {name: erp, kind: erp, connection: main, erp: tryton, ledger: main}
  - {name: erp_next, kind: erp, connection: next, erp: tryton, ledger: next}
"""
TRYTON = "companies: {US: US}\njournal: TIE\ndimensions: [product_family]\npause_ms: 20\nsettle_seconds: 1\n"
CHARTS = "legal_entity_id,ledger,account,ledger_account\n*,next,40100,40200\n*,next,11000,11200\n"


@dataclass
class Two:
    """Both ERPs behind one configuration."""

    work: Work
    running: server.ErpServer

    def rpc(self, ledger: str, login: str) -> JsonRpc:
        connection = Connection(ledger, self.running.url, login, self.running.passwords[login], f"two_{ledger}")
        return JsonRpc(connection, timeout=(5, 60), tries=1, pause=0.1)


@pytest.fixture
def two(erp_template: Any, tmp_path: Path) -> Iterator[Two]:
    config = tmp_path / "config"
    for name, text in {
        "entities.yaml": ENTITIES, "sources.yaml": SOURCES, "erp/tryton.yaml": TRYTON, "mappings/charts.csv": CHARTS,
    }.items():  # fmt: skip
        (config / name).parent.mkdir(parents=True, exist_ok=True)
        (config / name).write_text(text)
    databases = ["two_main", "two_next"]
    for database in databases:
        erp_template.pg.create(database, template=erp_template.name)
    running = server.start(tmp_path, erp_template.pg, databases)  # one server, two ERPs: each its own database
    settings = Settings.from_env({"TIEOUT_HOME": str(tmp_path / "home"), "TIEOUT_CONFIG": str(config)})
    password = running.passwords[chart.POSTER]
    work = Work(settings, lambda name: Connection(name, running.url, chart.POSTER, password, f"two_{name}"))
    work.store.upgrade()
    try:
        yield Two(work, running)
    finally:
        server.stop(running.process)
        for database in databases:
            erp_template.pg.drop(database)


def night(two: Two, books: Books, run_id: str, meanwhile: Callable[[], None] = lambda: None) -> tuple[list[str], bool]:
    """One night as the workflow runs it: plan, take over, post, copy, read both ledgers, prove each.

    `meanwhile` happens in the ERPs before they are read.
    """
    work = two.work
    work.store.start_run(run_id, "nightly", date.fromisoformat(DAY))
    work.store.publish(run_id, books.snapshot())
    planning.plan_journals(work, run_id, DAY)
    due = [one["conf"]["batch_id"] for one in posting.resume_posting(work, run_id)]
    for batch in due:
        assert posting.submit(work, batch) == "confirmed"
        assert posting.read_back(work, batch) == "posted"
    meanwhile()
    intake.read_ledger(work, run_id, DAY)
    return due, bool(posting.prove(work, run_id, DAY)["ties"])


def breaks_of(two: Two, run_id: str) -> list[tuple[str, str]]:
    """What journal_to_ledger finds: type and key."""
    work = two.work
    found = reconcile(
        "journal_to_ledger", date.fromisoformat(DAY), lake=work.lake, store=work.store, settings=work.settings,
        run_id=run_id,
    )  # fmt: skip
    return sorted((row["break_type"], row["break_key"]) for row in found.breaks.to_pylist())


def close_march(rpc: JsonRpc) -> None:
    """The period is closed in the ERP, once everything of it was posted."""
    domain = [("company", "=", 1), ("start_date", "=", date(2026, 3, 1))]
    march = rpc.read("model.account.period.search", domain, 0, None, None, context={"company": 1})
    rpc.write("model.account.period.close", march, context={"company": 1})


def enter(rpc: JsonRpc, day: str, *lines: tuple[str, str, str]) -> str:
    """An accountant's own entry in a ledger: account, side, amount; gives its id."""
    context = {"company": 1, "language": "en"}

    def first(model: str, domain: list[Any]) -> int:
        rows = rpc.read(f"model.{model}.search_read", domain, 0, 1, None, ["id"], context=context)
        return int(rows[0]["id"])

    on = date.fromisoformat(day)
    made_of = [
        {"account": first("account.account", [("code", "=", code), ("company", "=", 1)]), side: Decimal(amount)}
        for code, side, amount in lines
    ]
    move = {
        "company": 1, "journal": first("account.journal", [("code", "=", "MAN")]), "date": on,
        "period": first("account.period", [("company", "=", 1), ("start_date", "<=", on), ("end_date", ">=", on)]),
        "description": "by hand", "lines": [["create", made_of]],
    }  # fmt: skip
    (made,) = rpc.write("model.account.move.create", [move], context=context)
    rpc.write("model.account.move.post", [made], context=context)
    return str(made)


def test_two_erps_of_one_entity_through_the_cut_over_and_a_parallel_run(two: Two) -> None:
    entity = load_entities(two.work.settings.config_file("entities.yaml"))["US"]
    books = Books(two.work.lake, two.work.store, None, entity)  # type: ignore[arg-type]
    books.invoice("A", date(2026, 3, 30), {"amount": "100"})
    books.invoice("B", date(2026, 4, 2), {"amount": "60"})
    old, new = "TIEOUT/US/main/2026-03/billing/2026-03-30/v1", "TIEOUT/US/next/2026-04/billing/2026-04-02/v1"
    assert night(two, books, "first", lambda: close_march(two.rpc("main", "admin"))) == ([old, new], True)
    for name in ("main", "next"):  # each journal once in each ERP, under its own key
        with two.work.ledger(name) as ledger:
            assert [(ref.run_key, ref.state) for ref in ledger.find_by_run_key("TIEOUT/US", entity="US")] in (
                [(old, "posted"), (new, "posted")], [(new, "posted"), (old, "posted")],
            )  # fmt: skip
    assert ledgers.compare(two.work, "US", date.fromisoformat(DAY)).agrees

    # March is closed in the old ERP: what comes late goes to the new one, what is too much waits; somebody types there
    enter(two.rpc("next", chart.ACCOUNTANT), CUT, ("11200", "debit", "5.00"), ("61000", "credit", "5.00"))
    books.invoice("LATE", date(2026, 3, 30), {"amount": "7"})
    books.invoice("MUCH", date(2026, 3, 31), {"amount": "99"})
    late = "TIEOUT/US/next/2026-04/prior_period/2026-04-01/v1"
    assert night(two, books, "second") == ([late], True)
    with two.work.store.reading() as session:
        assert [event.document_number for event in late_events.late_events(session, "US")] == ["MUCH"]
    found = ledgers.compare(two.work, "US", date.fromisoformat(DAY))
    assert [(line.account, line.difference, line.of_foreign) for line in found.lines if line.difference] == [
        ("11000", -5, -5), ("61000", 5, 5),
    ]  # fmt: skip
    # the receivable has another code there, and is controlled all the same
    assert breaks_of(two, "second") == [("missing_left", "by hand|11200")]
    for chain in ("US/main", "US/next"):
        assert two.work.store.verify_audit(chain) == []


def test_an_erp_that_is_down_keeps_no_other_from_being_posted_to_and_proved(two: Two) -> None:
    up, run_id = two.work, "night"
    entity = load_entities(up.settings.config_file("entities.yaml"))["US"]
    books = Books(up.lake, up.store, None, entity)  # type: ignore[arg-type]
    books.invoice("A", date(2026, 3, 30), {"amount": "100"})
    books.invoice("B", date(2026, 4, 2), {"amount": "60"})
    old, new = "TIEOUT/US/main/2026-03/billing/2026-03-30/v1", "TIEOUT/US/next/2026-04/billing/2026-04-02/v1"

    def connect(name: str) -> Connection:
        found = up.connect(name)
        return replace(found, host="http://127.0.0.1:9") if name == "next" else found

    work = Work(up.settings, connect)
    work.store.start_run(run_id, "nightly", date.fromisoformat(DAY))
    work.store.publish(run_id, books.snapshot())
    planning.plan_journals(work, run_id, DAY)
    assert [one["conf"]["batch_id"] for one in posting.resume_posting(work, run_id)] == [old]
    assert (posting.submit(work, old), posting.read_back(work, old)) == ("confirmed", "posted")
    for step in (intake.read_ledger, posting.prove):
        with pytest.raises(TieoutError):
            step(work, run_id, DAY)
    assert "gl_entry" in work.store.published(run_id)
    known = work.store.facts(run_id)
    proved = {row["account"]: row["difference"] for row in known["proof_rows"]}
    assert set(proved) == {"main 11000", "main 40100"}
    assert {Decimal(difference) for difference in proved.values()} == {Decimal(0)}
    assert "proof" not in known
    (unproved,) = known["unproved"]
    assert unproved.startswith("Not proved: US, ledger next: ")
    # the next try reaches both
    assert [one["conf"]["batch_id"] for one in posting.resume_posting(up, run_id)] == [new]
    assert (posting.submit(up, new), posting.read_back(up, new)) == ("confirmed", "posted")
    intake.read_ledger(up, run_id, DAY)
    assert posting.prove(up, run_id, DAY)["ties"]
    assert up.store.facts(run_id)["unproved"] == []


class Refusing:
    """An ERP that takes no journal."""

    def __init__(self, ledger: Any) -> None:
        self._ledger = ledger

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger, name)

    def post(self, journal: Any, **_: Any) -> Any:
        raise Rejected("not today", record=journal.run_key)


def test_a_document_written_by_hand_for_a_refused_journal_is_ours(two: Two) -> None:
    work, run_id = two.work, "night"
    plain = TRYTON.replace("[product_family]", "[]")  # so that a person need write no analytic lines
    work.settings.config_file("erp/tryton.yaml").write_text(plain)
    entity = load_entities(work.settings.config_file("entities.yaml"))["US"]
    books = Books(work.lake, work.store, None, entity)  # type: ignore[arg-type]
    books.invoice("A", date(2026, 3, 30), {"amount": "100"})
    work.store.start_run(run_id, "nightly", date.fromisoformat(DAY))
    work.store.publish(run_id, books.snapshot())
    planning.plan_journals(work, run_id, DAY)
    (batch_id,) = [one["conf"]["batch_id"] for one in posting.resume_posting(work, run_id)]
    with work.ledger("main") as ledger:
        assert post_batch(batch_id, cast(Ledger, Refusing(ledger)), work.store) == "rejected"
        with work.store.reading() as session:
            (journal,) = get(session, batch_id).journals
        # in another order than ours
        lines = [(line["account"], line["side"], line["amount"]) for line in journal.content["lines"]]
        document = enter(two.rpc("main", chart.ACCOUNTANT), "2026-03-30", *reversed(lines))
        state = resolve(
            batch_id, ledger, work.store, actor="al", reason="by hand", documents={journal.run_key: document},
            lake=work.lake,
        )  # fmt: skip
    assert state == "manually_resolved"
    intake.read_ledger(work, run_id, DAY)
    assert posting.prove(work, run_id, DAY)["ties"]
    assert work.store.facts(run_id)["foreign_rows"] == []
    assert [found for found in breaks_of(two, run_id) if "next:" not in found[1]] == []
