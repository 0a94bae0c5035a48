"""Several nights of reading leave what one reading at the end would have found; reading again finds nothing."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tieout.errors import IncompleteExtract, RateLimited, Unavailable
from tieout.sources import catch_up, read_until
from tieout_sandbox.simulators.documents import Document, DocumentStore

pytestmark = pytest.mark.server
KINDS = ["stripe", "salesforce", "zendesk"]


def settled(record: str) -> str:
    """Without the state of the balance transactions inside a dispute, which moves on without an event."""
    return record.replace('"status": "pending"', '"status": "available"')


@pytest.mark.parametrize("kind", KINDS)
def test_nights_add_up_to_one_reading_at_the_end(home, another, vendors, kind):
    for now in vendors.nights:
        vendors.at(now)
        assert home.catch_up(kind)
        assert home.catch_up(kind) == []
    fresh = another("fresh")
    fresh.catch_up(kind)
    expected = fresh.content(kind)
    found = home.content(kind)
    assert {name: len(rows) for name, rows in found.items()} == {name: len(rows) for name, rows in expected.items()}
    for name, rows in expected.items():
        if name != "balance_transactions":
            assert {i: settled(r) for i, r in found[name].items()} == {i: settled(r) for i, r in rows.items()}
    assert all(ref.control.proven for ref in home.landing.extracts(kind))
    assert not any(ref.faults for ref in home.landing.extracts(kind))


def test_pending_balance_transactions_are_read_until_they_are_available(home, another, vendors):
    for now in vendors.nights:
        vendors.at(now)
        home.catch_up("stripe", objects=("balance_transactions",))
    fresh = another("fresh")
    fresh.catch_up("stripe", objects=("balance_transactions",))
    assert home.content("stripe") == fresh.content("stripe")
    statuses = [json.loads(r)["status"] for r in home.content("stripe")["balance_transactions"].values()]
    assert {"pending", "available"} == set(statuses)


def test_windows_follow_the_vendors_clock_and_overlap(home, vendors):
    home.catch_up("salesforce", objects=("Account",))
    vendors.at(vendors.nights[1])
    (ref,) = home.catch_up("salesforce", objects=("Account",))
    assert ref.window_lo == datetime(2026, 3, 30, 8, 20, tzinfo=UTC)
    assert ref.window_hi == datetime(2026, 3, 31, 8, 50, tzinfo=UTC)


def test_events_that_show_late_are_caught_by_the_overlap(another, vendors):
    homes = {"with": another("with"), "without": another("without")}
    overlap = {"with": {}, "without": {"overlap": "0s"}}
    for minute in range(0, 390, 30):
        vendors.at(f"2026-03-30T{8 + minute // 60:02}:{minute % 60:02}:00Z")
        for name, home in homes.items():
            home.catch_up("stripe", objects=("invoices",), **overlap[name])
    fresh = another("fresh")
    fresh.catch_up("stripe", objects=("invoices",))
    assert homes["with"].content("stripe") == fresh.content("stripe")
    expected = events(fresh)
    assert events(homes["with"]) == expected
    assert events(homes["without"]) < expected


def events(home):
    """Ids of the day's landed events."""
    day = int(datetime(2026, 3, 30, tzinfo=UTC).timestamp())
    landed = (record for ref in home.landing.extracts("stripe", "events") for record in home.records(ref))
    return {record["id"] for record in landed if record["created"] >= day}


@pytest.mark.parametrize(("overlap", "caught"), [("30m", True), ("0s", False)])
def test_a_row_committed_late_is_caught_by_the_overlap(home, vendors, overlap, caught):
    stamp = int(datetime(2026, 5, 10, 8, 45, tzinfo=UTC).timestamp())
    store = DocumentStore.open(Path(vendors.db))
    late = {"Name": "Late", "CreatedDate": "2026-05-10T08:45:00.000+0000"}
    account = f"001LATE{'YES' if caught else 'NOT'}00000AAA"
    store.put(Document("salesforce", "org", "Account", account, stamp, stamp + 900, 1, late))
    store.close()
    for now in ("2026-05-10T08:58:00Z", "2026-05-10T09:15:00Z"):
        vendors.at(now)
        home.catch_up("salesforce", objects=("Account",), overlap=overlap)
    assert (account in home.content("salesforce")["Account"]) is caught


