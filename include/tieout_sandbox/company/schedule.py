"""Straight-line release of a line billed ahead: by service day, rounded cumulatively, the residue on the last day."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

from tieout_sandbox.company.catalogue import cents
from tieout_sandbox.company.model import InvoiceLine


def is_ahead(line: InvoiceLine, accounting_date: date) -> bool:
    """Whether service days were still to come when the line was billed (its end is exclusive)."""
    return line.period_end > accounting_date


def released(line: InvoiceLine, through: date, currency: str, stopped_on: date | None = None) -> Decimal:
    """Revenue of the service days up to and including `through`.

    `stopped_on` is the first day of service that was credited or voided: nothing is released from that day on.
    """
    days = (line.period_end - line.period_start).days
    passed = (through - line.period_start).days + 1
    if stopped_on is not None:
        passed = min(passed, (stopped_on - line.period_start).days)
    if passed <= 0:
        return Decimal(0)
    if passed >= days:
        return line.amount
    return cents(line.amount * passed / days, currency)
