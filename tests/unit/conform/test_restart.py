"""A call that dies between any two of its writes leaves the published tables alone, and the next one ends the same."""

from __future__ import annotations

from typing import Any

import pytest

from tieout.lake.hashing import result_hash
from tieout.lake.tables import Lake
from tieout.store import Store


class Killed(BaseException):
    """Stands for the end of the process: nothing may catch it."""


def records(world: Any, make: Any) -> None:
    world.land(world.CRM, "Account", [make.account()])
    world.land(world.BILLING, "customers", [make.customer()])
    world.land(world.BILLING, "invoices", [make.invoice(), make.invoice("in_bad", customer=None)])


def hashes(world: Any) -> dict[str, str]:
    by_source = ["source", "source_id"]
    keys = {"invoice": by_source, "invoice_line": by_source, "customer": by_source}
    keys["quarantine"] = ["source", "object", "record_digest"]
    return {name: result_hash(world.table(name), key) for name, key in keys.items()}


def test_a_call_killed_at_any_write_changes_nothing_and_its_rerun_ends_the_same(
    world: Any, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.land(world.BILLING, "invoices", [make.invoice("in_0", number="US-0")])
    world.conform()
    before = world.store.published()
    records(world, make)
    writes = 0
    for fatal in range(1, 20):
        writes = 0

        def counted(original: Any, fatal: int = fatal) -> Any:
            def write(*args: Any, **kwargs: Any) -> Any:
                nonlocal writes
                writes += 1
                if writes == fatal:
                    raise Killed
                return original(*args, **kwargs)

            return write

        with monkeypatch.context() as patch:
            patch.setattr(Lake, "write", counted(Lake.write))
            patch.setattr(Store, "quarantine", counted(Store.quarantine))
            patch.setattr(Store, "publish", counted(Store.publish))
            try:
                world.conform()
            except Killed:
                assert world.store.published() == before
                continue
        break
    assert writes == fatal - 1 >= 7
    survived = hashes(world)
    assert len(world.store.quarantined()) == 1
    world.replay(world.BILLING, world.CRM)
    assert hashes(world) == survived
