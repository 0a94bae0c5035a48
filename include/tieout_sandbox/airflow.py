"""A real Airflow on loopback for demo and tests: own home and metadata, random passwords, stopped by pid."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from tieout_sandbox.processes import ProcessId, SandboxError, free_port, start, stop, wait_until

REPOSITORY = Path(__file__).resolve().parents[2]
USER = "admin"
ROLES = {USER: "admin", "controller": "user", "clerk": "user"}
"""Who may sign in, and as what; the controller approves what the clerk prepared."""
FINISHED = ("success", "failed")


@dataclass(frozen=True)
class Airflow:
    """A running Airflow: where it answers, what it runs on, who may enter."""

    home: Path
    port: int
    passwords: Mapping[str, str]
    env: Mapping[str, str]
    processes: tuple[ProcessId, ...]

    @property
    def url(self) -> str:
        """Its UI and API."""
        return f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        """End every process, the scheduler first so that no task is started any more."""
        for process in self.processes:
            stop(process)


def start_airflow(home: Path, *, connections: Mapping[str, str], env: Mapping[str, str], slots: int = 3) -> Airflow:
    """Start API server, scheduler and DAG processor on an empty metadata database and wait for every workflow.

    `connections` are `AIRFLOW_CONN_…` variables, `env` is Tieout's own settings. Raises SandboxError with the end of
    the log of the part that did not start.
    """
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    home.chmod(0o700)
    port, passwords = free_port(), {user: secrets.token_urlsafe(18) for user in ROLES}
    environment = {**_inherited(), **_settings(home, port, slots), **connections, **env}
    kept = home / "passwords.json"
    kept.touch(mode=0o600)
    kept.write_text(json.dumps(passwords))
    _prepare(home, environment)
    processes: list[ProcessId] = []
    try:
        # the scheduler's log server would listen beyond loopback; the API server reads the same files
        for module, part, *options in (
            ("airflow", "api-server"),
            ("tieout.orchestration.preload", "scheduler", "--skip-serve-logs"),
            ("airflow", "dag-processor"),
        ):
            log = home / f"{part}.log"
            log.unlink(missing_ok=True)
            argv = [sys.executable, "-m", module, part, *options]
            processes.append(start(argv, log=log, cwd=home, env=environment))
        airflow = Airflow(home, port, passwords, environment, (processes[1], processes[2], processes[0]))
        health = f"{airflow.url}/api/v2/monitor/health"
        wait_until(
            lambda: _healthy(health), what="Airflow", process=processes[0], log=home / "api-server.log", timeout=180
        )
        client = Client(airflow)
        wait_until(
            client.ready,
            what="Airflow's DAG processor",
            process=processes[2],
            log=home / "dag-processor.log",
            timeout=120,
        )
    except BaseException:
        for process in processes:
            stop(process)
        raise
    return airflow


def _inherited() -> dict[str, str]:
    """This process's environment without anybody else's Airflow or Tieout settings."""
    ours = ("AIRFLOW", "TIEOUT_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


def _settings(home: Path, port: int, slots: int) -> dict[str, str]:
    base = f"http://127.0.0.1:{port}"
    settings = {
        "CORE__EXECUTOR": "LocalExecutor",
        "CORE__PARALLELISM": str(slots),
        "CORE__DAGS_FOLDER": str(REPOSITORY / "dags"),
        "CORE__PLUGINS_FOLDER": str(REPOSITORY / "plugins"),
        "CORE__LOAD_EXAMPLES": "False",
        "CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "CORE__EXECUTION_API_SERVER_URL": f"{base}/execution/",
        "CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{user}:{role}" for user, role in ROLES.items()),
        "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(home / "passwords.json"),
        "CORE__FERNET_KEY": _fernet_key(),
        "DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'airflow.db'}",
        "API__HOST": "127.0.0.1",
        "API__PORT": str(port),
        "API__BASE_URL": base,
        "API__WORKERS": "1",
        "API__SECRET_KEY": secrets.token_urlsafe(32),
        "API__EXPOSE_CONFIG": "False",
        "API__ENABLE_SWAGGER_UI": "False",
        "API_AUTH__JWT_SECRET": secrets.token_urlsafe(48),
        "API_AUTH__JWT_ISSUER": "tieout",
        "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.5",
        "SCHEDULER__ENABLE_HEALTH_CHECK": "False",
        "DAG_PROCESSOR__PARSING_PROCESSES": "1",
        "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "3600",
        "DAG_PROCESSOR__REFRESH_INTERVAL": "3600",
        "LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
        "USAGE_DATA_COLLECTION__ENABLED": "False",
    }
    environment = {f"AIRFLOW__{name}": value for name, value in settings.items()}
    return {**environment, "AIRFLOW_HOME": str(home), "PYTHONUNBUFFERED": "1"}


def _fernet_key() -> str:
    import base64

    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()


def _prepare(home: Path, env: Mapping[str, str]) -> None:
    """Create the metadata database and the pools; one process for both, since each start of Airflow takes seconds."""
    script = (
        "import json; from airflow.utils import db; db.initdb(); "
        "from airflow.models.pool import Pool; from tieout.orchestration.pools import pools\n"
        "for name, pool in pools().items(): Pool.create_or_update_pool(name, slots=pool['slots'], "
        "description=pool['description'], include_deferred=False)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=dict(env),
        cwd=home,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    if done.returncode:
        raise SandboxError("Airflow's metadata database could not be created", got=(done.stderr or done.stdout)[-2000:])


def _healthy(url: str) -> bool:
    with suppress(requests.RequestException):
        return requests.get(url, timeout=2).ok
    return False


@dataclass(frozen=True)
class TaskState:
    """How one task of a run stands."""

    task_id: str
    map_index: int
    state: str | None
    seconds: float | None
    run_id: str
    tries: int
    pid: int | None
    """The process that runs the task's code, a child of the scheduler's."""

    @property
    def name(self) -> str:
        """The task, with its number where it is mapped."""
        return self.task_id if self.map_index < 0 else f"{self.task_id}[{self.map_index}]"


class Client:
    """Airflow's REST API as far as the demo needs it; signs in again when its token has expired."""

    def __init__(self, airflow: Airflow, user: str = USER) -> None:
        self.airflow, self.user, self.session = airflow, user, requests.Session()

    def ready(self) -> bool:
        """Whether every workflow has been parsed and can be started. Raises SandboxError on an import error."""
        try:
            errors = self._call("GET", "importErrors")
            found = {dag["dag_id"] for dag in self._call("GET", "dags")["dags"]}
        except (requests.RequestException, SandboxError):
            return False
        if errors["total_entries"]:
            raise SandboxError("a workflow cannot be loaded", got=errors["import_errors"][0]["stack_trace"])
        return found >= {path.stem for path in (REPOSITORY / "dags").glob("*.py")}

    def trigger(self, dag_id: str, run_id: str, params: Mapping[str, Any]) -> str:
        """Start a run and return its id."""
        body = {"dag_run_id": run_id, "logical_date": None, "conf": dict(params)}
        return str(self._call("POST", f"dags/{dag_id}/dagRuns", json=body)["dag_run_id"])

    def state(self, dag_id: str, run_id: str) -> str:
        """The run's state."""
        return str(self._call("GET", f"dags/{dag_id}/dagRuns/{run_id}")["state"])

    def tasks(self, dag_id: str, run_id: str) -> list[TaskState]:
        """The run's tasks in the order they ended; those of all runs for the run id `~`."""
        found = self._call("GET", f"dags/{dag_id}/dagRuns/{run_id}/taskInstances", params={"limit": 200})
        rows = sorted(found["task_instances"], key=lambda t: (t["end_date"] or "~", t["task_id"], t["map_index"]))
        return [
            TaskState(
                t["task_id"], t["map_index"], t["state"], t["duration"], t["dag_run_id"], t["try_number"], t["pid"]
            )
            for t in rows
        ]

    def get(self, path: str) -> Any:
        """What the API answers to a path below `/api/v2/`."""
        return self._call("GET", path)

    def mark_success(self, dag_id: str, run_id: str, task_id: str) -> None:
        """Mark a task successful without running it, as anybody may who may edit tasks."""
        path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}"
        self._call("PATCH", path, json={"new_state": "success"})

    def answer(self, dag_id: str, run_id: str, task_id: str, option: str, comment: str = "") -> int:
        """Answer a task that waits for a person, as the REST API has it; the HTTP status."""
        url = f"{self.airflow.url}/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/-1/hitlDetails"
        body = {"chosen_options": [option], "params_input": {"comment": comment}}
        self._call("GET", "dags")  # signs in
        return self.session.patch(url, json=body, timeout=30).status_code

    def clear(self, dag_id: str, run_id: str, task_id: str) -> None:
        """Let a task of an ended run, and everything after it, run again."""
        body = {
            "dag_run_id": run_id, "task_ids": [task_id], "include_downstream": True, "only_failed": False,
            "reset_dag_runs": True, "dry_run": False,
        }  # fmt: skip
        self._call("POST", f"dags/{dag_id}/clearTaskInstances", json=body)

    def log(self, dag_id: str, run_id: str, task: TaskState) -> str:
        """The end of a failed task's log, for the person at the terminal."""
        folder = self.airflow.home / "logs" / f"dag_id={dag_id}" / f"run_id={run_id}" / f"task_id={task.task_id}"
        files = sorted(folder.rglob("*.log"), key=lambda path: path.stat().st_mtime)
        return "\n".join(_errors(files[-1])) if files else ""

    def run(self, dag_id: str, run_id: str, params: Mapping[str, Any], report: Callable[[TaskState], None]) -> str:
        """Start a run, report each task as it ends, and return the run's final state."""
        self.trigger(dag_id, run_id, params)
        reported: set[str] = set()
        asked = 0.0
        while True:
            state = self.state(dag_id, run_id)
            # the list of tasks is dear to answer: asked for every second it was a third of the API server's work
            if state in FINISHED or time.monotonic() > asked + 3:
                asked = time.monotonic()
                for task in self.tasks(dag_id, run_id):
                    if task.name not in reported and task.state in ("success", "failed", "upstream_failed", "skipped"):
                        reported.add(task.name)
                        report(task)
            if state in FINISHED:
                return state
            time.sleep(1)

    def _call(self, method: str, path: str, **arguments: Any) -> Any:
        url = f"{self.airflow.url}/api/v2/{path}"
        answer = self.session.request(method, url, timeout=30, **arguments)
        if answer.status_code == 401:
            body = {"username": self.user, "password": self.airflow.passwords[self.user]}
            token = self.session.post(f"{self.airflow.url}/auth/token", json=body, timeout=30)
            token.raise_for_status()
            self.session.headers["Authorization"] = f"Bearer {token.json()['access_token']}"
            answer = self.session.request(method, url, timeout=30, **arguments)
        if not answer.ok:
            raise SandboxError(f"Airflow refused {method} {path}", got=f"{answer.status_code} {answer.text[:500]}")
        return answer.json()


def _errors(log: Path) -> Iterator[str]:
    """What went wrong, from a task's log in JSON lines: error events with the exception behind them."""
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        with suppress(json.JSONDecodeError):
            event = json.loads(line)
            if event.get("level") in ("error", "critical"):
                yield str(event.get("event"))
                for detail in event.get("error_detail") or []:
                    yield f"{detail.get('exc_type')}: {detail.get('exc_value')}"
