"""HTTP as vendors and ERPs are both reached by: where credentials may go, and how much an answer may hold."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

import requests

from tieout.errors import ConfigError

LARGEST_ANSWER = 128 << 20  # bytes once unpacked; ten thousand records of a page have 13 kB each
_PIECE = 1 << 16


class TooLarge(Exception):
    """An answer holds more than LARGEST_ANSWER; the rest of it was not read."""


def checked_address(url: str, record: str) -> str:
    """A connection's base URL without trailing slash, if credentials may be sent there: https, or this machine.

    Raises ConfigError for plain http to another machine, for credentials inside the address, and for no address.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError("connection needs a base URL", record=record, got=url, remedy="give the host as https://…")
    if "@" in parts.netloc:
        raise ConfigError(
            "the connection's address holds credentials", record=record, remedy="put them into login and password"
        )
    if parts.scheme == "http" and not _is_this_machine(parts.hostname):
        raise ConfigError(
            "credentials are not sent over plain http to another machine",
            record=record,
            got=url,
            remedy="give the host as https://…; only a loopback address may be http",
        )
    return url.rstrip("/")


def same_origin(one: str, other: str) -> bool:
    """Whether two addresses are one server: scheme, host and port."""
    return _origin(one) == _origin(other)


def new_session(address: str) -> requests.Session:
    """A session whose certificates are always verified; plain http, which never leaves the machine, uses no proxy."""
    session = requests.Session()
    session.trust_env = urlsplit(address).scheme == "https"
    return session


def read_body(answer: requests.Response) -> bytes:
    """The body of an answer asked for with `stream=True`. Raises TooLarge, and what requests raises for a cut one."""
    body = bytearray()
    with answer:
        for piece in answer.iter_content(_PIECE):
            body += piece
            if len(body) > LARGEST_ANSWER:
                raise TooLarge(f"the answer holds more than {LARGEST_ANSWER >> 20} MiB")
    return bytes(body)


def _is_this_machine(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)
