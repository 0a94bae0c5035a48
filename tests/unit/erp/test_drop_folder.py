"""A manifest that cannot be read: left alone while it may still be written, then set aside with its reason."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from tieout.erp.drop_folder import STILL_WRITTEN, DropFolder


@pytest.mark.parametrize(
    ("text", "old", "why"),
    [
        ('{"bytes": 3, "sha', False, None),
        ('{"bytes": 3, "sha', True, "the manifest is no JSON: "),
        ("[1, 2]", False, "the manifest is no JSON object"),
    ],
    ids=["half written", "half for too long", "another thing"],
)
def test_an_unreadable_manifest(tmp_path: Path, text: str, old: bool, why: str | None) -> None:
    folder = DropFolder(f"file://{tmp_path}")
    folder.deliver("in/good.csv", b"a\n1\n")
    marker = tmp_path / "in" / "bad.csv.ok"
    marker.write_text(text)
    if old:
        then = time.time() - STILL_WRITTEN.total_seconds() - 1
        os.utime(marker, (then, then))
    for _ in range(2):
        assert [manifest.path for manifest in folder.delivered("in")] == ["in/good.csv"]
    refused = marker.with_name("bad.csv.ok.refused")
    assert refused.exists() is (why is not None)
    if why:
        assert json.loads(refused.read_text())["reason"].startswith(why)
    marker.write_text('{"bytes": 4}')  # delivered anew
    assert [manifest.path for manifest in folder.delivered("in")] == ["in/bad.csv", "in/good.csv"]
