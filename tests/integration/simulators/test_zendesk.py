"""Zendesk's documented behaviour, asked over HTTP."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.server

LONG_AGO = 1_577_836_800
NOW = 1_774_861_200  # 2026-03-30 09:00 UTC


def test_email_and_token_are_checked(vendors):
    url = f"{vendors.base}/zendesk/api/v2/tickets/count"
    answer = vendors.session.get(url, auth=("ops@example.com/token", "no"), timeout=5)
    assert (answer.status_code, answer.json()) == (401, {"error": "Couldn't authenticate you"})


class TestCursorExport:
    def test_pages_end_with_end_of_stream_and_a_cursor_to_keep(self, vendors):
        page = vendors.zendesk(f"incremental/tickets/cursor?start_time={LONG_AGO}&per_page=8").json()
        found, ends = [t["id"] for t in page["tickets"]], [page["end_of_stream"]]
        while not page["end_of_stream"]:
            page = (
                vendors.zendesk(page["after_url"]).json()
                if len(ends) % 2
                else vendors.zendesk(
                    "incremental/tickets/cursor", params={"cursor": page["after_cursor"], "per_page": 8}
                ).json()
            )
            found += [t["id"] for t in page["tickets"]]
            ends.append(page["end_of_stream"])
        assert sorted(found) == list(range(100, 130))
        assert found[-2:] == [100, 101]  # changed last, so exported last
        again = vendors.zendesk("incremental/tickets/cursor", params={"cursor": page["after_cursor"]}).json()
        assert (again["tickets"], again["end_of_stream"]) == ([], True)
        assert again["after_cursor"] == page["after_cursor"]

    def test_the_last_minute_is_withheld(self, vendors):
        start = {"start_time": NOW - 120}
        assert vendors.zendesk("incremental/tickets/cursor", params=start).json()["tickets"] == []
        vendors.at("2026-03-30T09:00:31Z")
        assert [t["id"] for t in vendors.zendesk("incremental/tickets/cursor", params=start).json()["tickets"]] == [999]

    def test_deleted_tickets_say_so(self, vendors):
        tickets = vendors.zendesk(f"incremental/tickets/cursor?start_time={NOW - 2 * 86400}").json()["tickets"]
        assert [(t["id"], t["status"]) for t in tickets] == [(100, "solved"), (101, "deleted")]
        assert vendors.zendesk("tickets/101").status_code == 404

    def test_generated_timestamp_orders_not_updated_at(self, vendors):
        ticket = vendors.zendesk(f"incremental/tickets/cursor?start_time={NOW - 2 * 86400}").json()["tickets"][0]
        assert ticket["generated_timestamp"] == NOW - 86400
        assert ticket["updated_at"] == "2026-03-01T00:00:00Z"

    @pytest.mark.parametrize(
        ("query", "error"),
        [
            (f"start_time={NOW - 30}", "StartTimeTooRecent"),
            ("start_time=yesterday", "InvalidStartTime"),
            ("", "InvalidStartTime"),
            ("cursor=nonsense", "InvalidCursor"),
        ],
    )
    def test_wrong_starts(self, vendors, query, error):
        answer = vendors.zendesk(f"incremental/tickets/cursor?{query}")
        assert (answer.status_code, answer.json()["error"]) == (400, error)

    def test_users(self, vendors):
        page = vendors.zendesk(f"incremental/users/cursor?start_time={LONG_AGO}").json()
        assert [u["id"] for u in page["users"]] == [900]


class TestTimeExport:
    def test_neighbouring_pages_overlap(self, vendors):
        page = vendors.zendesk(f"incremental/organizations?start_time={LONG_AGO}&per_page=3").json()
        seen, pages = [o["id"] for o in page["organizations"]], 1
        while not page["end_of_stream"]:
            page = vendors.zendesk(page["next_page"], params={"per_page": 3}).json()
            seen += [o["id"] for o in page["organizations"]]
            pages += 1
            assert pages < 10
        assert set(seen) == set(range(500, 510))
        assert len(seen) > 10

    def test_a_page_holds_the_whole_of_its_last_second(self, vendors):
        page = vendors.zendesk(f"incremental/organizations?start_time={LONG_AGO}&per_page=3").json()
        assert page["count"] == 4
        assert page["end_time"] == NOW - 9 * 86400

    def test_sample(self, vendors):
        assert vendors.zendesk(f"incremental/tickets/sample?start_time={LONG_AGO}").json()["count"] == 30


class TestListsAndCounts:
    def test_counts_leave_deleted_tickets_out(self, vendors):
        count = vendors.zendesk("tickets/count").json()["count"]
        assert count == {"refreshed_at": "2026-03-30T09:00:00Z", "value": 30}
        assert vendors.zendesk("organizations/count.json").json()["count"]["value"] == 10

    @pytest.mark.parametrize(
        ("query", "count"),
        [
            ("type:ticket", 30),
            ("type:ticket status<solved", 29),
            ("type:ticket status:solved", 1),
            ("type:ticket organization:500 created>=2026-03-01", 30),
            ("type:organization", 10),
        ],
    )
    def test_search_count(self, vendors, query, count):
        assert vendors.zendesk("search/count", params={"query": query}).json() == {"count": count}

    def test_cursor_lists(self, vendors):
        params, found = {"page[size]": 12}, []
        while True:
            page = vendors.zendesk("tickets", params=params).json()
            found += [t["id"] for t in page["tickets"]]
            if not page["meta"]["has_more"]:
                break
            params["page[after]"] = page["meta"]["after_cursor"]
        assert found == [i for i in [*range(100, 130), 999] if i != 101]

    def test_numbered_pages(self, vendors):
        page = vendors.zendesk("organizations.json", params={"per_page": 4, "page": 3}).json()
        assert (len(page["organizations"]), page["count"], page["next_page"]) == (2, 10, None)
        assert "page=2" in page["previous_page"]

    def test_single_objects_and_unknown_ones(self, vendors):
        assert vendors.zendesk("tickets/100.json").json()["ticket"]["status"] == "solved"
        assert vendors.zendesk("tickets/1").json() == {"error": "RecordNotFound", "description": "Not found"}
        assert vendors.zendesk("nonsense").json()["error"] == "InvalidEndpoint"

    def test_rate_headers_count_down(self, vendors):
        first, second = (int(vendors.zendesk("tickets/count").headers["rate-limit-remaining"]) for _ in range(2))
        assert second < first or first == 0
