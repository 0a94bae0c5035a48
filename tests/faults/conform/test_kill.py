"""`kill -9` of a process that conforms, at any moment, then a re-run: the same tables as without it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tieout.lake.hashing import result_hash
from tieout.lake.landing import Landing
from tieout.lake.tables import Lake
from tieout.store import Store

pytestmark = pytest.mark.fault
ENTITIES = """
entities:
  - {id: US, name: US, functional_currency: USD, zone: America/Los_Angeles, country: US, go_live: 2026-03-29}
"""
CONFORM = """
import sys
from pathlib import Path
from types import SimpleNamespace
from tieout.conform.steps import conform
from tieout.lake.landing import Landing
from tieout.lake.tables import Lake
from tieout.settings import Settings
from tieout.store import Store
root = Path(sys.argv[1])
settings = Settings(root, root, str(root / "lake"), f"sqlite:///{root / 's.sqlite'}")
source = SimpleNamespace(name="stripe_us", kind="stripe", legal_entity="US")
print("ready", flush=True)
conform(source, landing=Landing(root / "raw"), lake=Lake(settings.lake), store=Store(settings.store), config=settings,
        run_id="run")
"""
KEYS = {
    "refund": ["source", "source_id"],
    "quarantine": ["source", "object", "record_digest"],
    "conformed_extracts": ["source", "object", "extract_id"],
}


def prepared(root: Path) -> Store:
    """A store, and two extracts of refunds, some of which cannot be read."""
    root.mkdir()
    (root / "entities.yaml").write_text(ENTITIES)
    store = Store(f"sqlite:///{root / 's.sqlite'}")
    store.upgrade()
    for number in (1, 2):
        writer = Landing(root / "raw").open(
            "stripe_us", "refunds", window_lo=None, window_hi=None, extract_id=f"{number:08}-x"
        )
        records = [
            json.dumps({"id": f"re_{n}", "amount": "?" if n % 50 == 0 else n * number, "currency": "usd",
                        "created": 1774800000, "charge": "ch_1", "status": "succeeded"})
            for n in range(2000)
        ]  # fmt: skip
        writer.page(records, request_id=None, http_status=200, fetched_at=datetime(2026, 3, 29 + number, tzinfo=UTC))
        writer.commit()
    return store


def run(root: Path, kill_after: float | None = None) -> tuple[int, float]:
    """Conform in a process of its own, killed after some seconds if asked; its exit code and how long it took."""
    with subprocess.Popen([sys.executable, "-c", CONFORM, str(root)], stdout=subprocess.PIPE, text=True) as process:
        process.stdout.readline()  # type: ignore[union-attr]
        begun = time.monotonic()
        if kill_after is not None:
            time.sleep(kill_after)
            process.send_signal(signal.SIGKILL)
        return process.wait(300), time.monotonic() - begun


def hashes(root: Path, store: Store) -> dict[str, str]:
    published = store.published()
    return {name: result_hash(Lake(root / "lake").read(name, published[name]), key) for name, key in KEYS.items()}


def test_a_process_killed_at_any_moment_leaves_nothing_a_rerun_does_not_put_right(tmp_path: Path) -> None:
    calm = tmp_path / "calm"
    untouched = prepared(calm)
    code, span = run(calm)
    assert code == 0

    stormy = tmp_path / "stormy"
    store = prepared(stormy)
    codes = [run(stormy, kill_after=span * share)[0] for share in (0.2, 0.5, 0.7, 0.85, 0.95)]
    assert -signal.SIGKILL in codes
    assert run(stormy)[0] == 0
    assert hashes(stormy, store) == hashes(calm, untouched)
    assert len(store.quarantined()) == len(untouched.quarantined()) == 40
