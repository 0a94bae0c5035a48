"""Every answer of the ERP, or its absence, becomes one typed outcome."""

from __future__ import annotations

import json
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pytest
import requests
import responses
from urllib3.exceptions import MaxRetryError, NewConnectionError

from tieout.erp.http import LockNotObtained
from tieout.erp.jsonrpc import JsonRpc, RpcError, decode, encode, refuse_floats
from tieout.errors import ErpRateLimited, ErpUnavailable, Rejected, UnknownOutcome
from tieout.settings import Connection

URL = "https://erp.test/erp/rpc/"
CONTEXT: dict[str, Any] = {}


@pytest.fixture
def rpc() -> JsonRpc:
    connection = Connection("tryton", "https://erp.test", "poster", "hunter2secret", "erp")
    return JsonRpc(connection, timeout=(1, 1), tries=3, pause=0.0)


@pytest.fixture
def http() -> Any:
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        yield mock


def login(http: responses.RequestsMock) -> None:
    http.add(responses.POST, URL, json={"id": 1, "result": [7, "token", None]})


def refused_connection() -> requests.exceptions.ConnectionError:
    reason = NewConnectionError(None, "refused")  # type: ignore[arg-type]
    return requests.exceptions.ConnectionError(MaxRetryError(None, URL, reason))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "value",
    [
        Decimal("10.00"),
        Decimal("-0.01"),
        Decimal("1E+3"),
        date(2026, 3, 31),
        datetime(2026, 3, 31, 23, 59, 59, 7),  # noqa: DTZ001 - UTC without saying so, as the ERP writes it
    ],
)
def test_exact_values_survive_both_ways(value: Any) -> None:
    assert json.loads(json.dumps(value, default=encode), object_hook=decode) == value


@pytest.mark.parametrize("values", [1.5, [1, [2.0]], {"a": {"b": 0.1}}, (Decimal(1), 0.0)])
def test_a_float_never_reaches_the_erp(values: Any) -> None:
    with pytest.raises(TypeError, match="float"):
        refuse_floats(values)


def test_a_number_with_a_fraction_is_read_as_decimal(rpc: JsonRpc, http: responses.RequestsMock) -> None:
    login(http)
    http.add(responses.POST, URL, body='{"id": 2, "result": [{"debit": 0.10}]}')
    (row,) = rpc.read("model.x.read", context=CONTEXT)
    assert row["debit"] == Decimal("0.10")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"status": 500, "body": "<html>oops"}, UnknownOutcome),
        ({"status": 502, "body": ""}, UnknownOutcome),
        ({"status": 504, "body": ""}, UnknownOutcome),
        ({"status": 503, "body": "maintenance"}, UnknownOutcome),
        ({"status": 200, "body": "<html>a proxy's page"}, UnknownOutcome),
        ({"status": 200, "body": ""}, UnknownOutcome),
        ({"status": 302, "body": ""}, UnknownOutcome),
        ({"body": requests.exceptions.ReadTimeout()}, UnknownOutcome),
        ({"body": requests.exceptions.ConnectionError("reset by peer")}, UnknownOutcome),
        ({"body": requests.exceptions.ChunkedEncodingError()}, UnknownOutcome),
        ({"body": requests.exceptions.ConnectTimeout()}, ErpUnavailable),
        ({"body": refused_connection()}, ErpUnavailable),
        ({"status": 503, "body": 'could not obtain lock on row in relation "ir_sequence_strict"'}, LockNotObtained),
        ({"status": 429, "body": ""}, ErpRateLimited),
        ({"status": 403, "body": ""}, Rejected),
        ({"status": 404, "body": ""}, Rejected),
        ({"json": {"id": 2, "error": ["UserError", ["must balance", "", None]]}}, RpcError),
        ({"json": {"id": 2, "error": ["UserWarning", ["key", "are you sure", ""]]}}, RpcError),
        ({"json": {"id": 2, "error": ["ConcurrencyException", "Records were modified"]}}, ErpUnavailable),
        ({"json": {"id": 2, "error": ["'foo'", ""]}}, UnknownOutcome),
        ({"json": {"id": 2, "error": ["connection already closed", "Traceback"]}}, UnknownOutcome),
        ({"json": {"id": 2, "error": ["", "MemoryError"]}}, UnknownOutcome),
        ({"json": {"id": 2, "error": []}}, UnknownOutcome),
        ({"json": {"id": 2, "error": {"code": 1}}}, UnknownOutcome),
    ],
    ids=str,
)
def test_a_write_is_sent_once_and_its_outcome_is_typed(
    rpc: JsonRpc, http: responses.RequestsMock, answer: dict[str, Any], expected: type[Exception]
) -> None:
    login(http)
    http.add(responses.POST, URL, **answer)
    with pytest.raises(expected) as caught:
        rpc.write("model.account.move.create", [], context=CONTEXT)
    assert type(caught.value) is expected
    assert len(http.calls) == 2


