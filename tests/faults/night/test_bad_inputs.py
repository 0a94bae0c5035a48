"""Whole nights up to their journals and report: bad rows among the good ones, and a vendor that is dead all night."""

import hashlib
import html
import json
import os
import re
from pathlib import Path

import pytest

from tieout import schema
from tieout.errors import Unavailable
from tieout.lake.hashing import result_hash
from tieout.orchestration import checking, closing, intake, planning, steps
from tieout.orchestration.work import Work
from tieout.settings import Settings
from tieout.sources import client
from tieout.store import Store
from tieout.store.batches import select_batches
from tieout_sandbox import control, demo
from tieout_sandbox.simulators.documents import Document, DocumentStore, Query
from tieout_sandbox.testing import dial

pytestmark = [pytest.mark.server, pytest.mark.fault, pytest.mark.timeout(900)]

DAY = "2026-03-29"
RESULTS = ("matches", "breaks", "breaks_gone", "totals", "usage_summary", "journals", "journal_lines",
           "journal_drilldown")  # fmt: skip

# id of the record → what the dial does to it, and the reason it must be set aside for
BAD_INVOICES = {
    "in_badText": ("text_amount", "", "not_a_number", "total"),
    "in_badCurrency": ("unknown_currency", "", "unknown_currency", "currency"),
    "in_badCustomer": ("missing_customer", "", "missing", "customer"),
    "in_badNul": ("nul", "", "nul_character", "description"),
    "in_badHuge": ("huge", "", "too_long", "description"),
    "in_badEncoding": ("encoding", "", "wrong_encoding", "description"),
}
BAD_SUBSCRIPTION = {"sub_badQuantity": ("negative_quantity", "items.data.0.quantity", "negative", "quantity")}

USAGE = {"event_id": "", "subscription_id": "sub_x", "customer_id": "cus_x", "meter": "api_calls", "unit": "call",
         "quantity": "5", "occurred_at": "2026-03-29T12:00:00Z", "kind": "usage", "corrects_event_id": None,
         "received_at": "2026-03-29T13:00:00Z"}  # fmt: skip
BAD_USAGE = {
    "ev_badText": ({"quantity": "many"}, "not_a_number", "quantity"),
    "ev_badNegative": ({"quantity": "-5"}, "negative", "quantity"),
    "ev_badNul": ({"meter": "api\0calls"}, "nul_character", "meter"),
    "ev_badHuge": ({"meter": "x" * 10_485_760}, "too_long", "meter"),
    "ev_badEncoding": ({"meter": "caf\udce9"}, "wrong_encoding", "meter"),
}
BANK = ("id", "legal_entity_id", "account", "booking_date", "value_date", "amount", "currency", "reference")
BAD_BANK = {
    "bank_badCurrency": ({"currency": "XXQ"}, "unknown_currency", "currency"),
    "bank_badText": ({"amount": "twelve hundred"}, "not_a_number", "amount"),
}


@pytest.fixture(scope="module")
def company(tmp_path_factory):
    """The company's vendors and drop folder; what is read here is never posted."""
    home = tmp_path_factory.mktemp("company")
    state = control.up(home, only={"vendors", "drop"}, now=demo.night_clock(demo.NIGHTS[0]))
    try:
        yield state
    finally:
        control.down(home)


@pytest.fixture(scope="module")
def plain(company, tmp_path_factory):
    """The night without anything bad, before anything bad is put there."""
    work = work_of(company, tmp_path_factory.mktemp("plain"))
    read(work, "night")
    complete(work, "night")
    return work


def work_of(company, home: Path) -> Work:
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("TIEOUT_", "AIRFLOW"))}
    settings = Settings.from_env({**ours, "TIEOUT_HOME": str(home), "TIEOUT_CONFIG": str(demo.CONFIG)})
    Store(settings.store).upgrade()
    return Work(settings, company.connection)


def read(work: Work, run_id: str) -> None:
    steps.open_run(work, run_id, "nightly", DAY)
    for source in work.sources.values():
        if source.kind != "erp":
            intake.extract(work, run_id, source.name, DAY)


def complete(work: Work, run_id: str) -> None:
    intake.conform(work, run_id)
    checking.aggregate_usage(work, run_id, DAY)
    checking.reconcile_sources(work, run_id, DAY)
    planning.plan_journals(work, run_id, DAY)
    checking.reconcile_ledger(work, run_id, DAY, ledger_read=False)
    closing.report(work, run_id, DAY)


def hashes(work: Work) -> dict[str, str]:
    published = work.store.published()
    names = [*(t.name for t in schema.CANONICAL), *RESULTS]
    return {t: result_hash(work.lake.read(t, published[t]), schema.table(t).key) for t in names if t in published}


def quarantined(work: Work) -> list[dict]:
    return work.lake.read("quarantine", work.store.published()["quarantine"]).to_pylist()


def copies(company, object_name: str, ids) -> None:
    """More documents of one Stripe account, each like one that is there but for its id."""
    documents = DocumentStore.open(company.home / "vendors.sqlite")
    account = documents.meta("accounts")[0]
    (row,) = documents.select(
        documents.collection("stripe", account, object_name), int(company.now.timestamp()), Query(limit=1, offset=5)
    )
    for new in ids:
        body = {**row.body, "id": new}
        documents.put(Document("stripe", account, object_name, new, row.stamp, row.visible_at, 1, body))
    documents.close()


