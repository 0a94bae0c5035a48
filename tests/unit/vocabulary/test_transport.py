"""Credentials leave the machine encrypted or not at all, and no answer can fill the memory."""

import traceback
from contextlib import closing

import pytest
import requests
import responses

from tieout import transport
from tieout.erp.jsonrpc import JsonRpc
from tieout.errors import ConfigError, ErpUnavailable, Refused, TieoutError, UnknownOutcome
from tieout.settings import Connection
from tieout.sources.client import Bearer, Clock, HttpClient
from tieout.transport import checked_address, new_session, same_origin

SECRET = "rk_live_abcdef0123456789"


def client(base, **more):
    return HttpClient("stripe_us", base, auth=Bearer(SECRET), clock=Clock(sleep=lambda _: None), **more)


def rpc(base):
    return JsonRpc(Connection("tryton", base, "poster", SECRET, "erp"), timeout=(1, 1), tries=1, pause=0)


@pytest.mark.parametrize("reach", [client, rpc], ids=["vendor", "erp"])
@pytest.mark.parametrize(
    ("base", "says"),
    [
        ("http://vendor.example", "plain http to another machine"),
        ("http://10.0.0.7:8000", "plain http to another machine"),
        ("http://169.254.169.254", "plain http to another machine"),
        ("http://127.0.0.1.vendor.example", "plain http to another machine"),
        ("http://[2001:db8::1]/", "plain http to another machine"),
        ("https://user:hush@vendor.example", "holds credentials"),
        ("file:///etc/passwd", "needs a base URL"),
        ("vendor.example", "needs a base URL"),
        ("", "needs a base URL"),
    ],
)
def test_an_address_that_credentials_must_not_go_to_is_refused(reach, base, says):
    with pytest.raises(ConfigError, match=says) as caught:
        reach(base)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    "base", ["https://vendor.example/x/", "http://127.0.0.1:80", "http://[::1]:1", "http://localhost"]
)
def test_an_encrypted_address_and_the_machine_itself_are_fine(base):
    assert checked_address(base, "x") == base.rstrip("/")


def test_one_server_is_told_by_scheme_host_and_port():
    assert same_origin("https://a.example", "https://A.example:443/x")
    assert not same_origin("https://a.example", "http://a.example")
    assert not same_origin("https://a.example", "https://a.example:444")
    assert not same_origin("https://a.example", "https://b.example")


def test_certificates_are_verified_whatever_the_connection_or_the_environment_says(monkeypatch):
    monkeypatch.setenv("CURL_CA_BUNDLE", "")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "")
    session = new_session("https://vendor.example")
    asked = session.merge_environment_settings("https://vendor.example", {}, None, None, None)
    assert asked["verify"] is True
    connection = Connection("tryton", "https://erp.example", "poster", SECRET, "erp", {"verify": False})
    with closing(JsonRpc(connection, timeout=(1, 1), tries=1, pause=0)) as made:
        assert made._http.session.verify is True


def test_plain_http_to_this_machine_never_goes_through_a_proxy(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    inside = new_session("http://127.0.0.1:1").merge_environment_settings("http://127.0.0.1:1", {}, None, None, None)
    outside = new_session("https://v.example").merge_environment_settings("https://v.example", {}, None, None, None)
    assert not inside["proxies"]
    assert outside["proxies"]["https"] == "http://proxy.example:3128"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed_and_carries_nothing_anywhere(status):
    with responses.RequestsMock() as mock:
        elsewhere = {"Location": "https://elsewhere.example/v1/x", "Date": "Mon, 30 Mar 2026 09:00:00 GMT"}
        mock.get("https://vendor.example/v1/x", status=status, headers=elsewhere)
        mock.post("https://erp.example/erp/rpc/", status=status, headers=elsewhere)
        with client("https://vendor.example") as made, pytest.raises(Refused, match=f"HTTP {status}"):
            made.get("v1/x")
        with closing(rpc("https://erp.example")) as erp, pytest.raises(TieoutError, match=f"HTTP {status}"):
            erp.login()
        assert {call.request.url for call in mock.calls} == {
            "https://vendor.example/v1/x",
            "https://erp.example/erp/rpc/",
        }


def test_an_answer_beyond_all_measure_is_not_read_to_its_end(monkeypatch):
    monkeypatch.setattr(transport, "LARGEST_ANSWER", 1 << 20)
    body = b'{"a": "' + b"x" * (2 << 20) + b'"}'
    with responses.RequestsMock() as mock:
        mock.get("https://vendor.example/v1/x", body=body)
        with client("https://vendor.example") as made, pytest.raises(Refused, match="holds more than 1 MiB"):
            made.get("v1/x")
        mock.post("https://erp.example/erp/rpc/", body=body)
        with closing(rpc("https://erp.example")) as erp:
            with pytest.raises(ErpUnavailable, match="cannot be read"):
                erp.read("model.x.read", context={})
            monkeypatch.setattr(erp, "login", lambda: None)
            with pytest.raises(UnknownOutcome, match="cannot be read"):
                erp.write("model.x.create", context={})


@pytest.mark.parametrize("depth", [900, 5_000, 200_000])
def test_an_answer_nested_beyond_all_measure_is_a_typed_error(depth):
    deep = b"[" * depth + b"]" * depth
    with responses.RequestsMock() as mock:
        mock.post("https://erp.example/erp/rpc/", body=b'{"error": ' + deep + b"}")
        with closing(rpc("https://erp.example")) as erp, pytest.raises(TieoutError):
            erp.login()
        mock.get("https://vendor.example/v1/x", status=400, body=b'{"error": ' + deep + b"}")
        with client("https://vendor.example") as made, pytest.raises(Refused, match="HTTP 400"):
            made.get("v1/x")


@pytest.mark.parametrize(
    "fault",
    [
        requests.exceptions.InvalidHeader(f"Invalid header value: Bearer {SECRET}"),
        requests.ConnectionError(f"https://user:{SECRET}@vendor.example"),
        requests.exceptions.ProxyError(f"Authorization: Bearer {SECRET}"),
        requests.exceptions.ContentDecodingError(f"password={SECRET}"),
    ],
    ids=lambda fault: type(fault).__name__,
)
def test_no_credential_is_in_the_printed_chain_of_an_error(fault):
    with responses.RequestsMock() as mock:
        mock.get("https://vendor.example/v1/x", body=fault)
        mock.post("https://erp.example/erp/rpc/", body=fault)
        with client("https://vendor.example") as made, pytest.raises(TieoutError) as vendor:
            made.get("v1/x")
        with closing(rpc("https://erp.example")) as erp, pytest.raises(TieoutError) as ledger:
            erp.login()
    for caught in (vendor, ledger):
        assert SECRET not in "".join(traceback.format_exception(caught.value))
