"""Posting rules and account mapping as data: every event has a rule, every mistake is told by file and line."""

from __future__ import annotations

import json
import re
from datetime import date
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from tieout.errors import ConfigError
from tieout.ledger import load_accounts, load_rules
from tieout.ledger.documentation import json_schema, table
from tieout.ledger.events import statement
from tieout.ledger.rules import PostingRules
from tieout.settings import SHIPPED_CONFIG, Settings, load_config

RULES = load_rules(Settings.from_env({}))
DOCS = Path(__file__).parents[3] / "docs"
HEADER = "legal_entity_id,role,product_family,tax_code,currency,account,valid_from,valid_to\n"


def test_schema_and_table_are_those_of_the_shipped_rules() -> None:
    assert json.loads((SHIPPED_CONFIG / "posting_rules.schema.json").read_text()) == json_schema(), "run `make docs`"
    assert (DOCS / "posting-rules.md").read_text() == table(RULES.postings), "run `make docs`"
    shipped = yaml.safe_load((SHIPPED_CONFIG / "posting_rules.yaml").read_text())
    Draft202012Validator(json_schema()).validate(shipped)


def test_every_role_of_the_rules_has_an_account() -> None:
    mapped = {a.role for a in RULES.accounts}
    assert mapped >= RULES.roles


@pytest.mark.parametrize("name", ["events_billing", "events_cash", "release", "accrual"])
def test_every_event_the_queries_name_has_a_rule(name: str) -> None:
    literals = set(
        re.findall(
            r"'((?:credit_note|void|uncollectible|fee|refund|dispute|payout|release|accrual)\w*)'", statement(name)
        )
    )
    known = set(RULES.postings.events)
    prefixes = {
        "dispute_", "refund", "dispute", "dispute_reversal", "payout_failure", "payout_cancel", "refund_failure",
    }  # fmt: skip
    assert literals - known <= prefixes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("version: '1'\nevents: {a: {meaning: m, stream: cash, date_from: d, lines: []}}", "line 2"),
        ("version: '1'\nevents: {a: {meaning: m, stream: tomorrow, date_from: d, lines: []}}", "stream"),
        (
            "version: '1'\nevents:\n  a:\n    meaning: m\n    stream: cash\n    date_from: d\n    lines:\n"
            "      - {role: bank, side: debit, amount: gross}\n      - {role: bank, side: debit, amount: gross}\n",
            "a debit and a credit",
        ),
    ],
)
def test_a_mistake_in_the_rules_names_its_place(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "posting_rules.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_config(PostingRules, path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("role,account\nbank,1\n", "wrong columns"),
        (HEADER + "*,bank,*,*,*,10000,yesterday,\n", "accounts.csv:2"),
        (HEADER + "*,bank,*,*,*,,2025-01-01,\n", "role and account"),
    ],
)
def test_a_mistake_in_the_account_mapping_names_its_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "accounts.csv"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_accounts(path)


def test_an_account_without_dimensions_is_the_most_specific_one_in_force(tmp_path: Path) -> None:
    from dataclasses import replace

    path = tmp_path / "accounts.csv"
    path.write_text(
        HEADER
        + "*,bank,*,*,*,10000,2025-01-01,\nDE,bank,*,*,*,18000,2025-01-01,2026-01-01\nDE,bank,*,*,*,18100,2026-01-01,\n"
    )
    rules = replace(RULES, accounts=load_accounts(path))
    assert rules.account("US", "bank", "USD", date(2026, 3, 1)) == "10000"
    assert rules.account("DE", "bank", "EUR", date(2025, 3, 1)) == "18000"
    assert rules.account("DE", "bank", "EUR", date(2026, 3, 1)) == "18100"
    with pytest.raises(ConfigError, match="0 accounts"):
        rules.account("DE", "receivable", "EUR", date(2026, 3, 1))
    assert rules.digest != RULES.digest