def deliver(company, feed: str, name: str, content: bytes, rows: int) -> None:
    """One more file in a feed's folder, listed in its manifest."""
    folder = company.home / "drop" / feed / f"dt={DAY}"
    (folder / name).write_bytes(content)
    path = folder / "_MANIFEST.json"
    manifest = json.loads(path.read_text())
    digest = hashlib.sha256(content).hexdigest()
    manifest["files"].append({"name": name, "size": len(content), "sha256": digest, "rows": rows})
    path.write_text(json.dumps(manifest))


def test_a_vendor_dead_all_night_fails_the_run_by_name_and_the_next_one_catches_up(
    company, plain, tmp_path, monkeypatch
):
    monkeypatch.setattr(client, "TRIES", 2)  # the waits between eight tries add up to minutes
    work = work_of(company, tmp_path)
    # the first pages of each object are served: what is landed of an extract when it breaks is not taken for a whole
    everything = {"kind": "server_error", "path": "/stripe/v1/invoices*", "status": 503, "skip": 1, "count": None}
    dial(company, "POST", [everything])
    named = re.escape("HTTP 503") + r".*\(stripe_us, window .* to 2026-03-30T.*, request GET /stripe/v1/invoices\?"
    with pytest.raises(Unavailable, match=named):
        steps.night(work, "night", DAY)
    assert work.landing.extracts("stripe_us", "invoices") == []
    assert work.store.published() == {}
    assert work.store.run("night").state not in ("success", "unproven")
    with work.store.reading() as session:
        assert select_batches(session) == []

    dial(company, "DELETE")
    read(work, "night")
    intake.conform(work, "night")
    checking.aggregate_usage(work, "night", DAY)
    planning.plan_journals(work, "night", DAY)
    found, expected = hashes(work), hashes(plain)
    assert {"invoice", "usage_summary", "journals", "journal_drilldown"} <= set(found)
    assert [name for name in found if found[name] != expected[name]] == []


def test_bad_rows_are_set_aside_by_name_and_the_rest_is_as_without_them(company, plain, tmp_path):
    copies(company, "invoices", BAD_INVOICES)
    copies(company, "subscriptions", BAD_SUBSCRIPTION)
    dial(company, "POST", [
        {"kind": "bad_row", "variant": variant, "field": field, "object": name, "record_id": record, "count": None}
        for name, bad in (("invoices", BAD_INVOICES), ("subscriptions", BAD_SUBSCRIPTION))
        for record, (variant, field, _, _) in bad.items()
    ])  # fmt: skip
    lines = [
        json.dumps({**USAGE, "event_id": e, **changes}, ensure_ascii=False) for e, (changes, *_) in BAD_USAGE.items()
    ]
    content = "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")
    deliver(company, "usage", "part-us-bad.jsonl", content, len(BAD_USAGE))
    good = {"legal_entity_id": "US", "account": "10300", "booking_date": DAY, "value_date": DAY, "amount": "1.00",
            "currency": "USD", "reference": "x"}  # fmt: skip
    table = [BANK, *(tuple({"id": i, **good, **changes}[c] for c in BANK) for i, (changes, *_) in BAD_BANK.items())]
    deliver(company, "bank", "part-us-bad.csv", "".join(",".join(r) + "\n" for r in table).encode(), len(BAD_BANK))

    work = work_of(company, tmp_path)
    read(work, "night")
    complete(work, "night")
    dial(company, "DELETE")

    expected = {
        **{i: ("stripe_us", "invoices", code, field) for i, (_, _, code, field) in BAD_INVOICES.items()},
        **{i: ("stripe_us", "subscriptions", code, field) for i, (_, _, code, field) in BAD_SUBSCRIPTION.items()},
        **{i: ("drop", "usage", code, field) for i, (_, code, field) in BAD_USAGE.items()},
        **{i: ("drop", "bank", code, field) for i, (_, code, field) in BAD_BANK.items()},
    }
    known = {row["record_digest"] for row in quarantined(plain)}
    set_aside = [row for row in quarantined(work) if row["record_digest"] not in known]
    # a record that is no text in whole has no id that could be read; its raw reference leads to it
    assert {row["source_id"] for row in set_aside} - {None} == {i for i in expected if "Encoding" not in i}
    found = [(row["source"], row["object"], row["reason_code"], row["field"].split(".")[-1]) for row in set_aside]
    assert sorted(found) == sorted(expected.values())
    assert len(work.store.quarantined()) == len(known) + len(expected)

    with_them, without = work.store.facts("night"), plain.store.facts("night")
    for facts in (with_them, without):
        conformed = facts["conform"]
        extracted = sum(v["records"] for k, v in facts.items() if k.startswith("extract/"))
        assert extracted == conformed["read"]
        assert conformed["read"] == conformed["rows"] + conformed["merged"] + conformed["quarantined"]
    for count, more in (("read", len(expected)), ("quarantined", len(expected)), ("rows", 0), ("merged", 0)):
        assert with_them["conform"][count] == without["conform"][count] + more, count

    rest = hashes(plain)
    assert len(rest) > 25
    assert hashes(work) == rest

    page = html.unescape(Path(with_them["report"]["html"]).read_text(encoding="utf-8"))
    for row in set_aside:
        assert row["raw_ref"] in page
        assert row["reason"] in page
