"""One real demo for all end-to-end tests: three nights, the month end, all nights again; it takes minutes."""

import json
import subprocess
import sys
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


@pytest.fixture(scope="session")
def demo(tmp_path_factory) -> Demo:
    base = tmp_path_factory.mktemp("demo")
    run, data = base / "run", base / "var"
    command = [sys.executable, "-m", "tieout_sandbox.demo", "--run", str(run), "--data", str(data)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1500, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-6000:]
    path = Path(done.stdout.strip().splitlines()[-1])
    assert path == data / demo_module.SUMMARY
    return Demo(run, data, json.loads(path.read_text()), done.stdout)
