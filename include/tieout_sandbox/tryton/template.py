"""Databases of the ERP made once and kept as dumps: modules, then companies and chart, then a ledger with history.

Each stage is keyed by the content of what makes it, so a change of code, pins, seed or scale makes a new one and
everything else starts from the cache in a second.
"""

from __future__ import annotations

import hashlib
import secrets
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from tieout_sandbox import postgres
from tieout_sandbox.cache import keep_newest, locked
from tieout_sandbox.tryton import chart, environment, server

MODULES = ("account", "analytic_account")
Say = Callable[[str], None]
"""Tells a person what takes a while; called only when something is made, not when it comes from the cache."""


def _silent(_: str) -> None: ...


def content_key(*parts: str | bytes | Path) -> str:
    """SHA-256 over texts and the contents of files and folders of Python files."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            files = sorted(part.rglob("*.py")) if part.is_dir() else [part]
            for file in files:
                digest.update(file.name.encode() + b"\0" + file.read_bytes())
        else:
            digest.update(part if isinstance(part, bytes) else part.encode())
        digest.update(b"\1")
    return digest.hexdigest()


def modules(pg: postgres.Server, database: str, *, say: Say = _silent) -> str:
    """Make `database` with the modules activated, from the cache if possible. Returns its key."""
    key = content_key(environment.requirements_hash(), str(pg.binaries.major), *MODULES)

    def make() -> None:
        say("installing the ERP's modules (half a minute, once)")
        pg.create(database)
        with tempfile.TemporaryDirectory() as folder:
            conf = server.write_config(Path(folder), pg, port=1)
            secret = Path(folder) / "admin"
            secret.touch(mode=0o600)
            secret.write_text(secrets.token_urlsafe(24) + "\n")
            environment.run(
                "trytond-admin",
                *("-c", conf, "-d", database, "-u", *MODULES, "--all", "--activate-dependencies"),
                *("--email", "admin@example.com"),
                env={"TRYTONPASSFILE": str(secret)},
            )

    _from_cache(pg, database, f"modules-{key[:16]}", make)
    return key


def companies(pg: postgres.Server, database: str, *, last_year: int | None = None, say: Say = _silent) -> str:
    """Make `database` with companies, charts, fiscal years to `last_year` (the current one) and users."""
    last_year = last_year or datetime.now(UTC).year

    def make() -> None:
        modules(pg, database, say=say)
        say("setting up the ERP's companies, charts and users (once)")
        with tempfile.TemporaryDirectory() as folder:
            conf = server.write_config(Path(folder), pg, port=1)
            environment.run("python", environment.HERE / "bootstrap.py", database, conf, str(last_year))

    key = _companies_key(pg, last_year)
    _from_cache(pg, database, f"companies-{key[:16]}", make)
    return key


def ledger(
    pg: postgres.Server, database: str, *, history_key: str, load: Callable[[str], None], say: Say = _silent
) -> str:
    """Make `database` with companies, charts and a history that `load(database)` fills in.

    `history_key` names what it is filled with; the loading code is part of the key.
    """

    def make() -> None:
        companies(pg, database, say=say)
        say("loading the ledger's history (once per company)")
        load(database)

    code = content_key(environment.HERE / "history.py")
    key = content_key(_companies_key(pg, datetime.now(UTC).year), code, history_key)
    _from_cache(pg, database, f"ledger-{key[:16]}", make)
    return key


def _companies_key(pg: postgres.Server, last_year: int) -> str:
    return content_key(
        environment.requirements_hash(),
        str(pg.binaries.major),
        *MODULES,
        Path(chart.__file__),
        environment.HERE / "bootstrap.py",
        str(last_year),
    )


def _from_cache(pg: postgres.Server, database: str, name: str, make: Callable[[], None]) -> None:
    with locked(f"erp/{name}.dump") as dump:
        if dump.exists():
            dump.touch()
            pg.restore(dump, database)
        else:
            make()
            pg.dump(database, dump)
            keep_newest(f"erp/{name.partition('-')[0]}-*.dump")
