"""The simulated cloud ERPs, each with empty books of its own for every test, and journals to post into them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from tieout.erp import ErpJournal, ErpLine
from tieout.ids import short_key
from tieout_sandbox.simulators.ledger_server import LedgerServer, SimulatedErp, serve

ANCHOR = "audit 1234567:0123456789abcdef"
SLOT = "TIEOUT/US/main/2026-03/invoices/2026-03-29"


@pytest.fixture
def served() -> Iterator[Callable[[SimulatedErp], LedgerServer]]:
    """Serves a simulator until the test ends."""
    with ExitStack() as stack:
        yield lambda erp: stack.enter_context(serve(erp))


@pytest.fixture(scope="session")
def journal() -> Callable[..., ErpJournal]:
    """A balanced journal of two lines; `amounts` makes pairs of lines, keywords replace what it says."""

    def make(version: int = 1, *amounts: str, suffix: str = "", **changed: Any) -> ErpJournal:
        key = f"{SLOT}/v{version}{suffix}"
        lines = []
        for amount in map(Decimal, amounts or ("110.00",)):
            lines.append(ErpLine("11000", amount, Decimal(0), "Invoices of the day"))
            lines.append(ErpLine("40100", Decimal(0), amount, "Seats", {"product_family": "seats"}))
        content = {
            "date": date(2026, 3, 29),
            "currency": "USD",
            "narrative": "Invoices, 2026-03-29",
            "anchor": ANCHOR,
        } | changed
        content = {"entity": "US", "run_key": key, "short_key": short_key(key), "lines": tuple(lines)} | content
        return ErpJournal(**content)

    return make
