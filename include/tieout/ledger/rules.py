"""Posting rules and the account mapping: the data that turns accounting events into journal lines."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tieout.errors import ConfigError
from tieout.ids import content_hash
from tieout.settings import Settings, load_config

AmountField = Literal[
    "gross", "net", "tax", "deferred", "recognised", "to_receivable", "to_credit", "rounding", "functional", "exchange"
]
"""An event's named amounts. `functional` and `exchange` have no amount in the event's currency: the first is given by
the event, the second is what the exchange rates of the other lines leave, a realised gain or loss."""
Dimension = Literal["product_family", "tax_code"]
Stream = Literal["billing", "cash", "release", "accrual", "revaluation", "write_off"]
DIFFERING = "differing"
"""Stands for the account role that a reconciliation names for what is written off of its breaks."""
RESIDUE_LEG = 99
"""The leg of a rounding residue; a conversion's two further legs are 100 and 200 after the one that settles."""
_ANY = "*"
_ACCOUNT_COLUMNS = (
    "legal_entity_id", "role", "product_family", "tax_code", "currency", "account", "valid_from", "valid_to"
)  # fmt: skip


class RuleLine(BaseModel):
    """One line of a posting rule."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    role: str = Field(pattern=r"^[a-z][a-z_]*$")
    side: Literal["debit", "credit"]
    amount: AmountField
    dimensions: tuple[Dimension, ...] = ()
    rate: Literal["own", "origin"] = "own"
    """The exchange rate of a foreign amount: of the event's own date, or of the document it settles or unwinds."""
    settles: bool = False
    """Money that moves: where it arrives in another currency than the event's, it passes through FX clearing."""

    @model_validator(mode="after")
    def _settles_whole(self) -> RuleLine:
        if self.settles and self.amount != "gross":
            raise ValueError("only the whole amount (gross) settles")
        return self


class PostingRule(BaseModel):
    """What an accounting event posts. `date_from` says, for people, which instant dates it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    meaning: str
    stream: Stream
    date_from: str
    lines: tuple[RuleLine, ...] = Field(min_length=2)

    @model_validator(mode="after")
    def _has_both_sides(self) -> PostingRule:
        if {line.side for line in self.lines} != {"debit", "credit"}:
            raise ValueError("a posting rule needs a debit and a credit")
        if sum(line.amount == "exchange" for line in self.lines) > 1 or sum(line.settles for line in self.lines) > 1:
            raise ValueError("a posting rule has at most one line for exchange differences and one that settles")
        return self


class PostingRules(BaseModel):
    """`posting_rules.yaml`: every event type, in the order its lines take in a journal."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: str
    conversion_role: str = "fx_clearing"
    """Where two currencies of one event meet."""
    residue_role: str = "rounding"
    """What rounding each leg to the functional currency leaves, in events without a line for exchange differences."""
    events: dict[str, PostingRule]

    @model_validator(mode="after")
    def _lines_can_be_told_apart(self) -> PostingRules:
        if any(len(rule.lines) >= RESIDUE_LEG for rule in self.events.values()):
            raise ValueError(f"a posting rule has fewer than {RESIDUE_LEG} lines")
        return self


@dataclass(frozen=True, slots=True)
class AccountMapping:
    """A role's GL account where entity, family, tax code and currency fit (`*` fits all), on days `[from, to)`."""

    legal_entity_id: str
    role: str
    product_family: str
    tax_code: str
    currency: str
    account: str
    valid_from: date
    valid_to: date | None


