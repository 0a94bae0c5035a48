"""The line to a simulator: HTTP/1.1 that a fault can cut, delay or answer in the vendor's stead."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol
from urllib.parse import unquote, unquote_plus

from starlette.responses import Response
from uvicorn.protocols.http.h11_impl import H11Protocol

from tieout_sandbox.simulators.faults import Dial, Fault

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


class Vendor(Protocol):
    """How a vendor words the two faults it owns up to."""

    def rate_limited(self, fault: Fault) -> Response: ...

    def server_error(self, fault: Fault) -> Response: ...


class CuttableHttp(H11Protocol):
    """HTTP/1.1 that lets the application drop its connection, as a failing network would."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        app = self.app

        async def with_transport(scope: Scope, receive: Receive, send: Send) -> None:
            scope["transport"] = transport
            await app(scope, receive, send)

        self.app = with_transport


async def disturbed(inner: Application, dial: Dial, vendor: Any, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request by `inner`, unless a fault of the dial fires on it."""
    query = unquote_plus(scope["query_string"].decode("latin-1"))
    fault = dial.transport(scope["method"], unquote(scope["path"]), query)
    if fault is None:
        await inner(scope, receive, send)
        return
    match fault.kind:
        case "slow":
            await asyncio.sleep(fault.seconds)
            await inner(scope, receive, send)
        case "timeout":
            if fault.after:
                await perform(inner, scope, receive)
            await asyncio.sleep(fault.seconds)
            scope["transport"].abort()
            await asyncio.sleep(0)
        case "cut":
            await _cut(inner, scope, receive, send)
        case "rate_limit":
            await vendor.rate_limited(fault)(scope, receive, send)
        case "server_error":
            if fault.after:
                await perform(inner, scope, receive)
            await vendor.server_error(fault)(scope, receive, send)


async def perform(inner: Application, scope: Scope, receive: Receive) -> list[Any]:
    """Let a request take effect and keep its answer."""
    messages: list[Any] = []

    async def collect(message: Any) -> None:
        messages.append(message)

    await inner(scope, receive, collect)
    return messages


async def _cut(inner: Application, scope: Scope, receive: Receive, send: Send) -> None:
    """The whole answer is promised, half of it is sent, then the connection closes."""
    start, *rest = await perform(inner, scope, receive)
    body = b"".join(m.get("body", b"") for m in rest)
    await send(start)
    await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
    scope["transport"].close()
    await asyncio.sleep(0)
