"""One real demo for all end-to-end tests: three nights, the month end, all nights again; it takes minutes."""

import json
import re
import subprocess
import sys
import threading
from base64 import b64encode
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest
import requests
import yaml

from tieout_sandbox import demo as demo_module


@dataclass
class Outside:
    """Arguments of processes, addresses its servers listened on, and Airflow's answers to nobody in particular."""

    arguments: set[str] = field(default_factory=set)
    addresses: set[str] = field(default_factory=set)
    answers: dict[str, int] = field(default_factory=dict)

    def look(self, run: Path) -> None:
        """Take down what can be seen now."""
        for process in psutil.process_iter(["cmdline"]):
            self.arguments.add(" ".join(process.info["cmdline"] or ()))
        for process in _servers(run):
            with suppress(psutil.Error):
                sockets = process.net_connections("tcp")
                self.addresses |= {s.laddr.ip for s in sockets if s.status == psutil.CONN_LISTEN}

    def ask(self, run: Path) -> None:
        """Once Airflow has read every workflow: what it answers to whoever has not signed in."""
        if self.answers or not (run / "airflow.json").exists():
            return
        (server, *_) = (psutil.Process(p["pid"]) for p in json.loads((run / "airflow.json").read_text()))
        base = f"http://127.0.0.1:{server.environ()['AIRFLOW__API__PORT']}"
        paths = {path: methods for spec in SPECS for path, methods in yaml.safe_load(spec.read_text())["paths"].items()}
        readable = [path for path, methods in paths.items() if "get" in methods]
        answers = {}
        for path in (*readable, "/docs", "/redoc", "/openapi.json"):
            answer = requests.get(base + re.sub(r"{[^}]*}", "1", path), timeout=30, allow_redirects=False)
            answers[f"GET {path}"] = answer.status_code
        for path in ("/api/v2/dags/backfill/dagRuns", "/api/v2/connections", "/api/v2/variables"):
            answers[f"POST {path}"] = requests.post(base + path, json={}, timeout=30).status_code
        self.answers = answers


@dataclass(frozen=True)
class Demo:
    """A finished demo: where it worked, what it wrote, what it printed."""

    run: Path
    data: Path
    summary: dict
    output: str
    secrets: dict[str, str]
    """Every credential it used by the name of its place, read while it ran: they are deleted at its end."""
    outside: Outside
    """What anybody on the machine could see of it while it ran."""


SPECS = [
    Path(find_spec("airflow").origin).parent / "api_fastapi" / "core_api" / "openapi" / name
    for name in ("v2-rest-api-generated.yaml", "_private_ui.yaml")
]


def _servers(run: Path) -> list[psutil.Process]:
    """The processes that the demo's own records name, with all they have started."""
    pids = []
    with suppress(OSError, ValueError, LookupError):
        pids += [p["pid"] for p in json.loads((run / "airflow.json").read_text())]
    with suppress(OSError, ValueError, LookupError):
        pids += [p["pid"] for p in json.loads((run / "sandbox" / "state.json").read_text())["processes"].values()]
    found = []
    for pid in pids:
        with suppress(psutil.Error):
            process = psutil.Process(pid)
            found += [process, *process.children(recursive=True)]
    return found


@pytest.fixture(scope="session")
def demo(tmp_path_factory) -> Demo:
    base = tmp_path_factory.mktemp("demo")
    run, data = base / "run", base / "var"
    command = [sys.executable, "-m", "tieout_sandbox.demo", "--run", str(run), "--data", str(data)]
    seen: dict[str, dict[str, str]] = {}
    outside, ended = Outside(), threading.Event()
    watcher = threading.Thread(target=_watch, args=(run, seen, outside, ended))
    watcher.start()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=1500, check=False)
    finally:
        ended.set()
        watcher.join()
        demo_module.down(demo_module.Options(run, data))  # what a demo that was killed could not stop itself
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-6000:]
    path = Path(done.stdout.strip().splitlines()[-1])
    assert path == data / demo_module.SUMMARY
    return Demo(
        run,
        data,
        json.loads(path.read_text()),
        done.stdout,
        {k: v for found in seen.values() for k, v in found.items()},
        outside,
    )


def _watch(run: Path, seen: dict[str, dict[str, str]], outside: Outside, ended: threading.Event) -> None:
    """Read each place that holds credentials as soon as it is written; one half written is read again."""
    while not ended.wait(2):
        outside.look(run)
        for place, read in PLACES.items():
            if place not in seen:
                with suppress(OSError, ValueError, LookupError, psutil.Error):
                    seen[place] = read(run / place)
        with suppress(OSError, ValueError, LookupError, psutil.Error):
            outside.ask(run)


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