def test_how_far_a_source_has_been_read_is_known(home):
    source = home.source("salesforce", objects=("Account", "Contract"))
    assert read_until(source, home.store) is None
    home.catch_up("salesforce", objects=("Account", "Contract"))
    assert read_until(source, home.store) == datetime(2026, 3, 30, 8, 50, tzinfo=UTC)


def test_nothing_is_read_past_until(home, vendors):
    until = datetime(2026, 3, 29, 12, tzinfo=UTC)
    for expected in (1, 0):
        refs = catch_up(
            home.source("salesforce", objects=("Account",)),
            vendors.connection("salesforce"),
            landing=home.landing,
            store=home.store,
            until=until,
        )
        assert [r.window_hi for r in refs] == [until] * expected


def test_canceled_subscriptions_are_read(home):
    home.catch_up("stripe", objects=("subscriptions",))
    (ref,) = home.landing.extracts("stripe", "subscriptions")
    assert "canceled" in {r["status"] for r in home.records(ref)}


def test_a_feed_older_than_it_is_kept_is_loaded_again(home, vendors):
    home.catch_up("stripe", objects=("customers", "invoices"))
    vendors.at("2026-05-02T09:00:00Z")
    refs = {ref.object: ref for ref in home.catch_up("stripe", objects=("customers", "invoices"))}
    assert refs["events"].facts["feed_restarted"]
    assert refs["invoices"].facts["full"]
    assert refs["invoices"].records > 400


def test_bulk_and_rest_land_the_same_records(home, another):
    home.catch_up("salesforce")
    bulk = another("bulk")
    refs = bulk.catch_up("salesforce", bulk_above=0)
    assert {ref.facts["way"] for ref in refs} == {"bulk"}
    assert bulk.content("salesforce") == home.content("salesforce")


def test_a_bulk_query_that_fails_is_told_and_nothing_is_kept(home, vendors):
    vendors.control("POST", "limits", {"bulk_failures": 1})
    with pytest.raises(Unavailable, match=r"bulk query failed.*salesforce, window the beginning to 2026-03-30T08:50"):
        home.catch_up("salesforce", objects=("Account",), bulk_above=0)
    assert home.landing.extracts("salesforce") == []


def test_a_used_up_quota_is_told_as_such(home, vendors):
    vendors.control("POST", "limits", {"salesforce_daily": 1})
    with pytest.raises(RateLimited, match="quota is used up: HTTP 403 REQUEST_LIMIT_EXCEEDED"):
        home.catch_up("salesforce", objects=("Account",))
    assert home.naps == []


def test_the_cursor_of_an_export_is_continued(home, vendors):
    home.catch_up("zendesk", objects=("tickets",))
    cursor = home.store.watermark("source/zendesk/tickets").value["feed"]["after_cursor"]
    vendors.at(vendors.nights[1])
    vendors.control("DELETE", "requests")
    home.catch_up("zendesk", objects=("tickets",))
    assert cursor != home.store.watermark("source/zendesk/tickets").value["feed"]["after_cursor"]


def test_an_unknown_event_type_raises_an_alert(home, vendors, caplog):
    home.catch_up("stripe", objects=("customers",))
    vendors.at(vendors.nights[1])
    vendors.fault(kind="bad_row", object="events", field="type", value="customer.teleported", count=None)
    refs = {ref.object: ref for ref in home.catch_up("stripe", objects=("customers",))}
    assert list(refs["events"].facts["unseen_event_types"]) == ["customer.teleported"]
    assert "unseen event types" in caplog.text


def test_a_total_that_differs_from_the_vendors_own_keeps_the_extract_out(home, vendors):
    vendors.fault(kind="bad_row", object="Opportunity", field="Amount", value=1, count=None)
    with pytest.raises(IncompleteExtract, match=r"vendor's own figure says .*request COUNT and SUM in SOQL"):
        home.catch_up("salesforce", objects=("Opportunity",))
    assert home.landing.extracts("salesforce") == []
