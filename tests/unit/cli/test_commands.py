"""The command: what it prints, its exit codes, and that it starts without loading what it does not use."""

import json
import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from tieout.cli.commands import app
from tieout.settings import SHIPPED_CONFIG, Settings
from tieout.store import Store

runner = CliRunner()


@pytest.fixture
def home(tmp_path, monkeypatch):
    for name in ("TIEOUT_STORE", "TIEOUT_LAKE", "AIRFLOW_CONN_TIEOUT_STORE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TIEOUT_HOME", str(tmp_path))
    return tmp_path


def test_the_store_is_upgraded_and_a_second_time_changes_nothing(home):
    for _ in range(2):
        result = runner.invoke(app, ["store", "upgrade"])
        assert result.exit_code == 0, result.output
    assert Store(Settings.from_env().store).ready()


def test_an_untouched_audit_chain_verifies(home):
    runner.invoke(app, ["store", "upgrade"])
    Store(Settings.from_env().store).audit("US/main", "test", "anna", {"why": "a test"})
    result = runner.invoke(app, ["audit", "verify"])
    assert result.exit_code == 0
    assert "1 audit chains verified" in result.output


def test_what_was_done_about_one_subject_is_shown_in_order(home):
    runner.invoke(app, ["store", "upgrade"])
    store = Store(Settings.from_env().store)
    for action, subject in (("batch.planned", "B"), ("batch.planned", "other"), ("batch.posted", "B")):
        store.audit("US/main", action, "anna", {"n": 1}, subject=subject)
    result = runner.invoke(app, ["audit", "show", "B"])
    assert [line.split()[5:7] for line in result.output.splitlines()] == [
        ["anna", "batch.planned"],
        ["anna", "batch.posted"],
    ]


def test_a_changed_audit_row_is_told_and_fails(home):
    import sqlite3

    runner.invoke(app, ["store", "upgrade"])
    Store(Settings.from_env().store).audit("US/main", "test", "anna", {"why": "a test"})
    with sqlite3.connect(home / "store.sqlite") as raw:
        # whoever owns the file can take the guards away; the hashes still tell
        for (trigger,) in raw.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            raw.execute(f'DROP TRIGGER "{trigger}"')
        raw.execute("UPDATE audit_log SET actor = 'berta'")
    result = runner.invoke(app, ["audit", "verify"])
    assert result.exit_code == 1
    assert "audit chain US/main, row 1" in result.output


def test_a_mistake_in_the_configuration_is_told_by_file(home, tmp_path, monkeypatch):
    config = tmp_path / "config"
    config.mkdir()
    (config / "entities.yaml").write_text("entities:\n- {id: us}\n")
    monkeypatch.setenv("TIEOUT_CONFIG", str(config))
    result = runner.invoke(app, ["config", "check"])
    assert result.exit_code == 1
    assert "entities.yaml" in result.output


def test_a_backfill_from_the_command_line_only_shows(home):
    from tieout.errors import ConfigError

    result = runner.invoke(app, ["backfill", "--from-date", "2026-03-01", "--to-date", "2026-03-02"])
    assert isinstance(result.exception, ConfigError)


