"""One loopback process that answers as Stripe, Salesforce and Zendesk, with a clock and a fault dial to turn."""

from __future__ import annotations

import asyncio
import hmac
import json
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route

from tieout_sandbox.simulators import salesforce, stripe, zendesk
from tieout_sandbox.simulators.clock import Clock
from tieout_sandbox.simulators.documents import DocumentStore
from tieout_sandbox.simulators.faults import BAD_ROWS, RECORD_KINDS, TRANSPORT_KINDS, Dial
from tieout_sandbox.simulators.line import CuttableHttp, Receive, Scope, Send, disturbed
from tieout_sandbox.simulators.wire import World

VENDORS = {"stripe": stripe, "salesforce": salesforce, "zendesk": zendesk}


class Simulators:
    """The ASGI application: transport faults and the `Date` header around the vendors' own applications."""

    def __init__(self, world: World) -> None:
        self.world = world
        mounts = [Mount(f"/{name}", routes=vendor.routes(world)) for name, vendor in VENDORS.items()]
        self.inner = Starlette(routes=[*_control_routes(world), *mounts])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.inner(scope, receive, send)
            return
        send = self._dated(scope, send)
        vendor = scope["path"].split("/")[1] if scope["path"].count("/") else ""
        if vendor not in VENDORS:
            await self.inner(scope, receive, send)
            return
        await disturbed(self.inner, self.world.dial, VENDORS[vendor], scope, receive, send)

    def _dated(self, scope: Scope, send: Send) -> Send:
        async def dated(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"date", self.world.clock.http_date.encode())]
                self.world.count(scope["method"], scope["path"], message["status"])
            await send(message)

        return dated


def _control_routes(world: World) -> list[Route]:
    """Clock, dial and counters, each behind the control token."""

    def guarded(handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        async def check(request: Request) -> Response:
            token = request.headers.get("authorization", "").removeprefix("Bearer ")
            if not hmac.compare_digest(token.encode(), world.credentials["control_token"].encode()):
                return JSONResponse({"error": "the control token is missing or wrong"}, 401)
            try:
                return await handler(request)
            except (ValueError, TypeError) as error:
                return JSONResponse({"error": str(error)}, 422)

        return check

    async def clock(request: Request) -> Response:
        if request.method == "POST":
            world.clock.set(json.loads(await request.body())["now"])
            world.store.set_meta("now", world.clock.now)
        return JSONResponse({"now": world.clock.iso})

    async def faults(request: Request) -> Response:
        fault_id = request.path_params.get("fault_id")
        if request.method == "POST":
            setting = json.loads(await request.body())
            made = [world.dial.set(s) for s in (setting if isinstance(setting, list) else [setting])]
            return JSONResponse({"ids": [f.id for f in made]}, 201)
        if request.method == "DELETE":
            world.dial.clear(fault_id)
        return JSONResponse(
            {
                "faults": world.dial.listing(),
                "kinds": [*TRANSPORT_KINDS, *RECORD_KINDS],
                "bad_rows": list(BAD_ROWS),
            }
        )

    async def requests(request: Request) -> Response:
        if request.method == "DELETE":
            world.requests.clear()
        return JSONResponse({"total": world.requests.total(), "by_path": dict(sorted(world.requests.items()))})

    async def limits(request: Request) -> Response:
        if request.method == "POST":
            world.limits.update({str(k): int(v) for k, v in json.loads(await request.body()).items()})
        return JSONResponse(world.limits)

    async def contents(_: Request) -> Response:
        return JSONResponse([list(row) for row in world.store.objects()])

    async def ready(_: Request) -> Response:
        return PlainTextResponse("ready\n")

    return [
        Route("/_control/ready", ready),
        Route("/_control/clock", guarded(clock), methods=["GET", "POST"]),
        Route("/_control/faults", guarded(faults), methods=["GET", "POST", "DELETE"]),
        Route("/_control/faults/{fault_id}", guarded(faults), methods=["DELETE"]),
        Route("/_control/requests", guarded(requests), methods=["GET", "DELETE"]),
        Route("/_control/limits", guarded(limits), methods=["GET", "POST"]),
        Route("/_control/contents", guarded(contents)),
    ]


def serve(
    db: Path, credentials: dict[str, Any], *, port: int, now: int | None, announce: Callable[[int], None]
) -> None:
    """Answer on loopback until the process is told to end. `announce` gets the port once it answers."""
    store = DocumentStore.open(db)
    instant = now if now is not None else store.meta("now")
    world = World(store, Clock(instant), Dial(), credentials)
    # The protocol is named because asyncio sends small answers at once only on sockets that say they are TCP.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    config = uvicorn.Config(
        Simulators(world),
        http=CuttableHttp,
        ws="none",
        lifespan="off",
        date_header=False,
        server_header=False,
        proxy_headers=False,
        access_log=False,
        log_level="critical",
        timeout_keep_alive=75,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)

    async def run() -> None:
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started and not serving.done():
            await asyncio.sleep(0.01)
        announce(listener.getsockname()[1])
        await serving

    asyncio.run(run())
    store.close()
