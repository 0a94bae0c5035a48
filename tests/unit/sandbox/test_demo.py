"""The demo empties only what a demo made, and says why it does not start."""

import pytest

from tieout_sandbox import demo
from tieout_sandbox.processes import SandboxError


def test_a_data_root_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "ledger.xlsx").touch()
    with pytest.raises(SandboxError, match="set TIEOUT_HOME to another folder"):
        demo._empty_data_root(tmp_path)
    assert (tmp_path / "ledger.xlsx").exists()


def test_a_data_root_an_earlier_demo_made_is_emptied(tmp_path):
    data = tmp_path / "var"
    demo._empty_data_root(data)
    (data / "store.sqlite").touch()
    demo._empty_data_root(data)
    assert [path.name for path in data.iterdir()] == [demo.OWNED]
    assert data.stat().st_mode & 0o777 == 0o700


def test_a_failed_start_prints_why_and_exits_with_1(tmp_path, monkeypatch, capsys):
    def refuse(*_, **__):
        raise SandboxError("PostgreSQL ended at once", got="no space left on device")

    monkeypatch.setattr(demo.control, "up", refuse)
    assert demo.main(["--run", str(tmp_path / "run"), "--data", str(tmp_path / "var")]) == 1
    assert "no space left on device" in capsys.readouterr().err


def test_an_interrupt_stops_what_was_started(tmp_path, monkeypatch):
    stopped = []

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(demo.control, "up", interrupted)
    monkeypatch.setattr(demo.control, "down", stopped.append)
    assert demo.main(["--run", str(tmp_path / "run"), "--data", str(tmp_path / "var")]) == 130
    assert stopped[-1] == (tmp_path / "run" / "sandbox").resolve()


def test_a_night_starts_the_next_morning():
    assert str(demo.night_clock(demo.NIGHTS[0])) == "2026-03-30 09:00:00+00:00"
