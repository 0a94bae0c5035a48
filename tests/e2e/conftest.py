"""One real demo for all end-to-end tests: three nights, the month end, all nights again; it takes minutes."""

import json
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

from tieout_sandbox import demo as demo_module


@dataclass(frozen=True)
class Demo:
    """A finished demo: where it worked, what it wrote, what it printed."""

    run: Path
    data: Path
    summary: dict
    output: str
    connections: dict
    """The connections it used, read while it ran: they are deleted at its end."""


@pytest.fixture(scope="session")
def demo(tmp_path_factory) -> Demo:
    base = tmp_path_factory.mktemp("demo")
    run, data = base / "run", base / "var"
    command = [sys.executable, "-m", "tieout_sandbox.demo", "--run", str(run), "--data", str(data)]
    seen: dict = {}
    ended = threading.Event()
    watcher = threading.Thread(target=_watch, args=(run / "sandbox" / "connections.json", seen, ended))
    watcher.start()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=1500, check=False)
    finally:
        ended.set()
        watcher.join()
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-6000:]
    path = Path(done.stdout.strip().splitlines()[-1])
    assert path == data / demo_module.SUMMARY
    return Demo(run, data, json.loads(path.read_text()), done.stdout, seen)


def _watch(path: Path, seen: dict, ended: threading.Event) -> None:
    while not seen and not ended.wait(0.2):
        if path.exists():
            seen.update(json.loads(path.read_text()))