def test_a_read_is_tried_again_until_it_succeeds(rpc: JsonRpc, http: responses.RequestsMock) -> None:
    login(http)
    http.add(responses.POST, URL, status=503)
    http.add(responses.POST, URL, body=requests.exceptions.ReadTimeout())
    http.add(responses.POST, URL, json={"id": 4, "result": [1]})
    assert rpc.read("model.x.search", context=CONTEXT) == [1]


def test_a_read_gives_up_after_the_allowed_tries(rpc: JsonRpc, http: responses.RequestsMock) -> None:
    login(http)
    http.add(responses.POST, URL, status=503)
    with pytest.raises(ErpUnavailable):
        rpc.read("model.x.search", context=CONTEXT)
    assert len(http.calls) == 1 + 3


@pytest.mark.parametrize("call", ["read", "write"])
def test_an_ended_session_is_opened_again(rpc: JsonRpc, http: responses.RequestsMock, call: str) -> None:
    login(http)
    http.add(responses.POST, URL, status=401)
    login(http)
    http.add(responses.POST, URL, json={"id": 4, "result": "done"})
    assert getattr(rpc, call)("model.x.y", context=CONTEXT) == "done"
    methods = [json.loads(c.request.body or "")["method"] for c in http.calls]
    assert methods == ["common.db.login", "model.x.y", "common.db.login", "model.x.y"]


def test_with_wrong_credentials_nothing_is_tried_twice(rpc: JsonRpc, http: responses.RequestsMock) -> None:
    http.add(responses.POST, URL, status=401)
    with pytest.raises(ErpUnavailable, match="check login and password"):
        rpc.login()
    assert len(http.calls) == 1


def test_a_database_that_is_not_served_is_unavailable(rpc: JsonRpc, http: responses.RequestsMock) -> None:
    http.add(responses.POST, URL, json={"id": 1, "error": ["'res.user'", ""]})
    with pytest.raises(ErpUnavailable, match="serves the database 'erp'"):
        rpc.login()


def test_no_error_shows_a_password_or_a_session(rpc: JsonRpc, http: responses.RequestsMock) -> None:
    login(http)
    http.add(responses.POST, URL, json={"id": 2, "error": ["UserError", ["password: hunter2secret is weak", "", None]]})
    with pytest.raises(RpcError) as caught:
        rpc.write("model.x.y", context=CONTEXT)
    assert "hunter2secret" not in str(caught.value)
    assert "hunter2secret" not in repr(rpc.connection)


@pytest.mark.parametrize("call", ["read", "write"])
def test_of_a_failure_inside_the_erp_only_the_first_line_is_kept(
    rpc: JsonRpc, http: responses.RequestsMock, call: str
) -> None:
    login(http)
    error = ["\nserver closed the connection, password: hunter2secret\nDETAIL: row (1, 2)", "Traceback: secret rows"]
    http.add(responses.POST, URL, json={"id": 2, "error": error})
    with pytest.raises((ErpUnavailable, UnknownOutcome)) as caught:
        getattr(rpc, call)("model.x.y", context=CONTEXT)
    assert "server closed the connection" in str(caught.value)
    for hidden in ("hunter2secret", "DETAIL", "Traceback"):
        assert hidden not in str(caught.value)


def test_a_read_the_erp_cannot_carry_out_is_unavailable_after_the_allowed_tries(
    rpc: JsonRpc, http: responses.RequestsMock
) -> None:
    login(http)
    http.add(responses.POST, URL, json={"id": 2, "error": ["'foo'", ""]})
    with pytest.raises(ErpUnavailable, match="'foo'"):
        rpc.read("model.x.search_read", context=CONTEXT)
    assert len(http.calls) == 1 + 3


def test_a_read_that_is_refused_is_not_tried_again(rpc: JsonRpc, http: responses.RequestsMock) -> None:
    login(http)
    http.add(responses.POST, URL, json={"id": 2, "error": ["UserError", ["not allowed", "", None]]})
    with pytest.raises(RpcError, match="not allowed"):
        rpc.read("model.x.search_read", context=CONTEXT)
    assert len(http.calls) == 1 + 1
