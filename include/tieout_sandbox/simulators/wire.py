"""What all three simulators share on the wire: the world they serve from, parsed requests, encoded answers."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote_plus

from starlette.requests import Request
from starlette.responses import Response

from tieout_sandbox.simulators.clock import Clock
from tieout_sandbox.simulators.documents import DocumentStore
from tieout_sandbox.simulators.faults import UNDECODABLE, Dial

_ID_SEGMENT = re.compile(r"^(?=.*\d)([A-Za-z]{2,}_\w+|\d+|\w{15,}(-\d+)?)$")


@dataclass(slots=True)
class World:
    """The company as documents, the clock, the dial, who may ask, and what was asked."""

    store: DocumentStore
    clock: Clock
    dial: Dial
    credentials: dict[str, Any]
    requests: Counter[str] = field(default_factory=Counter)
    limits: dict[str, int] = field(default_factory=dict)

    def count(self, method: str, path: str, status: int) -> None:
        """Remember one answered request under its path with ids left out."""
        plain = "/".join("{id}" if _ID_SEGMENT.match(part) else part for part in path.split("/"))
        self.requests[f"{method} {plain} {status}"] += 1


@dataclass(frozen=True, slots=True)
class Answer:
    """A JSON answer before it is encoded."""

    body: Any
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    media_type: str = "application/json"

    def response(self) -> Response:
        return Response(encode(self.body), self.status, self.headers, self.media_type)


def encode(body: Any) -> bytes:
    """JSON as UTF-8; bytes and text pass as they are. Undecodable bytes that the dial planted become real ones."""
    if isinstance(body, bytes):
        return body
    text = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return text.encode().replace(UNDECODABLE.encode(), b"\xff\xfe\xe9")


def query_text(request: Request) -> str:
    """The decoded query string, as fault patterns see it."""
    return unquote_plus(request.scope["query_string"].decode("latin-1"))


def spoil(world: World, system: str, object_name: str, request: Request, records: list[dict[str, Any]]) -> list[Any]:
    """The records of an answer as the dial leaves them."""
    if not world.dial.faults:
        return records
    return world.dial.spoil(system, object_name, request.method, request.url.path, query_text(request), records)


async def form(request: Request) -> list[tuple[str, str]]:
    """The pairs of a form-encoded body."""
    return parse_qsl((await request.body()).decode(), keep_blank_values=True)


def basic_credentials(request: Request) -> tuple[str, str] | None:
    """User and password of a Basic Authorization header, or None."""
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, _, password = base64.b64decode(value.strip(), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return user, password


def bearer_token(request: Request) -> str | None:
    """The token of a Bearer Authorization header, or None."""
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    return value.strip() if scheme.lower() == "bearer" else None
