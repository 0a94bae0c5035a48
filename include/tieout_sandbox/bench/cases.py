"""What is measured: the data of each benchmark, its definition, and the query that nothing could be faster than."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tieout.lake.engine import Engine
from tieout_sandbox.bench import data, events, journals, nights, rating

PEERS = ("datacompy Polars", "datacompy pandas", "pandas merge", "Polars join", "reladiff")
USAGE_PEERS = ("pandas usage", "Polars usage")
_SIDE = {"currency": "currency", "amount": "amount"}
_COMPARE = [{"name": "amount", "kind": "amount", "left": "amount", "right": "amount"}]


@dataclass(frozen=True, slots=True)
class Case:
    """One benchmark. `share` is its rows for one row asked for."""

    name: str
    title: str
    share: float
    generate: Callable[[Engine, Path, int], tuple[list[Path], list[Path]]]
    definition: Mapping[str, Any]
    read: Sequence[str]
    """The texts and dates a row is compared by, besides its control totals."""
    day: str
    matches: Literal["all", "differing"] = "differing"
    peers: tuple[str, ...] = ()
    run: Callable[[Path, str], int] | None = None
    """What is measured in a folder under a memory limit where it is no plain reconciliation; gives what it found."""
    floor_query: Callable[[Path], str] | None = None

    def floor(self, folder: Path, files: Mapping[str, Sequence[Path]]) -> str:
        """One pass of the engine that reads every compared column of both sides and computes the control totals."""
        if self.floor_query is not None:
            return self.floor_query(folder)
        read = ", ".join(f"max({column})" for column in self.read)
        return "\nUNION ALL\n".join(
            f"SELECT '{side}', legal_entity_id, currency, date_trunc('month', {self.day}), count(*), sum(amount),\n"
            f"  {read}\n"
            f"FROM read_parquet([{', '.join(repr(str(f)) for f in paths)}]) GROUP BY 1, 2, 3, 4"
            for side, paths in files.items()
        )


KEYED = {
    "id": "bench_keyed",
    "title": "Invoices against receivables by number",
    "left": {"name": "billing", "record": "invoice", **_SIDE, "date": "issued_on", "id": ["invoice_no"]},
    "right": {"name": "the ledger", "record": "receivable", **_SIDE, "date": "issued_on", "id": ["invoice_no"]},
    "passes": [{"name": "by_number", "by": ["invoice_no"]}],
    "compare": [
        {**_COMPARE[0], "tolerance": {"minor_units": 1}},
        {"name": "date", "kind": "date", "left": "issued_on", "right": "issued_on", "periods": True,
         "window": {"earliest": 0, "latest": 0}},
        {"name": "status", "kind": "status", "left": "status", "right": "status"},
        {"name": "region", "kind": "text", "left": "region", "right": "region"},
    ],
}  # fmt: skip
_PAYMENTS = {
    "left": {"name": "billing", "record": "invoice", **_SIDE, "date": "day", "id": ["reference"]},
    "right": {"name": "the bank", "record": "payment", **_SIDE, "date": "day", "id": ["payment_no"]},
    "compare": _COMPARE,
}
BY_REFERENCE = {
    "id": "bench_by_reference",
    "title": "Payments against invoices by reference",
    **_PAYMENTS,
    "passes": [
        {"name": "by_reference", "cardinality": "1:N", "by": ["reference"], "shortfall": "partial_payment"},
    ],
}
UNREFERENCED = {
    "id": "bench_unreferenced",
    "title": "Payments that name no invoice",
    **_PAYMENTS,
    "passes": [
        {"name": "by_amount", "method": "search", "by": ["customer"], "amount": {"left": "amount", "right": "amount"},
         "window": {"earliest": 0, "latest": 5}, "accept": "suggested"},
    ],
    # a customer pays the same amount every month: seven pairs a row, before the window
    "max_candidates": 100_000_000,
}  # fmt: skip
MIXED = {
    "id": "bench_payments",
    "title": "Payments against invoices by reference, then those that name none",
    **_PAYMENTS,
    "passes": [*BY_REFERENCE["passes"], {**UNREFERENCED["passes"][0], "window": {"earliest": -5, "latest": 5}}],
}
FUZZY = {
    "id": "bench_fuzzy",
    "title": "Payments whose memo was written by hand",
    **_PAYMENTS,
    "passes": [
        {"name": "by_memo", "method": "fuzzy", "by": ["customer", "currency"],
         "amount": {"left": "amount", "right": "amount", "tolerance": {"minor_units": 5}, "levels": [0]},
         "window": {"earliest": -5, "latest": 5},
         "texts": [{"name": "memo", "left": "reference", "right": "reference", "normalise": ["upper", "digits_only"],
                    "levels": [0.9, 0.7]}]},
    ],
    # a customer's dozen invoices against as many payments, before the window: eleven pairs a row
    "max_candidates": 100_000_000,
}  # fmt: skip
_KEYED_READ = ("invoice_no", "status", "region")

CASES = (
    Case("keyed_differing", "keyed 1:1, identical pairs counted", 1.0, data.keyed_sides, KEYED, _KEYED_READ,
         "issued_on", peers=PEERS),
    Case("keyed_all", "keyed 1:1, every match listed", 1.0, data.keyed_sides, KEYED, _KEYED_READ, "issued_on", "all"),
    Case("payments_by_reference", "payments to invoices by reference, 1:N", 0.5, data.referenced_payments, BY_REFERENCE,
         ("reference",), "day"),
    Case("payments_unreferenced", "payments to invoices by customer, amount and days, suggested", 0.1,
         data.unreferenced_payments, UNREFERENCED, ("customer",), "day"),
    Case("payments", "payments to invoices by reference, then the rest by customer, amount and days, suggested", 0.5,
         data.mixed_payments, MIXED, ("reference", "customer"), "day"),
    Case("payments_fuzzy", "payments to invoices by amount, days and memo, scored", 0.1, data.remembered_payments,
         FUZZY, ("reference", "customer"), "day"),
    Case("breaks_million", "a night over as many open breaks, reconciliation, lake and store included", 0.1,
         data.open_breaks, {}, (), "", run=nights.second, floor_query=nights.floor),
    Case("breaks_list", "fifty of as many open breaks, the largest first, and how many there are", 0.1,
         data.open_breaks, {}, (), "", run=nights.listing, floor_query=nights.floor),
    Case("usage", "usage events, each once, to sums per subscription, meter, day and billing period", 1.0,
         events.generate, {}, (), "", peers=USAGE_PEERS, run=events.run, floor_query=events.floor),
    Case("usage_batch", "a thousand usage events of one day on top of as many that were there", 1.0,
         events.build_state, {}, (), "", run=events.add_batch, floor_query=events.floor),
    Case("summarise", "accounting events to journals", 1.0, journals.events, {}, (), "", run=journals.lines,
         floor_query=journals.floor),
    Case("summarise_sources", "accounting events to journals, every line checked against its source rows", 1.0,
         journals.events, {}, (), "", run=journals.sourced, floor_query=journals.floor),
    Case("usage_rating", "as many subscription-periods rated by the price book, every line listed", 1.0,
         rating.subscription_periods, {}, (), "", run=rating.run, floor_query=rating.floor),
)  # fmt: skip