def test_an_expected_error_is_one_line_without_a_traceback(home):
    done = subprocess.run(
        [sys.executable, "-m", "tieout.cli", "breaks", "--business-date", "2026-03-31"],
        env={"TIEOUT_HOME": str(home), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("tieout: the store has no tables yet")
    assert "Traceback" not in done.stderr


def test_help_loads_no_engine():
    script = (
        "import sys; from typer.testing import CliRunner; from tieout.cli.commands import app; "
        "CliRunner().invoke(app, ['--help']); "
        "print([m for m in ('duckdb', 'pyarrow', 'pandas', 'airflow', 'tieout_sandbox') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_sandbox_configuration_can_be_used(home, monkeypatch):
    from tieout_sandbox import demo

    monkeypatch.setenv("TIEOUT_CONFIG", str(demo.CONFIG))
    result = runner.invoke(app, ["config", "check"])
    assert result.exit_code == 0, result.output


def test_the_shipped_configuration_can_be_used_as_it_is(home, monkeypatch):
    monkeypatch.delenv("TIEOUT_CONFIG", raising=False)
    for name in [name for name in os.environ if name.startswith("AIRFLOW_CONN_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AIRFLOW_CONN_STRIPE_US", json.dumps({"conn_type": "http", "host": "https://api.stripe.com"}))
    result = runner.invoke(app, ["config", "check"])
    assert result.exit_code == 0, result.output
    assert "connections drop, salesforce, stripe_de, stripe_jp, tryton, zendesk" in result.output


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("conform/crosswalk.yaml", "master: salesforce\ncolour: red\n", "colour"),
        ("mappings/products.csv", "source,source_id\nstripe,prod_1\n", "canonical_id"),
        ("mappings/customers.csv", "source,source_id,canonical_id,valid_from\nstripe,cus_1,crm:1,soon\n", "soon"),
        ("erp/tryton.yaml", "companies: {US: US}\n", "DE: no company"),
        (
            "conform/stripe/refunds.yaml",
            (SHIPPED_CONFIG / "conform" / "stripe" / "refunds.yaml").read_text()
            + "    checks:\n      - {code: wrong, field: amount, fault_if: amuont < 0, expected: an amount}\n",
            "amuont",
        ),
    ],
)
def test_a_mistake_in_any_file_is_told(home, tmp_path, monkeypatch, name, text, says):
    path = tmp_path / "config" / name
    path.parent.mkdir(parents=True)
    path.write_text(text)
    monkeypatch.setenv("TIEOUT_CONFIG", str(tmp_path / "config"))
    result = runner.invoke(app, ["config", "check"])
    assert result.exit_code == 1
    assert path.name in result.output
    assert says in result.output


def test_a_source_of_an_unknown_entity_is_told(home, tmp_path, monkeypatch):
    from tieout_sandbox import demo

    config = tmp_path / "config"
    config.mkdir()
    (config / "entities.yaml").write_text((demo.CONFIG / "entities.yaml").read_text())
    (config / "sources.yaml").write_text(
        "sources:\n- {name: helpdesk, kind: zendesk, connection: c, legal_entity: XX}\n"
    )
    monkeypatch.setenv("TIEOUT_CONFIG", str(config))
    result = runner.invoke(app, ["config", "check"])
    assert result.exit_code == 1
    assert "XX" in result.output


@pytest.fixture
def config(home, monkeypatch):
    """A folder of somebody's own, which falls back to the shipped files."""
    folder = home / "config"
    (folder / "mappings").mkdir(parents=True)
    monkeypatch.setenv("TIEOUT_CONFIG", str(folder))
    for name in [name for name in os.environ if name.startswith("AIRFLOW_CONN_")]:
        monkeypatch.delenv(name)
    return folder


def test_a_stranger_is_told_every_mistake_of_a_first_try_at_once(config, monkeypatch):
    mappings = config / "mappings"
    header = "source,source_id,canonical_id,family,valid_from,valid_to\n"
    (mappings / "customers.csv").write_text(f"{header}stripe\n")
    (mappings / "products.csv").write_text(f"{header}stripe_uk,prod_1,product:1,seats,2025-01-01,\n")
    shipped = (SHIPPED_CONFIG / "mappings" / "accounts.csv").read_text()
    rows = [line.replace("*,receivable", "US,receivable", 1) for line in shipped.splitlines() if ",bank," not in line]
    (mappings / "accounts.csv").write_text("\n".join(rows) + "\n", encoding="utf-8-sig")
    plain = {"conn_type": "http", "host": "http://erp.example", "password": "hush"}
    monkeypatch.setenv("AIRFLOW_CONN_TRYTON", json.dumps(plain))
    monkeypatch.setenv("AIRFLOW_CONN_DROP", json.dumps({"conn_type": "fs", "host": "drop"}))
    result = runner.invoke(app, ["config", "check"])
    assert result.exit_code == 1
    for mistake in (
        "customers.csv:2, column source_id",
        "got: ['stripe_uk']",
        "'US: bank'",
        "'DE: bank, receivable'",
        "plain http to another machine; record: tryton",
        "a drop folder needs an address; record: drop",
    ):
        assert mistake in result.output
    assert "hush" not in result.output


def test_a_configuration_folder_that_is_not_there_cannot_be_used(config, monkeypatch):
    monkeypatch.setenv("TIEOUT_CONFIG", str(config / "elsewhere"))
    result = runner.invoke(app, ["config", "check"])
    assert result.exit_code == 1
    assert "the configuration folder is not there" in result.output
