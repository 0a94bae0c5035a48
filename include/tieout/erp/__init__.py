"""ERPs: one port, one adapter per product; `tieout.erp.open` chooses the adapter and tells how one registers."""

from tieout.erp.open import Erp, LedgersByEntity, connect, load_erp
from tieout.erp.port import (
    Balance,
    ErpJournal,
    ErpLine,
    GlAccount,
    GlEntry,
    JournalRef,
    Ledger,
    PeriodStatus,
)

__all__ = [
    "Balance",
    "Erp",
    "ErpJournal",
    "ErpLine",
    "GlAccount",
    "GlEntry",
    "JournalRef",
    "Ledger",
    "LedgersByEntity",
    "PeriodStatus",
    "connect",
    "load_erp",
]
