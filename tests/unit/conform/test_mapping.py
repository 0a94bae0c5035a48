"""Mappings: mistakes are told by file and place; the shipped ones are accepted by the engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from tieout.conform.mapping import load_mapping
from tieout.conform.references import mapped_ids
from tieout.conform.verify import verify_mappings
from tieout.errors import ConfigError
from tieout.settings import SHIPPED_CONFIG, Settings

KINDS = sorted(p.name for p in (SHIPPED_CONFIG / "conform").iterdir() if p.is_dir())


@pytest.mark.parametrize("kind", KINDS)
def test_the_shipped_mappings_are_accepted(kind: str) -> None:
    verify_mappings(Settings.from_env({}), kind)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("object: x\nentities: {invoic: {columns: {source_id: id}}}\n", "not a canonical entity"),
        ("object: x\nentities: {refund: {columns: {source_id: id, colour: c}}}\n", "no columns"),
        ("object: x\nentities: {refund: {columns: {status: status}}}\n", "source_id"),
        ("object: x\nentities: {refund: {columns: {source_id: {}}}}\n", "either `path` or `sql`"),
        ("object: x\nentities: {refund: {each: a.b, columns: {source_id: id}}}\n", "must be the record itself"),
        ("object: x\nentities: {refund: {fields: {n: n}, columns: {source_id: id}}}\n", "need `as`"),
    ],
)
def test_a_mistake_in_a_mapping_is_told(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError, match=words):
        load_mapping(path)


def test_sql_that_is_none_is_told_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "conform" / "zendesk").mkdir(parents=True)
    (tmp_path / "conform" / "zendesk" / "tickets.yaml").write_text(
        "object: tickets\nentities: {case: {columns: {source_id: id, status: {sql: no_such_column + 1}}}}\n"
    )
    with pytest.raises(ConfigError, match=r"conform/zendesk/tickets\.yaml, case") as told:
        verify_mappings(Settings(tmp_path, tmp_path, "", ""), "zendesk")
    assert "no_such_column" in str(told.value)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("stripe,p1,a,seats,2025-01-01,2026-01-01\nstripe,p1,b,seats,2025-12-31,\n", "hold on the same day"),
        ("stripe,p1,a,seats,first of May,\n", "not a date"),
    ],
)
def test_a_mistake_in_a_mapping_file_is_told(tmp_path: Path, rows: str, words: str) -> None:
    (tmp_path / "mappings").mkdir()
    header = "source,source_id,canonical_id,family,valid_from,valid_to\n"
    (tmp_path / "mappings" / "products.csv").write_text(header + rows)
    with pytest.raises(ConfigError, match=words):
        mapped_ids(Settings(tmp_path, tmp_path, "", ""), "products")


def test_the_crms_own_words_for_a_legal_entity_can_be_translated(world, make) -> None:
    own = world.settings.config / "conform" / "salesforce" / "Account.yaml"
    own.parent.mkdir(parents=True)
    shipped = (SHIPPED_CONFIG / "conform" / "salesforce" / "Account.yaml").read_text()
    told = "legal_entity_id: {path: Billing_Entity__c, codes: {Acme Inc: US, Acme GmbH: DE, Acme Ltd: UK}}"
    own.write_text(shipped.replace("legal_entity_id: Billing_Entity__c", told))
    accounts = [
        make.account(f"00100000000000{n}AAA", Billing_Entity__c=words)
        for n, words in enumerate(("Acme Inc", "Acme GmbH", None, "Nobody", "Acme Ltd", "US"), start=1)
    ]
    world.land(world.CRM, "Account", accounts)
    world.conform(world.CRM)
    assert [r["legal_entity_id"] for r in world.rows("customer")] == ["US", "DE", None]
    assert sorted(item.reason for item in world.store.quarantined()) == [
        "Billing_Entity__c holds 'Nobody' where one of Acme Inc, Acme GmbH, Acme Ltd is expected",
        "Billing_Entity__c holds 'US' where one of Acme Inc, Acme GmbH, Acme Ltd is expected",
        "legal_entity_id holds 'UK' where a legal entity of entities.yaml is expected",
    ]
