"""ERPs: one port, one adapter per product. `connect` makes a ledger from an Airflow connection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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
from tieout.errors import ConfigError
from tieout.settings import Connection

__all__ = [
    "Balance",
    "ErpJournal",
    "ErpLine",
    "GlAccount",
    "GlEntry",
    "JournalRef",
    "Ledger",
    "PeriodStatus",
    "connect",
]

KINDS = ("tryton",)


def connect(kind: str, connection: Connection, config: Mapping[str, Any]) -> Ledger:
    """The ledger behind a connection; nothing is sent yet.

    `config` is the content of `erp/<kind>.yaml`. Raises ConfigError for an unknown kind or an unusable config.
    """
    if kind == "tryton":
        from tieout.erp.tryton import TrytonConfig, TrytonLedger

        return TrytonLedger(connection, TrytonConfig.load(config))
    raise ConfigError("no adapter for this ERP", got=kind, expected=KINDS)
