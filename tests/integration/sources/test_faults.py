"""Vendor faults: an extract ends whole, or fails naming source, window and request and leaves nothing behind."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import pyarrow.parquet as pq
import pytest

from tieout.errors import DriftError, LeaseHeld, RateLimited, Unavailable

pytestmark = [pytest.mark.server, pytest.mark.fault]

PLACES = {
    "stripe": ("/stripe/v1/invoices", "invoices"),
    "salesforce": ("/salesforce/services/data/*", "Account"),
    "zendesk": ("/zendesk/api/v2/incremental/tickets/*", "tickets"),
}
TRANSPORT = {
    "429 burst": {"kind": "rate_limit", "count": 3, "retry_after": 2},
    "503": {"kind": "server_error", "status": 503, "count": 2},
    "500": {"kind": "server_error", "count": 1},
    "cut body": {"kind": "cut", "count": 2},
    "dropped connection": {"kind": "timeout", "seconds": 0.05, "count": 2},
    "slow answer": {"kind": "slow", "seconds": 0.1, "count": 1},
}


@pytest.mark.parametrize("fault", TRANSPORT.values(), ids=TRANSPORT.keys())
@pytest.mark.parametrize("kind", PLACES)
def test_a_fault_that_passes_changes_nothing(home, vendors, clean, kind, fault):
    path, name = PLACES[kind]
    vendors.fault(path=path, **fault)
    if kind == "salesforce" and fault["kind"] == "rate_limit":
        with pytest.raises(RateLimited, match="quota is used up: HTTP 403 REQUEST_LIMIT_EXCEEDED"):
            home.catch_up(kind, objects=(name,))
        vendors.control("DELETE", "faults")
        home.catch_up(kind, objects=(name,))
        assert home.content(kind) == clean.content(kind)
        return
    home.catch_up(kind, objects=(name,))
    assert vendors.fired() == fault["count"]
    assert home.content(kind) == clean.content(kind)
    assert home.pages(kind) == clean.pages(kind)
    if fault["kind"] == "rate_limit":
        assert home.naps == [2.0] * 3


def test_a_page_served_twice_is_asked_for_again(home, vendors, clean):
    vendors.fault(kind="duplicate_page", path="/stripe/v1/invoices", count=2)
    home.catch_up("stripe", objects=("invoices",))
    assert vendors.fired() == 2
    assert home.pages("stripe") == clean.pages("stripe")


def test_a_page_served_for_ever_is_told(home, vendors):
    vendors.fault(kind="duplicate_page", path="/stripe/v1/invoices", count=None)
    with pytest.raises(Unavailable, match=r"serves a page again.*stripe, window .*request GET .*/v1/invoices"):
        home.catch_up("stripe", objects=("invoices",))
    assert home.landing.extracts("stripe", "invoices") == []


@pytest.mark.parametrize("kind", PLACES)
def test_a_fault_that_stays_is_told_and_nothing_is_kept(home, vendors, kind):
    path, name = PLACES[kind]
    vendors.fault(kind="server_error", path=path, status=503, count=None, skip=1 if kind == "stripe" else 0)
    with pytest.raises(
        Unavailable, match=rf"after 8 tries: HTTP 503.*{kind}, window .* to 2026-03-30T08:.*request GET"
    ):
        home.catch_up(kind, objects=(name,))
    assert home.landing.extracts(kind, name) == []
    vendors.control("DELETE", "faults")
    refs = home.catch_up(kind, objects=(name,))
    assert [r.object for r in refs][-1] == name


@pytest.mark.parametrize(
    ("kind", "name", "field"),
    [
        ("stripe", "invoices", "status_transitions"),
        ("stripe", "charges", "amount"),
        ("zendesk", "tickets", "organization_id"),
        ("salesforce", "SBQQ__Subscription__c", "SBQQ__Quantity__c"),
    ],
)
@pytest.mark.parametrize("how", ["drop_field", "rename_field", "change_type"])
def test_drift_of_a_needed_field_stops_the_extract(home, vendors, kind, name, field, how):
    vendors.fault(kind=how, object=name, field=field, count=None)
    if kind == "salesforce" and how == "change_type":
        home.catch_up(kind, objects=(name,))  # a number as text is how fractions are landed anyway
        return
    with pytest.raises(DriftError, match=rf"field {field} has (vanished|changed its type).*{kind}/{name}, window"):
        home.catch_up(kind, objects=(name,))
    assert home.landing.extracts(kind, name) == []


def test_a_new_field_is_noted_and_stops_nothing(home, vendors):
    vendors.fault(kind="new_field", object="charges", field="network_score", value=7, count=None)
    refs = {ref.object: ref for ref in home.catch_up("stripe", objects=("charges",))}
    assert refs["charges"].facts["drift"]["new_fields"] == {"network_score": "int"}


@pytest.mark.parametrize(
    ("variant", "reason"),
    [("nul", "NUL"), ("huge", "more than"), ("encoding", "no valid Unicode"), ("text_amount", None)],
)
def test_a_bad_row_is_landed_with_its_fault_and_the_others_without(home, vendors, variant, reason):
    vendors.fault(kind="bad_row", variant=variant, object="charges", count=None)
    refs = {ref.object: ref for ref in home.catch_up("stripe", objects=("charges",))}
    ref = refs["charges"]
    faults = [f for file in ref.files() for f in pq.read_table(file)["fault"].to_pylist() if f]
    assert ref.control.proven
    assert all(reason in f for f in faults)
    assert len(faults) == (ref.pages if reason else 0)


def test_a_commit_whose_watermark_was_not_moved_is_adopted(home, vendors, clean, monkeypatch):
    def dies(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(home.store, "set_watermark", dies)
    with pytest.raises(KeyboardInterrupt):
        home.catch_up("salesforce", objects=("Account",))
    monkeypatch.undo()
    vendors.at(vendors.nights[1])
    first, second = home.catch_up("salesforce", objects=("Account",))
    assert (first.sequence, second.sequence) == (1, 2)
    assert home.pages("salesforce")[0] == clean.pages("salesforce")[0]


@pytest.mark.parametrize("kind", PLACES)
def test_no_credential_is_left_behind(home, vendors, kind, caplog):
    path, name = PLACES[kind]
    vendors.fault(kind="server_error", path=path, status=503, count=2)
    caplog.set_level("DEBUG")
    refs = home.catch_up(kind, objects=(name,))
    texts = [caplog.text, repr(vendors.connection(kind)), *map(str, refs)]
    for ref in refs:
        for file in ref.files():
            table = pq.read_table(file)
            texts += [str(table.schema.metadata), *table["record"].to_pylist()]
    texts += [p.read_bytes().decode("latin-1") for p in home.path.rglob("*") if p.is_file()]
    connection = vendors.connection(kind)
    assert not any(connection.password in text for text in texts)


CHILD = """
import sys
from pathlib import Path
sys.path.insert(0, {folder!r})
from conftest import Home, Vendors
home = Home(Path({home!r}), Vendors({base!r}, {secrets!r}, {accounts!r}))
home.catch_up({kind!r}, objects=({name!r},))
"""


@pytest.mark.parametrize("pages", [1, 3])
def test_a_process_killed_between_pages_leaves_nothing_and_its_rerun_the_same(home, vendors, clean, pages):
    vendors.fault(kind="slow", path="/stripe/v1/invoices", seconds=30, skip=pages, count=1)
    script = CHILD.format(
        folder=os.path.dirname(__file__),
        home=str(home.path),
        base=vendors.base,
        secrets=vendors.secrets,
        accounts=vendors.accounts,
        kind="stripe",
        name="invoices",
    )
    child = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)])
    deadline = time.monotonic() + 60
    while not list((home.path / "raw/stripe/invoices").glob(f"*/page-{pages:05}.parquet")):
        assert child.poll() is None, "the extract ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.05)
    with pytest.raises(LeaseHeld):
        home.catch_up("stripe", objects=("invoices",))
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert home.landing.extracts("stripe", "invoices") == []
    vendors.control("DELETE", "faults")
    home.catch_up("stripe", objects=("invoices",))
    assert home.content("stripe") == clean.content("stripe")
    assert home.pages("stripe") == clean.pages("stripe")
