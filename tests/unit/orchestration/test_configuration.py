"""Configuration goes live by a second person: a pending edit reaches no run."""

import os

import pytest
from typer.testing import CliRunner

from tieout.cli.commands import app
from tieout.errors import ConfigError
from tieout.orchestration import catalog, checks
from tieout.orchestration.provenance import made_with
from tieout.orchestration.work import Work
from tieout.settings import SHIPPED_CONFIG, Settings
from tieout.store import Store

ENTITIES, US = (SHIPPED_CONFIG / "entities.yaml").read_text(), "Northwind Cloud Inc."


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name in [n for n in os.environ if n.startswith("TIEOUT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TIEOUT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TIEOUT_CONFIG", str(tmp_path / "config"))
    (tmp_path / "config").mkdir()
    (tmp_path / "home").mkdir()
    (tmp_path / "config" / "entities.yaml").write_text(ENTITIES.replace(US, "Before"))
    catalog.entity_ids.cache_clear()
    Store(Settings.from_env().store).upgrade()
    yield tmp_path / "config"
    catalog.entity_ids.cache_clear()


@pytest.fixture
def unchecked(monkeypatch):
    """Checking a whole configuration takes seconds; one test does it."""
    monkeypatch.setattr(checks, "check_configuration", lambda settings: [])


def name_in_force() -> str:
    return Work.from_env().entities["US"].name


def tieout(*args: str) -> str:
    result = CliRunner().invoke(app, ["config", *args])
    if result.exit_code:
        raise result.exception or AssertionError(result.output)
    return result.output


def edit(folder, name="After") -> None:
    (folder / "entities.yaml").write_text(ENTITIES.replace(US, name))


def test_an_edit_goes_live_when_somebody_else_than_its_author_approves_it(folder, unchecked):
    assert name_in_force() == "Before"
    edit(folder)
    assert name_in_force() == "Before"
    assert "changed  entities.yaml" in tieout("status")
    tieout("propose", "--as", "anna", "--reason", "the company was renamed")
    assert name_in_force() == "Before"
    shown = tieout("status", "--diff")
    assert "-    name: Before" in shown
    assert "+    name: After" in shown
    with pytest.raises(ConfigError, match="may not let it go live"):
        tieout("approve", "2", "--as", "Anna")
    tieout("approve", "2", "--as", "ben")
    assert name_in_force() == "After"
    assert "has nothing beyond that" in tieout("status")
    entries = Store(Settings.from_env().store).audit_entries(chain="configuration")
    assert [(e.actor, e.action) for e in entries] == [
        ("tieout", "configuration.bootstrapped"),
        ("anna", "configuration.proposed"),
        ("ben", "configuration.approved"),
    ]
    assert entries[1].payload["changes"] == {"entities.yaml": "changed"}
    assert (
        made_with(Work.from_env().settings)["configuration"]["entities.yaml"]
        == (entries[2].payload["files"]["entities.yaml"])
    )


def test_a_new_proposal_does_not_free_the_author_of_the_one_it_replaces(folder, unchecked):
    name_in_force()
    edit(folder)
    tieout("propose", "--as", "anna", "--reason", "the company was renamed")
    edit(folder, "After all")
    tieout("propose", "--as", "ben", "--reason", "spelled right")
    for who in ("anna", "ben"):
        with pytest.raises(ConfigError, match="second person"):
            tieout("approve", "3", "--as", who)
    with pytest.raises(ConfigError, match="no such proposal"):
        tieout("approve", "2", "--as", "cy")
    tieout("reject", "3", "--as", "cy", "--reason", "not yet")
    assert name_in_force() == "Before"


def test_what_changes_nothing_or_has_no_reason_is_not_proposed(folder, unchecked):
    name_in_force()
    with pytest.raises(ConfigError, match="nothing to propose"):
        tieout("propose", "--as", "anna", "--reason", "again")
    edit(folder)
    with pytest.raises(ConfigError, match="who makes it and why"):
        tieout("propose", "--as", "anna", "--reason", " ")


def test_what_cannot_be_used_is_not_proposed(folder):
    (folder / "entities.yaml").write_text("entities: [{id: US}]\n")
    with pytest.raises(ConfigError, match=r"cannot be used; got: entities.yaml is not usable"):
        tieout("propose", "--as", "anna", "--reason", "half done")


def test_a_file_changed_where_the_approved_ones_lie_is_put_right(folder):
    live = Work.from_env().settings.config
    (live / "entities.yaml").write_text(ENTITIES.replace(US, "Sneaked in"))
    (live / "quality" / "more.yaml").write_text("{}")
    assert name_in_force() == "Before"
    assert not (live / "quality" / "more.yaml").exists()


def test_the_workflows_take_their_shape_from_what_is_in_force(folder):
    name_in_force()
    (folder / "entities.yaml").write_text(ENTITIES.replace(US, "x").replace("id: US", "id: UK"))
    assert catalog.entity_ids() == ("US", "DE", "JP")


def test_switched_off_the_folder_is_used_as_it_is(folder, monkeypatch):
    monkeypatch.setenv("TIEOUT_CONFIG_APPROVAL", "off")
    edit(folder)
    assert name_in_force() == "After"
    monkeypatch.setenv("TIEOUT_CONFIG_APPROVAL", "perhaps")
    with pytest.raises(ConfigError, match="TIEOUT_CONFIG_APPROVAL"):
        Settings.from_env()
