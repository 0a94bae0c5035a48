"""The sandbox's cache: one maker at a time, and no growth without end."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tieout_sandbox.cache import cache_dir, keep_newest, locked


def test_only_the_entries_used_last_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIEOUT_SANDBOX_CACHE", str(tmp_path / "cache"))
    for age in range(5):
        with locked(f"erp/ledger-{age}.dump") as path:
            path.touch()
            os.utime(path, (1000 - age, 1000 - age))
    with locked("erp/modules-1.dump") as other:
        other.touch()
    keep_newest("erp/ledger-*.dump", 2)
    kept = sorted(p.name for p in (cache_dir() / "erp").glob("*.dump"))
    assert kept == ["ledger-0.dump", "ledger-1.dump", "modules-1.dump"]


def test_the_cache_is_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIEOUT_SANDBOX_CACHE", str(tmp_path / "cache"))
    assert cache_dir().stat().st_mode & 0o077 == 0
