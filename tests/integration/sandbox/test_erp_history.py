"""A ledger filled in bulk behaves as if the ERP had written every move itself."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from tieout import ids
from tieout.erp import ErpJournal, ErpLine
from tieout_sandbox.company.model import ErpMove, MoveLine
from tieout_sandbox.processes import SandboxError
from tieout_sandbox.testing import Erp
from tieout_sandbox.tryton import chart, history
from tieout_sandbox.tryton.accountant import post_manual_moves

pytestmark = pytest.mark.server

DAYS = 120


def move(number: int) -> ErpMove:
    """The n-th invoice posted by the former integration, alternating between the entities."""
    entity = chart.COMPANIES[number % 3]["id"]
    amount = Decimal(number + 1) if entity == "JP" else Decimal(number + 1) / 100
    on = date(2025, 10, 1) + timedelta(days=number % DAYS)
    lines = (MoveLine("11000", amount, Decimal(0), "net"), MoveLine("40100", Decimal(0), amount))
    at = datetime(on.year, on.month, on.day, 12, tzinfo=UTC)
    return ErpMove(f"m{number:05d}", entity, on, f"BillingSync {entity}-2026-{number:06d}", lines, at)


MOVES = [move(number) for number in range(3000)]


@pytest.fixture(scope="module")
def loaded(erp: Erp) -> Erp:
    with erp.pg.connect(erp.database) as connection:
        for spoilt, fault in (
            (replace(MOVES[0], lines=MOVES[0].lines[:1]), "do not balance"),
            (replace(MOVES[0], lines=()), "without lines"),
        ):
            with pytest.raises(SandboxError, match=fault):
                history.load(connection, [*MOVES[1:], spoilt])
        assert history.load(connection, MOVES) == len(MOVES)
        with pytest.raises(SandboxError, match="empty ledger"):
            history.load(connection, MOVES)
    return erp


@pytest.mark.parametrize("entity", ["US", "DE", "JP"])
def test_the_trial_balance_is_what_was_loaded(loaded: Erp, entity: str) -> None:
    theirs = [line for one in MOVES if one.legal_entity_id == entity for line in one.lines]
    debits = sum(line.debit for line in theirs)
    balances = {b.account: b.closing for b in loaded.ledger().trial_balance(entity, date(2026, 3, 28))}
    assert balances == {"11000": debits, "40100": -debits}


def test_entries_read_back_as_they_were_loaded_on_both_sides_of_the_year(loaded: Erp) -> None:
    pages = loaded.ledger().gl_entries("JP", date(2025, 12, 31), date(2026, 1, 1))
    entries = {(e.date, e.narrative, e.account, e.debit, e.credit) for page in pages for e in page}
    assert entries == {
        (one.date, one.description, line.account, line.debit, line.credit)
        for one in MOVES
        if one.legal_entity_id == "JP" and one.date in (date(2025, 12, 31), date(2026, 1, 1))
        for line in one.lines
    }


def test_the_next_number_follows_the_last_one_loaded(loaded: Erp) -> None:
    on = date(2026, 3, 29)
    in_year = sum(1 for one in MOVES if one.legal_entity_id == "US" and one.date.year == 2026)
    key = ids.run_key(ids.Slot("US", "main", "2026-03", "billing", on), 1)
    lines = (ErpLine("11000", Decimal(1), Decimal(0)), ErpLine("40100", Decimal(0), Decimal(1)))
    ref = loaded.ledger().post(ErpJournal("US", key, ids.short_key(key), on, "USD", "", lines))
    assert ref.number == f"US-2026-{in_year + 1:06d}"


def test_manual_moves_are_posted_once_however_often_they_are_due(loaded: Erp) -> None:
    lines = (MoveLine("61000", Decimal(5), Decimal(0)), MoveLine("11000", Decimal(0), Decimal(5)))
    at = datetime(2026, 3, 30, tzinfo=UTC)
    moves = [ErpMove(f"x{e}", e, date(2026, 3, 30), f"MANUAL {e}", lines, at) for e in ("US", "DE", "JP")]
    connection = loaded.connection(chart.ACCOUNTANT)
    assert post_manual_moves(connection, moves[:2]) == 2
    assert post_manual_moves(connection, moves) == 1
    assert post_manual_moves(connection, moves) == 0
    for entity in ("US", "DE", "JP"):
        pages = loaded.ledger().gl_entries(entity, date(2026, 3, 30), date(2026, 3, 30))
        assert [(e.account, e.run_key) for page in pages for e in page] == [("61000", None), ("11000", None)]
