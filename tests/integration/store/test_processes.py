"""Several processes on one store, on SQLite and on PostgreSQL: nothing lost, nobody fails, the chain stays whole."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL

from tieout.errors import LeaseHeld
from tieout.store import Store

WORKER = """
import sys
from decimal import Decimal
from tieout.errors import LeaseHeld, StaleWatermark
from tieout.store import Store
url, name = sys.argv[1:]
store = Store(url)
store.upgrade()
held = 0
for number in range(8):
    store.audit("US/main", "act", name, {"number": number, "amount": Decimal("0.10")})
    store.publish(name, {"invoice": number})
    while True:
        mark = store.watermark("shared")
        try:
            count, token = (mark.value["count"], mark.token) if mark else (0, 0)
            store.set_watermark("shared", {"count": count + 1}, token)
            break
        except StaleWatermark:
            continue
    try:
        with store.lease("US/main"):
            held += 1
    except LeaseHeld:
        pass
print(held)
"""
HOLDER = """
import sys, time
from tieout.store import Store
store = Store(sys.argv[1])
store.acquire("US/main")
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.server)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'store.sqlite'}"
        return
    template: Any = request.getfixturevalue("erp_template")
    name = f"store_{abs(hash(tmp_path)) % 10**9}"
    template.pg.create(name)
    yield url_of(template.pg.dsn(name))
    template.pg.drop(name)


def url_of(dsn: str) -> str:
    """SQLAlchemy's form of a libpq connection string."""
    from psycopg.conninfo import conninfo_to_dict

    parts = conninfo_to_dict(dsn)
    made = URL.create(
        "postgresql",
        username=str(parts["user"]),
        password=str(parts["password"]),
        host=str(parts["host"]),
        port=int(str(parts["port"])),
        database=str(parts["dbname"]),
    )
    return made.render_as_string(hide_password=False)


def start(code: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_processes_at_once_lose_nothing(url: str) -> None:
    workers = [start(WORKER, url, f"worker{n}") for n in range(3)]
    for worker in workers:
        _, errors = worker.communicate(timeout=180)
        assert worker.returncode == 0, errors
    store = Store(url)
    mark = store.watermark("shared")
    assert mark is not None
    assert (mark.value, mark.token) == ({"count": 24}, 24)
    assert store.verify_audit("US/main", [store.anchor("US/main")]) == []
    assert len(store.audit_entries("US/main")) == 24
    assert store.published() == {"invoice": 7}
    assert store.lease_is_free("US/main")


def test_the_lease_of_a_killed_process_is_free_at_once_and_its_token_spent(url: str) -> None:
    store = Store(url)
    store.upgrade()
    holder = start(HOLDER, url)
    assert holder.stdout is not None
    assert holder.stdout.readline().strip() == "held"
    with pytest.raises(LeaseHeld):
        store.acquire("US/main")
    holder.kill()
    holder.communicate()
    assert store.acquire("US/main", ttl=timedelta(minutes=1)).token == 2


@pytest.mark.server
def test_postgresql_refuses_to_change_the_audit_log(erp_template: Any) -> None:
    import psycopg

    erp_template.pg.create("store_audit")
    store = Store(url_of(erp_template.pg.dsn("store_audit")))
    store.upgrade()
    store.audit("US/main", "act", "me", {})
    with erp_template.pg.connect("store_audit") as connection:
        for statement in ("UPDATE audit_log SET actor = 'x'", "DELETE FROM audit_log", "TRUNCATE audit_log"):
            with pytest.raises(psycopg.errors.RaiseException, match="append-only"):
                connection.execute(statement)
