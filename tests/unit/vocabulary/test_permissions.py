"""What Tieout keeps is its own user's alone, whoever opens it first: a command, a notebook, a task."""

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import text

from tieout import schema
from tieout.lake.landing import Landing
from tieout.lake.tables import Lake
from tieout.settings import Settings, private_folder
from tieout.store import Store


@pytest.fixture(autouse=True)
def everybody_may_read_by_default():
    before = os.umask(0o022)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def put_page(home: Path) -> None:
    writer = Landing(home / "raw").open("s", "o", window_lo=None, window_hi=None, extract_id="1")
    writer.page([{"a": 1}], request_id=None, http_status=None, fetched_at=datetime(2026, 1, 1, tzinfo=UTC))
    writer.commit()


def upgrade(home: Path) -> None:
    Store(f"sqlite:///{home / 'store.sqlite'}").upgrade()


def write_table(home: Path) -> None:
    Lake(home / "lake").write("totals", schema.table("totals").arrow.empty_table())


@pytest.mark.parametrize("first", [put_page, upgrade, write_table])
def test_whoever_makes_the_data_root_makes_it_private(tmp_path, first):
    home = tmp_path / "deep" / "var"
    first(home)
    assert (mode(tmp_path / "deep"), mode(home)) == (0o700, 0o700)


def test_in_a_data_root_that_others_may_enter_the_parts_are_private(tmp_path):
    home = tmp_path / "var"
    home.mkdir(mode=0o755)
    for make in (put_page, upgrade, write_table):
        make(home)
    assert {path.name: mode(path) for path in home.iterdir()} == {"raw": 0o700, "lake": 0o700, "store.sqlite": 0o600}
    assert mode(home) == 0o755  # it is not ours


def test_what_sqlite_keeps_beside_the_store_is_private_too(tmp_path):
    store = Store(f"sqlite:///{tmp_path / 'store.sqlite'}")
    store.upgrade()
    with store.reading() as session:
        session.execute(text("SELECT 1 FROM sqlite_master"))
        beside = sorted(tmp_path.glob("store.sqlite*"))
        assert {mode(path) for path in beside} == {0o600}


def test_an_existing_folder_keeps_its_mode(tmp_path):
    (tmp_path / "x").mkdir(mode=0o750)
    assert mode(private_folder(tmp_path / "x")) == 0o750


def test_settings_do_not_show_the_stores_password():
    settings = Settings.from_env({"TIEOUT_STORE": "postgresql://tieout:hush@db/tieout"})
    assert "hush" in settings.store
    assert "hush" not in repr(settings)
