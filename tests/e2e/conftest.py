"""One real demo for all end-to-end tests: three nights, the month end, all nights again; it takes minutes."""

import json
import re
import subprocess
import sys
import threading
from base64 import b64encode
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tieout_sandbox import demo as demo_module


@dataclass(frozen=True)
class Demo:
    """A finished demo: where it worked, what it wrote, what it printed."""

    run: Path
    data: Path
    summary: dict
    output: str
    secrets: dict[str, str]
    """Every credential it used by the name of its place, read while it ran: they are deleted at its end."""


@pytest.fixture(scope="session")
def demo(tmp_path_factory) -> Demo:
    base = tmp_path_factory.mktemp("demo")
    run, data = base / "run", base / "var"
    command = [sys.executable, "-m", "tieout_sandbox.demo", "--run", str(run), "--data", str(data)]
    seen: dict[str, dict[str, str]] = {}
    ended = threading.Event()
    watcher = threading.Thread(target=_watch, args=(run, seen, ended))
    watcher.start()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=1500, check=False)
    finally:
        ended.set()
        watcher.join()
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-6000:]
    path = Path(done.stdout.strip().splitlines()[-1])
    assert path == data / demo_module.SUMMARY
    return Demo(
        run,
        data,
        json.loads(path.read_text()),
        done.stdout,
        {k: v for found in seen.values() for k, v in found.items()},
    )


def _watch(run: Path, seen: dict[str, dict[str, str]], ended: threading.Event) -> None:
    """Read each place that holds credentials as soon as it is written; one half written is read again."""
    while len(seen) < len(PLACES) and not ended.wait(0.2):
        for place, read in PLACES.items():
            if place not in seen:
                with suppress(OSError, ValueError, LookupError, psutil.Error):
                    seen[place] = read(run / place)


def _connections(path: Path) -> dict[str, str]:
    found = {}
    for name, text in json.loads(path.read_text()).items():
        held = json.loads(text)
        if held.get("password"):
            found[name] = held["password"]
        if held.get("password") and held.get("login"):
            found[f"{name} as sent"] = b64encode(f"{held['login']}:{held['password']}".encode()).decode()
    return found


def _sandbox(path: Path) -> dict[str, str]:
    held = json.loads(path.read_text())
    return {"control token": held["control_token"]} | {f"ERP {login}": value for login, value in held["erp"].items()}


def _vendors(path: Path) -> dict[str, str]:
    held = json.loads(path.read_text())
    keys = {f"stripe {account} {kind}": key for account, pair in held["stripe"].items() for kind, key in pair.items()}
    return {**keys, "salesforce": held["salesforce"]["client_secret"], "zendesk": held["zendesk"]["token"]}


def _database(path: Path) -> dict[str, str]:
    return {"PostgreSQL": re.findall(r"://[^:/]+:([^@]+)@", path.read_text())[0]}


def _airflow(path: Path) -> dict[str, str]:
    environment = psutil.Process(json.loads(path.read_text())[0]["pid"]).environ()
    names = ("AIRFLOW__CORE__FERNET_KEY", "AIRFLOW__API__SECRET_KEY", "AIRFLOW__API_AUTH__JWT_SECRET")
    return {name: environment[name] for name in names}


def _passwords(path: Path) -> dict[str, str]:
    return {f"Airflow {user}": password for user, password in json.loads(path.read_text()).items()}


PLACES = {
    "sandbox/connections.json": _connections,
    "sandbox/secrets.json": _sandbox,
    "sandbox/vendors.secrets.json": _vendors,
    "sandbox/trytond.conf": _database,
    "airflow/passwords.json": _passwords,
    "airflow.json": _airflow,
}
