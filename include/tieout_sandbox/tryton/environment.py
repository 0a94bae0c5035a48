"""The ERP's own virtual environment, made once from its pinned requirements and kept in the cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tieout_sandbox.cache import locked
from tieout_sandbox.processes import SandboxError

HERE = Path(__file__).parent
REQUIREMENTS = HERE / "requirements.txt"


def requirements_hash() -> str:
    """SHA-256 of the pinned requirements: what a database made with them depends on."""
    return hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()


def environment() -> Path:
    """The `bin` folder of the environment. Raises SandboxError if it cannot be made."""
    python = f"py{sys.version_info.major}{sys.version_info.minor}"
    with locked(f"tryton-{python}-{requirements_hash()[:12]}") as folder:
        if not (folder / ".complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            _uv("venv", "-q", "-p", sys.executable, str(folder))
            _uv("pip", "install", "-q", "-p", str(folder), "-r", str(REQUIREMENTS))
            (folder / ".complete").touch()
    return folder / "bin"


def run(program: str, *arguments: str | Path, env: dict[str, str] | None = None, stdin: str | None = None) -> str:
    """Run a program of the environment to its end and return its output. Raises SandboxError with its errors."""
    done = subprocess.run(
        [str(environment() / program), *map(str, arguments)],
        env=clean_environment() | (env or {}),
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SandboxError(f"{program} failed", record=" ".join(map(str, arguments)), got=done.stderr[-2000:])
    return done.stdout


def clean_environment() -> dict[str, str]:
    """This process's environment without what would lead the ERP's Python or libpq astray."""
    leave_out = ("PYTHON", "VIRTUAL_ENV", "PG", "TRYTON", "TIEOUT_", "AIRFLOW_")
    return {k: v for k, v in os.environ.items() if not k.startswith(leave_out)}


def _uv(*arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", "uv", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SandboxError("cannot make the ERP's environment", record="uv " + " ".join(arguments), got=done.stderr)
