"""Posting into a real Tryton beside the ERP's own time: the calls that create and post the same journals, and no more.

The floor makes, one journal after the other, the two calls without which a journal is not in the ledger. Tieout's time
is the whole protocol: look-up, write-ahead, both calls, audit, and every line read back. Both take turns over the same
server, so that what disturbs one disturbs the other.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from tieout.erp.port import ErpJournal, ErpLine, unfenced
from tieout.ids import Slot, run_key, short_key
from tieout.ledger import post_batch
from tieout.observe import peak_memory_mb
from tieout.store import Store, batches
from tieout_sandbox import postgres
from tieout_sandbox.bench import report
from tieout_sandbox.testing import ErpTemplate, fresh_store
from tieout_sandbox.tryton import template

NAME = "posting_tryton"
LINES = 50
"""Lines of each journal, half of them with a dimension."""
_ROUNDS = 5
_DAY = date(2026, 3, 29)
_FLOOR = "model.account.move.create and model.account.move.post, one call each per journal"


def measure(journals: int) -> dict[str, Any]:
    """The figures of posting so many journals; `rows` are their lines."""
    each = max(1, journals // _ROUNDS)
    floor = wall = cpu = floor_cpu = 0.0
    with tempfile.TemporaryDirectory(prefix="tieout-bench-") as temporary:
        folder = Path(temporary)
        store = fresh_store(folder / "store.sqlite")
        with postgres.temporary(folder / "postgres") as pg:
            template.companies(pg, "erp_template")
            with ErpTemplate(pg, folder, "erp_template").copy() as erp:
                ledger = erp.ledger(max_lines=LINES)
                ledger.post(journal("floor", 10_000, 1, 1))  # what is read once is read
                for number in range(_ROUNDS):
                    meant = [journal("floor", number, n, each) for n in range(1, each + 1)]
                    start, used = time.monotonic(), time.process_time()
                    for one in meant:
                        ledger.post_draft(ledger.create_draft(one, unfenced), one, unfenced)  # type: ignore[attr-defined]
                    floor, floor_cpu = floor + time.monotonic() - start, floor_cpu + time.process_time() - used
                    batch_id = plan(store, number, each)
                    start, used = time.monotonic(), time.process_time()
                    state = post_batch(batch_id, ledger, store)
                    wall, cpu = wall + time.monotonic() - start, cpu + time.process_time() - used
                    if state != "posted":
                        raise RuntimeError(f"{batch_id} is {state}")
    return {
        "name": NAME,
        "rows": each * _ROUNDS * LINES,
        "wall_s": round(wall, 3),
        "floor_s": round(floor, 3),
        "ratio_to_floor": round(wall / floor, 2),
        "peak_mb": peak_memory_mb(),
        "peers": {},
        "cpu_s": round(cpu, 3),
        "floor_cpu_s": round(floor_cpu, 3),
        "floor_query": _FLOOR,
        **report.made(),
    }


def journal(stream: str, number: int, chunk: int, of: int) -> ErpJournal:
    """A balanced journal of `LINES` lines."""
    slot = Slot("US", "main", "2026-03", stream, _DAY - timedelta(days=number % 20))
    key = run_key(slot, number + 1, (chunk, of))
    amount = Decimal(100 + chunk) / 100
    debit = ErpLine("11000", amount, Decimal(0), "Invoices")
    credit = ErpLine("40100", Decimal(0), amount, "Seats", {"product_family": "seats"})
    return ErpJournal("US", key, short_key(key), slot.business_date, "USD", "Invoices", (debit, credit) * (LINES // 2))


def plan(store: Store, number: int, journals: int) -> str:
    """A validated batch of so many journals; gives its id."""
    planned, slot = [], Slot("US", "main", "2026-03", "billing", _DAY - timedelta(days=number))
    for chunk in range(1, journals + 1):
        one = journal("billing", number, chunk, journals)
        key = run_key(slot, 1, (chunk, journals))
        one = replace(one, run_key=key, short_key=short_key(key), date=slot.business_date)
        lines = [
            {
                "account": line.account,
                "side": "debit" if line.debit else "credit",
                "amount": str(line.debit or line.credit),
                "description": line.description,
                "dimensions": dict(line.dimensions),
            }
            for line in one.lines
        ]
        content = {"entity": "US", "date": one.date, "currency": "USD", "narrative": one.narrative, "lines": lines}
        planned.append(batches.PlannedJournal(key, one.short_key, "USD", one.date, one.debit, LINES, content))
    with store.transaction() as session:
        batch = batches.plan(
            session, slot, 1, planned, digest=f"{number:064}", accounting_date=slot.business_date, kind="original",
            origin=None, needs_approval=False, run_id="bench", actor="bench", now=store.now(),
        )  # fmt: skip
        batches.transition(session, batch.batch_id, "validated", actor="bench", now=store.now())
    return batch.batch_id
