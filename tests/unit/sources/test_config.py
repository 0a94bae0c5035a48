"""sources.yaml: the shipped files load, mistakes are told with their line."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tieout.errors import ConfigError
from tieout.settings import SHIPPED_CONFIG
from tieout.sources.client import Rate
from tieout.sources.config import OBJECTS, SourceConfig, load_sources
from tieout.sources.drift import CONTRACTS, load_contract

SANDBOX = SHIPPED_CONFIG.parent / "tieout_sandbox" / "config" / "sources.yaml"


@pytest.mark.parametrize("path", [SHIPPED_CONFIG / "sources.yaml", SANDBOX], ids=["shipped", "sandbox"])
def test_the_files_that_ship_load(path):
    names = [source.name for source in load_sources(path)]
    assert names == ["stripe_us", "stripe_de", "stripe_jp", "salesforce", "zendesk", "drop", "erp"]


def test_a_source_gets_the_defaults_of_its_kind():
    source = SourceConfig(name="crm", kind="salesforce", connection="crm")
    assert source.objects == OBJECTS["salesforce"]
    assert (source.reach_back, source.lag) == (timedelta(minutes=30), timedelta(minutes=10))
    assert source.contract == "salesforce"


def test_texts_become_values(tmp_path):
    path = tmp_path / "sources.yaml"
    path.write_text(
        "sources:\n- {name: crm, kind: salesforce, connection: c, overlap: 2h, rate: 30/minute, start: 2025-10-01}\n"
    )
    (source,) = load_sources(path)
    assert source.reach_back == timedelta(hours=2)
    assert source.rate == Rate(30, "minute")
    assert source.start == datetime(2025, 10, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("overlap: soon", "line 5.*a duration is a whole number"),
        ("rate: 20/week", "line 5.*a rate is a number of requests"),
        ("objects: [../../etc]", "String should match pattern"),
        ("objects: [invoices, quarks]", "stripe has no object quarks; it has events, customers"),
        ("overlp: 1h", "line 5, sources.0.overlp: Extra inputs"),
    ],
)
def test_mistakes_name_line_and_remedy(tmp_path, line, message):
    path = Path(tmp_path / "sources.yaml")
    path.write_text(f"sources:\n- name: stripe_us\n  kind: stripe\n  connection: stripe_us\n  {line}\n")
    with pytest.raises(ConfigError, match=message):
        load_sources(path)


def test_two_sources_cannot_share_a_name(tmp_path):
    path = tmp_path / "sources.yaml"
    entry = "- {name: crm, kind: salesforce, connection: c}\n"
    path.write_text("sources:\n" + entry * 2)
    with pytest.raises(ConfigError, match="source names repeat"):
        load_sources(path)


@pytest.mark.parametrize("kind", ["stripe", "salesforce", "zendesk", "files", "erp"])
def test_every_object_has_a_contract(kind):
    contract = load_contract(kind)
    assert {name: bool(contract.object(name).blocking) for name in OBJECTS[kind]} == dict.fromkeys(OBJECTS[kind], True)


def test_every_shipped_contract_is_of_a_kind():
    assert {p.stem for p in CONTRACTS.glob("*.yaml")} == {
        "stripe",
        "stripe_events",
        "salesforce",
        "zendesk",
        "files",
        "erp",
    }
