"""Start and stop the ERP server on databases that are ready."""

from __future__ import annotations

import json
import os
import secrets
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import requests

from tieout_sandbox import postgres, processes
from tieout_sandbox.processes import ProcessId
from tieout_sandbox.tryton import chart, environment

LOGINS = (chart.POSTER, chart.ACCOUNTANT, "admin")


@dataclass(frozen=True, slots=True)
class ErpServer:
    """A running Tryton: where it listens, and passwords by login (the same in each of its databases)."""

    url: str
    databases: tuple[str, ...]
    process: ProcessId
    passwords: dict[str, str] = field(repr=False)


def write_config(folder: Path, server: postgres.Server, port: int) -> Path:
    """Write `trytond.conf` (it holds the database password: readable by its owner alone)."""
    path = folder / "trytond.conf"
    lines = (
        "[database]",
        f"uri = postgresql://{server.role}:{server.password}@{server.host}:{server.port}/",
        "[web]",
        f"listen = 127.0.0.1:{port}",
        "[session]",
        "timeout = 3600",
        "[email]",
        "uri = smtp://127.0.0.1:9",  # nowhere: the sandbox never mails
    )
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w") as out:
        out.write("\n".join(lines) + "\n")
    return path


def new_passwords(server: postgres.Server, databases: Sequence[str]) -> dict[str, str]:
    """Give every login a random password in each database, and end the sessions of old ones."""
    passwords = {login: secrets.token_urlsafe(18) for login in LOGINS}
    hashes = json.loads(environment.run("python", environment.HERE / "hash_passwords.py", stdin=json.dumps(passwords)))
    for database in databases:
        with server.connect(database) as connection:
            for login, digest in hashes.items():
                connection.execute("UPDATE res_user SET password_hash = %s WHERE login = %s", (digest, login))
            connection.execute("DELETE FROM ir_session")
    return passwords


def start(folder: Path, server: postgres.Server, databases: Sequence[str]) -> ErpServer:
    """Start Tryton on loopback for `databases`; it answers when this returns."""
    passwords = new_passwords(server, databases)
    port = processes.free_port()
    write_config(folder, server, port)
    url = f"http://127.0.0.1:{port}"
    return ErpServer(url, tuple(databases), start_again(folder, url, databases), passwords)


def start_again(folder: Path, url: str, databases: Sequence[str]) -> ProcessId:
    """Start Tryton as it was before it was stopped: the same port, the same passwords. It answers when this returns."""
    log = folder / "trytond.log"
    process = processes.start(
        # databases that are not named here would answer every login with an error
        [environment.environment() / "trytond", "-c", folder / "trytond.conf", "-d", *databases],
        log=log,
        cwd=folder,
        env=environment.clean_environment(),
    )
    processes.wait_until(lambda: _answers(url, databases[0]), what="Tryton", process=process, log=log)
    return process


def _answers(url: str, database: str) -> bool:
    """Whether the server has loaded the database: a login without a password is refused, not unknown."""
    body = {"id": 1, "method": "common.db.login", "params": ["nobody", {}, "en"]}
    with suppress(requests.RequestException):
        return requests.post(f"{url}/{database}/rpc/", json=body, timeout=10).status_code in (200, 401)
    return False


def stop(process: ProcessId) -> None:
    """Stop Tryton."""
    processes.stop(process)


def kill(process: ProcessId) -> None:
    """End Tryton as a crash would."""
    processes.stop(process, quick_signal=signal.SIGKILL)
