"""The client: passing faults pass, refusals are told, vendors' wishes are obeyed, credentials stay inside."""

from datetime import UTC, datetime

import pytest
import requests
import responses

from tieout.errors import ConfigError, RateLimited, Refused, Unavailable
from tieout.sources.client import Bearer, Clock, HttpClient

BASE = "https://vendor.example/base"
DATE = {"Date": "Mon, 30 Mar 2026 09:00:00 GMT"}
SECRET = "rk_live_abcdef0123456789"


@pytest.fixture
def naps():
    return []


@pytest.fixture
def client(naps):
    clock = Clock(sleep=naps.append, now=lambda: datetime(2026, 1, 1, tzinfo=UTC), jitter=lambda: 1.0)
    with HttpClient("stripe_us", BASE, auth=Bearer(SECRET), clock=clock) as made:
        made.window = "A to B"
        yield made


@pytest.fixture
def vendor():
    with responses.RequestsMock() as mock:
        yield mock


def ok(vendor, **more):
    vendor.get(f"{BASE}/v1/x", **({"json": {"a": 1.10}, "headers": DATE} | more))


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 520, 522, 524])
def test_a_passing_status_is_asked_again(client, vendor, naps, status):
    ok(vendor, status=status)
    ok(vendor, status=status)
    ok(vendor)
    assert client.get("v1/x").value == {"a": "1.1"}
    assert naps == [1.0, 2.0]


@pytest.mark.parametrize(
    "fault",
    [
        requests.ConnectionError("refused"),
        requests.Timeout(),
        requests.exceptions.ChunkedEncodingError("cut"),
        '{"a": [1, 2',
        "",
    ],
    ids=["connection", "timeout", "cut body", "half a document", "empty body"],
)
def test_a_broken_answer_is_asked_again(client, vendor, naps, fault):
    vendor.get(f"{BASE}/v1/x", body=fault, headers=DATE)
    ok(vendor)
    assert client.get("v1/x").value == {"a": "1.1"}
    assert naps == [1.0]


@pytest.mark.parametrize(
    ("headers", "nap"),
    [
        ({"Retry-After": "7"}, 7),
        ({"Retry-After": "Mon, 30 Mar 2026 09:00:11 GMT"}, 11),
        ({"RateLimit-Reset": "13"}, 13),
        ({"Retry-After": "0"}, 0),
        ({"Retry-After": "soon"}, 1),
    ],
)
def test_the_vendor_says_when_to_come_back(client, vendor, naps, headers, nap):
    ok(vendor, status=429, headers=DATE | headers)
    ok(vendor)
    client.get("v1/x")
    assert naps == [nap]


def test_waits_grow_and_are_capped_and_tries_end(client, vendor, naps):
    ok(vendor, status=503, json={"error": {"message": "try later", "code": "down"}})
    with pytest.raises(Unavailable, match="after 8 tries: HTTP 503 down; try later") as caught:
        client.get("v1/x", [("created[gte]", "1")])
    assert naps == [1, 2, 4, 8, 16, 32, 64]
    assert "stripe_us, window A to B, request GET /base/v1/x?created%5Bgte%5D=1" in str(caught.value)
    assert caught.value.retryable


def test_full_jitter(vendor, naps):
    with HttpClient("s", BASE, clock=Clock(sleep=naps.append, jitter=lambda: 0.25)) as client:
        ok(vendor, status=500)
        with pytest.raises(Unavailable):
            client.get("v1/x")
    assert naps == [0.25, 0.5, 1, 2, 4, 8, 16]


def test_a_limit_that_does_not_clear_is_told_as_such(client, vendor):
    ok(vendor, status=429, headers=DATE | {"Retry-After": "3"})
    with pytest.raises(RateLimited, match="the vendor asked to wait 3 s"):
        client.get("v1/x")


def test_a_vendor_that_asks_for_an_hour_is_left_alone(client, vendor, naps):
    ok(vendor, status=429, headers=DATE | {"Retry-After": "3600"})
    with pytest.raises(RateLimited, match="come back in 3600 s"):
        client.get("v1/x")
    assert naps == []


@pytest.mark.parametrize("status", [400, 401, 403, 404, 302])
def test_a_refusal_is_not_asked_again(client, vendor, naps, status):
    ok(
        vendor,
        status=status,
        json=[{"errorCode": "NO", "message": "not yours"}],
        headers=DATE | {"Location": "http://e"},
    )
    with pytest.raises(Refused, match=f"HTTP {status} NO; not yours"):
        client.get("v1/x")
    assert naps == []


def test_a_quota_that_is_used_up_is_not_asked_for_again(vendor, naps):
    with HttpClient("crm", BASE, clock=Clock(sleep=naps.append), judge=lambda s, _: "quota" if s == 403 else None) as c:
        ok(vendor, status=403, json=[{"errorCode": "REQUEST_LIMIT_EXCEEDED", "message": "too many"}])
        with pytest.raises(RateLimited, match="quota is used up"):
            c.get("v1/x")
    assert naps == []


def test_a_vendor_may_call_other_statuses_passing(vendor, naps):
    with HttpClient(
        "crm", BASE, clock=Clock(sleep=naps.append), judge=lambda s, _: "passing" if s == 409 else None
    ) as c:
        ok(vendor, status=409)
        ok(vendor)
        assert c.get("v1/x").status == 200


def test_no_credential_shows_in_an_error(client, vendor):
    ok(vendor, status=400, json={"error": {"message": f"Invalid API Key provided: {SECRET}"}})
    with pytest.raises(Refused) as caught:
        client.get("v1/x", [("access_token", "topsecret")])
    assert SECRET not in str(caught.value)
    assert "topsecret" not in str(caught.value)


def test_a_login_file_does_not_replace_the_connections_credentials(client, vendor, monkeypatch, tmp_path):
    (tmp_path / "netrc").write_text("machine vendor.example login a password b")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    ok(vendor)
    client.get("v1/x")
    assert vendor.calls[0].request.headers["Authorization"] == f"Bearer {SECRET}"


def test_bad_bytes_do_not_cost_the_page(client, vendor):
    vendor.get(f"{BASE}/v1/x", body=b'{"name": "a\xff"}')
    assert client.get("v1/x").value == {"name": "a\udcff"}


def test_the_vendors_clock_comes_from_any_answer(client, vendor):
    ok(vendor, status=404)
    assert client.server_time("v1/x") == datetime(2026, 3, 30, 9, tzinfo=UTC)


def test_an_answer_without_a_date_gives_no_clock(client, vendor):
    ok(vendor, headers={})
    with pytest.raises(Refused, match="no Date header"):
        client.server_time("v1/x")


def test_a_connection_needs_an_address():
    with pytest.raises(ConfigError, match="needs a base URL"):
        HttpClient("s", "file:///etc/passwd")


def test_the_rate_is_kept(vendor):
    from tieout.sources.client import Rate

    with HttpClient("s", BASE, rate=Rate(1000)) as client:
        ok(vendor)
        for _ in range(3):
            client.get("v1/x")
        assert client.requests == 3
