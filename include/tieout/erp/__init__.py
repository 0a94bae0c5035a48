"""ERPs: one port, one adapter per product. `connect` makes a ledger from an Airflow connection."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tieout.entities import LegalEntity
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
    "check",
    "connect",
]

KINDS = ("tryton",)
RECEIVABLE_MODES = {"tryton": ("gl_control",)}
"""What each adapter can do with receivables, by kind."""
FOREIGN_CURRENCY = ("tryton",)
"""Kinds whose adapter keeps a line's foreign currency and amount (`ErpLine.foreign_amount`) and reads it back."""


def connect(kind: str, connection: Connection, config: Mapping[str, Any]) -> Ledger:
    """The ledger behind a connection; nothing is sent yet.

    `config` is the content of `erp/<kind>.yaml`. Raises ConfigError for an unknown kind or an unusable config.
    """
    if kind == "tryton":
        from tieout.erp.tryton import TrytonConfig, TrytonLedger

        return TrytonLedger(connection, TrytonConfig.load(config))
    raise ConfigError("no adapter for this ERP", got=kind, expected=KINDS)


def check(kind: str, config: Mapping[str, Any], entities: Iterable[LegalEntity]) -> list[str]:
    """What is wrong with an ERP's configuration for these entities, in sentences; nothing is sent.

    Raises ConfigError for an unknown kind or a file that cannot be read as a configuration at all.
    """
    if kind not in KINDS:
        raise ConfigError("no adapter for this ERP", got=kind, expected=KINDS)
    from tieout.erp.tryton import TrytonConfig

    companies = TrytonConfig.load(config).companies
    problems = []
    for entity in entities:
        if entity.id not in companies:
            problems.append(f"{entity.id}: no company; add it to `companies` in erp/{kind}.yaml")
        if entity.receivable_mode not in RECEIVABLE_MODES[kind]:
            modes = ", ".join(RECEIVABLE_MODES[kind])
            problems.append(f"{entity.id}: receivable_mode {entity.receivable_mode} is not for {kind}; use {modes}")
    return problems
