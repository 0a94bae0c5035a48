"""Two calls at once: one waits for the other, and nothing is read twice or lost."""

from __future__ import annotations

import threading
from typing import Any


def test_two_calls_at_once_do_the_work_of_one(world: Any, make: Any) -> None:
    world.land(world.BILLING, "invoices", [make.invoice(), make.invoice("in_2", number="US-2")])
    results: list[Any] = []
    calls = [threading.Thread(target=lambda n=n: results.append(world.conform(run_id=f"at-once-{n}"))) for n in (1, 2)]
    for call in calls:
        call.start()
    for call in calls:
        call.join(120)
    assert sorted(r.rows_in for r in results) == [0, 2]
    assert [r["source_id"] for r in world.rows("invoice")] == ["in_1", "in_2"]
