"""Two ERPs at once: each entity's journals go to the ERP that keeps its ledger, and only that one is opened."""

import json
from datetime import date
from decimal import Decimal

import jsonschema
import pytest
import yaml

from tieout.erp import ErpJournal, ErpLine, LedgersByEntity, connect, load_erp
from tieout.erp.open import ADAPTERS
from tieout.erp.schemas import json_schema
from tieout.errors import ConfigError, ErpUnavailable
from tieout.orchestration import intake
from tieout.orchestration.checks import check_configuration
from tieout.orchestration.work import Work
from tieout.settings import SHIPPED_CONFIG, Connection, Settings
from tieout_sandbox.file_ledger import FileLedger

LINES = (ErpLine("11000", Decimal(5), Decimal(0)), ErpLine("40100", Decimal(0), Decimal(5)))
DAY = date(2026, 3, 30)


def journal(entity: str) -> ErpJournal:
    key = f"TIEOUT/{entity}/main/2026-03/billing/2026-03-30/v1"
    return ErpJournal(entity, key, "T123456789ABCDEF", DAY, "USD", "x", LINES)


@pytest.fixture
def two(tmp_path):
    return {"US": FileLedger(tmp_path / "one"), "DE": FileLedger(tmp_path / "two")}


def test_each_entity_is_posted_to_and_read_from_its_own_erp(two):
    both = LedgersByEntity(two.__getitem__, two)
    for entity in two:
        ref = both.post(journal(entity))
        assert both.read_back(ref).lines == LINES
        assert [e.entity for page in both.gl_entries(entity, DAY, DAY) for e in page] == [entity] * 2
        assert [b.closing for b in both.trial_balance(entity, DAY)] == [5, -5]
    refs = both.find_by_run_key("TIEOUT/")
    assert [held.entity for held in both.read_back_many(refs[::-1])] == ["DE", "US"]
    assert [len(ledger.journals()) for ledger in two.values()] == [1, 1]
    assert [ref.entity for ref in both.find_by_run_key("TIEOUT/DE/main")] == ["DE"]
    assert [ref.entity for ref in both.find_by_run_key("TIEOUT/")] == ["US", "DE"]


def test_an_erp_that_is_down_disturbs_nobody_elses_entities(two):
    def opened(entity: str) -> FileLedger:
        if entity == "DE":
            raise ErpUnavailable("the ERP does not answer")
        return two[entity]

    both = LedgersByEntity(opened, two)
    assert both.post(journal("US")).state == "posted"
    with pytest.raises(ErpUnavailable):
        both.post(journal("DE"))


ENTITY = """  - id: {id}
    name: {id}
    functional_currency: USD
    zone: UTC
    country: US
    go_live: 2026-03-29
    ledger: {ledger}
"""


def configured(tmp_path, sources: str) -> Work:
    entities = ENTITY.format(id="US", ledger="main") + ENTITY.format(id="DE", ledger="europe")
    files = {
        "entities.yaml": f"entities:\n{entities}",
        "sources.yaml": f"sources:\n{sources}",
        "erp/tryton.yaml": "companies: {US: US}\nmax_lines: 200\n",
        "erp/second.yaml": "kind: tryton\ncompanies: {DE: DE}\nsettle_seconds: 7\ndimensions: {tax_code: VAT}\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return Work(Settings.from_env({"TIEOUT_HOME": str(tmp_path), "TIEOUT_CONFIG": str(tmp_path)}))


FIRST = "  - {name: erp, kind: erp, connection: one}\n"
SECOND = "  - {name: erp_europe, kind: erp, connection: two, erp: second, ledger: europe}\n"


def test_an_entitys_ledger_chooses_connection_adapter_and_limits(tmp_path):
    work = configured(tmp_path, FIRST + SECOND)
    assert work.ledger_source("US").connection == "one"
    assert work.ledger_source("DE").connection == "two"
    assert (work.erp("US").kind, work.erp("US").config.max_lines) == ("tryton", 200)
    assert (work.erp("DE").kind, work.erp("DE").config.settle_seconds) == ("tryton", 7)
    assert work.erp("DE").config.dimensions == {"tax_code": "VAT"}
    told = "\n".join(str(problem) for problem in check_configuration(work.settings))
    assert "ledger" not in told
    assert "no company" not in told


@pytest.mark.parametrize("sources", [FIRST, FIRST + SECOND + SECOND.replace("erp_europe", "again")])
def test_a_ledger_kept_by_no_erp_or_by_two_is_told_by_the_check(tmp_path, sources):
    told = "\n".join(str(problem) for problem in check_configuration(configured(tmp_path, sources).settings))
    assert "exactly one source of kind erp" in told
    assert "DE, ledger europe" in told


def test_an_erp_that_cannot_be_read_does_not_keep_the_others_from_being_read(tmp_path, monkeypatch):
    work = configured(tmp_path, FIRST + SECOND)
    work.store.upgrade()
    work.store.start_run("night", "nightly", DAY)
    read, conformed = [], []

    def extract(work, run_id, source, ledger, day):
        read.append(source.name)
        if source.name == "erp":
            raise ErpUnavailable("the ERP does not answer")

    monkeypatch.setattr(intake, "_extract_ledger", extract)
    monkeypatch.setattr(intake, "conform_facts", lambda result: {})
    monkeypatch.setattr("tieout.conform.steps.conform", lambda sources, **_: conformed.extend(sources))
    with pytest.raises(ErpUnavailable):
        intake.read_ledger(work, "night", DAY.isoformat())
    assert read == ["erp", "erp_europe"]
    assert len(conformed) == 2


@pytest.mark.parametrize("kind", ADAPTERS)
def test_each_adapters_file_has_a_published_schema_that_its_example_keeps_to(kind):
    published = json.loads((SHIPPED_CONFIG / "erp" / f"{kind}.schema.json").read_text())
    assert published == json_schema(kind), "run `make docs`"
    example = yaml.safe_load((SHIPPED_CONFIG / "erp" / f"{kind}.yaml").read_text())
    jsonschema.validate(example, published)
    erp = load_erp(Settings.from_env({}), kind)
    assert set(erp.config.companies) == {"US", "DE", "JP"}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(example | {"colour": "red"}, published)


def test_an_unknown_kind_names_the_known_ones():
    with pytest.raises(ConfigError, match="tryton"):
        connect("abacus", Connection("x", "https://x.test"), {})
