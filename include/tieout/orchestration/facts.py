"""What steps leave with their run, from the libraries' results: counts for people, rows for the report, no data."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tieout.conform.steps import ConformResult
    from tieout.erp.port import GlEntry
    from tieout.lake.landing import ExtractRef
    from tieout.ledger.proof import ProofLine, TrialBalanceProof

Facts = dict[str, Any]


def extract_facts(landed: Sequence[ExtractRef], mapped: Collection[str]) -> Facts:
    """Extracts, their records, and how many an independent total has proven.

    `records` are those of `mapped` objects, which become canonical rows; of others (`kept_raw`) only the raw pages
    are kept.
    """
    return {
        "extracts": len(landed),
        "records": sum(ref.records for ref in landed if ref.object in mapped),
        "kept_raw": sum(ref.records for ref in landed if ref.object not in mapped),
        "proven": sum(ref.control.proven for ref in landed),
    }


def conform_facts(result: ConformResult) -> Facts:
    """Records in, and where each of them went."""
    return {
        "read": result.rows_in,
        "rows": result.rows_out,
        "merged": result.rows_merged,
        "quarantined": result.rows_quarantined,
    }


def proof_row(entity_id: str, line: ProofLine, name: str, account: str) -> Facts:
    """A line of the proof as reports show it; where the entity has several ledgers, `account` tells which."""
    return {
        "legal_entity_id": entity_id,
        "account": account,
        "name": name,
        "currency": line.currency,
        "opening": line.opening,
        "posted": line.ours,
        "foreign": line.foreign,
        "expected": line.expected,
        "trial_balance": line.ledger,
        "difference": line.difference,
    }


def foreign_row(entry: GlEntry) -> Facts:
    """An entry that is not ours, as reports show it."""
    return {
        "legal_entity_id": entry.entity,
        "account": entry.account,
        "accounting_date": entry.date,
        "number": entry.journal_number or entry.journal_id,
        "narrative": entry.narrative or entry.description,
        "debit": entry.debit,
        "credit": entry.credit,
        "currency": entry.currency,
    }


def kept_proof(entity_id: str, on: date, rows: Sequence[Mapping[str, Any]]) -> TrialBalanceProof | None:
    """The proof of one entity again from its rows as the store keeps them; None where nothing was proved."""
    from tieout.ledger.proof import ProofLine, TrialBalanceProof

    lines = tuple(
        ProofLine(
            row["account"],
            row["currency"],
            Decimal(row["opening"]),
            Decimal(row["posted"]),
            Decimal(row["foreign"]),
            Decimal(row["trial_balance"]),
        )
        for row in rows
        if row["legal_entity_id"] == entity_id
    )
    return TrialBalanceProof(entity_id, on, lines, (), 0, 0) if lines else None