@dataclass(frozen=True)
class Rules:
    """Posting rules together with the account mapping."""

    postings: PostingRules
    accounts: tuple[AccountMapping, ...]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of rules and mapping: recorded with every batch made by them."""
        mapped = [[getattr(a, name) for name in _ACCOUNT_COLUMNS] for a in self.accounts]
        return content_hash({"postings": self.postings.model_dump(mode="json"), "accounts": mapped})

    def streams(self) -> dict[str, str]:
        """Event type → stream."""
        return {name: rule.stream for name, rule in self.postings.events.items()}

    @property
    def roles(self) -> set[str]:
        """Every account role the rules name."""
        return {line.role for rule in self.postings.events.values() for line in rule.lines} - {DIFFERING}

    def of_write_off(self, role: str, stream: str) -> Rules:
        """The rules of one write-off: with the role its break's reconciliation names, in a stream of its own."""
        events = {
            name: rule.model_copy(
                update={
                    "stream": stream,
                    "lines": tuple(
                        line.model_copy(update={"role": role}) if line.role == DIFFERING else line
                        for line in rule.lines
                    ),
                }
            )
            for name, rule in self.postings.events.items()
            if rule.stream == "write_off"
        }
        return Rules(self.postings.model_copy(update={"events": events}), self.accounts)

    def overlaps(self) -> list[str]:
        """Rows of the account mapping that fit the same and are in force on the same day, with different accounts."""
        rows: dict[tuple[str, ...], list[AccountMapping]] = {}
        for a in self.accounts:
            rows.setdefault((a.legal_entity_id, a.role, a.product_family, a.tax_code, a.currency), []).append(a)
        found = []
        for key, same in rows.items():
            ordered = sorted(same, key=lambda a: a.valid_from)
            for one, other in pairwise(ordered):
                if one.account != other.account and (one.valid_to is None or one.valid_to > other.valid_from):
                    found.append(f"{'/'.join(key)} on {other.valid_from}: {one.account} and {other.account}")
        return found

    def account(self, entity: str, role: str, currency: str, on: date) -> str:
        """The account of a role that has no dimensions. Raises ConfigError if none or several fit."""
        fitting = [
            a
            for a in self.accounts
            if a.role == role
            and a.legal_entity_id in (_ANY, entity)
            and a.currency in (_ANY, currency)
            and a.product_family == a.tax_code == _ANY
            and a.valid_from <= on
            and (a.valid_to is None or on < a.valid_to)
        ]
        rank = {a.account: ((a.legal_entity_id != _ANY) * 2 + (a.currency != _ANY)) for a in fitting}
        best = [account for account, score in rank.items() if score == max(rank.values())]
        if len(best) != 1:
            raise ConfigError(
                f"role {role} has {len(best)} accounts",
                record=f"{entity} {currency} on {on}",
                expected="exactly one",
                remedy="correct mappings/accounts.csv",
            )
        return best[0]


def load_rules(settings: Settings) -> Rules:
    """The configured posting rules and account mapping. Raises ConfigError naming file and line."""
    return Rules(
        load_config(PostingRules, settings.config_file("posting_rules.yaml")),
        load_accounts(settings.config_file("mappings/accounts.csv")),
    )


def load_accounts(path: Path) -> tuple[AccountMapping, ...]:
    """Read `mappings/accounts.csv`. Raises ConfigError naming file and line."""
    found: list[AccountMapping] = []
    with path.open(encoding="utf-8-sig", newline="") as file:  # spreadsheets write a byte order mark
        reader = csv.DictReader(file)
        if reader.fieldnames is None or set(reader.fieldnames) != set(_ACCOUNT_COLUMNS):
            raise ConfigError("wrong columns", record=str(path), expected=list(_ACCOUNT_COLUMNS), got=reader.fieldnames)
        for row in reader:
            where = f"{path}:{reader.line_num}"
            if None in row.values() or not row["role"] or not row["account"]:
                raise ConfigError("an account mapping needs every column, role and account filled", record=where)
            try:
                start = date.fromisoformat(row["valid_from"])
                end = date.fromisoformat(row["valid_to"]) if row["valid_to"] else None
            except ValueError as error:
                raise ConfigError("not a date", record=where, got=str(error), expected="YYYY-MM-DD") from None
            found.append(
                AccountMapping(
                    row["legal_entity_id"] or _ANY,
                    row["role"],
                    row["product_family"] or _ANY,
                    row["tax_code"] or _ANY,
                    row["currency"] or _ANY,
                    row["account"],
                    start,
                    end,
                )
            )
    return tuple(found)


def rules_table(rules: Rules) -> list[dict[str, Any]]:
    """One row per line of each rule, in order; what the engine joins events with."""
    return [
        {
            "event_type": name,
            "event_order": order,
            "stream": rule.stream,
            "leg": leg,
            "role": line.role,
            "side": line.side,
            "amount": line.amount,
            "rate": line.rate,
            "settles": line.settles,
            "by_family": "product_family" in line.dimensions,
            "by_tax": "tax_code" in line.dimensions,
        }
        for order, (name, rule) in enumerate(rules.postings.events.items(), 1)
        for leg, line in enumerate(rule.lines, 1)
    ]
