"""The ERP of the sandbox has what the company and the configuration refer to."""

from __future__ import annotations

import csv
from pathlib import Path

import yaml

import tieout_sandbox
from tieout.entities import load_entities
from tieout.erp.tryton import TrytonConfig
from tieout_sandbox.company.catalogue import ENTITIES
from tieout_sandbox.tryton import chart

CONFIG = Path(tieout_sandbox.__file__).parent / "config"


def test_every_mapped_account_is_in_the_chart() -> None:
    with (CONFIG / "mappings" / "accounts.csv").open() as rows:
        mapped = {row["account"] for row in csv.DictReader(rows)}
    assert mapped <= {code for code, _, _ in chart.ACCOUNTS}


def test_every_legal_entity_has_a_company_in_its_currency_and_zone() -> None:
    entities = load_entities(CONFIG / "entities.yaml").entities
    assert {(e.id, e.functional_currency, e.zone) for e in entities} == {
        (c["id"], c["currency"], c["zone"]) for c in chart.COMPANIES
    }


def test_the_adapter_is_configured_for_the_companies_and_dimensions_there_are() -> None:
    config = TrytonConfig.load(yaml.safe_load((CONFIG / "erp" / "tryton.yaml").read_text()))
    assert set(config.companies.values()) == {c["id"] for c in chart.COMPANIES}
    assert set(config.dimensions) == set(chart.DIMENSIONS)
    assert config.journal in {code for code, _ in chart.JOURNALS}


def test_tax_codes_and_names_are_those_of_the_generated_company() -> None:
    assert {e.tax_code for e in ENTITIES} == set(chart.DIMENSIONS["tax_code"])
    assert {(e.id, e.name) for e in ENTITIES} == {(c["id"], c["name"]) for c in chart.COMPANIES}
