"""No credential of the demo is in anything it leaves: data root, logs, output, XCom; also inside packed files."""

import re
import sqlite3
import zipfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tieout_sandbox.simulators.salesforce.api import ORG

SECRET = "planted-5f1c0a7e93b24d68"
ACCESS_TOKEN = re.compile(re.escape(ORG[:15]).encode() + rb"![0-9a-f]{64}")

pytestmark = [pytest.mark.server, pytest.mark.timeout(1600)]


def contents(path: Path) -> Iterator[bytes]:
    """A file's bytes, and what its format packs: columns of Parquet, members of a workbook, rows of a database."""
    raw = path.read_bytes()
    yield raw
    if raw.startswith(b"PAR1"):
        table = pq.read_table(path, partitioning=None)
        yield repr(table.schema).encode()
        yield from map(bytes, (part for pair in (table.schema.metadata or {}).items() for part in pair))
        for column in table.columns:
            for chunk in column.chunks:
                plain = chunk.dictionary_decode() if isinstance(chunk, pa.DictionaryArray) else chunk
                yield from (buffer.to_pybytes() for buffer in plain.buffers() if buffer)
    elif raw.startswith(b"PK"):
        with zipfile.ZipFile(path) as packed:
            yield from map(packed.read, packed.namelist())
    elif raw.startswith(b"SQLite format 3"):
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
            for (name,) in tables:
                for row in database.execute(f'SELECT * FROM "{name}"'):
                    yield repr(row).encode()


def leaks(paths, secrets: dict[str, str]) -> list[tuple[str, str]]:
    """Which file holds which secret, by the name of its place, or a session's token."""
    wanted = {name: secret.encode() for name, secret in secrets.items()}
    found = set()
    for path in paths:
        for content in contents(path):
            found |= {(str(path), name) for name, secret in wanted.items() if secret in content}
            if b"!" in content and ACCESS_TOKEN.search(content):
                found.add((str(path), "salesforce access token"))
    return sorted(found)


def files_below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_the_search_finds_a_secret_in_every_kind_of_file(tmp_path):
    words = [f"row {n} {SECRET if n == 700 else ''}" for n in range(1000)]
    pq.write_table(pa.table({"n": range(1000), "t": words}), tmp_path / "plain.parquet", compression="zstd")
    packed = pa.table({"t": pa.array(words).dictionary_encode()})
    pq.write_table(packed, tmp_path / "dictionary.parquet", compression="zstd")
    with zipfile.ZipFile(tmp_path / "book.xlsx", "w", zipfile.ZIP_DEFLATED) as book:
        book.writestr("xl/sharedStrings.xml", " ".join(words))
    with closing(sqlite3.connect(tmp_path / "store.sqlite")) as database:
        database.execute("CREATE TABLE facts (text TEXT)")
        database.execute("INSERT INTO facts VALUES (?)", (f"{'x' * 9000} {SECRET}",))
        database.commit()
    (tmp_path / "task.log").write_text(f"Authorization: Bearer {SECRET}\n")
    (tmp_path / "token.log").write_text(f"Bearer {ORG[:15]}!{'0f' * 32}\n")
    (tmp_path / "clean.log").write_text("nothing here\n")
    found = {(Path(path).name, name) for path, name in leaks(files_below(tmp_path), {"planted": SECRET})}
    assert found == {
        *(
            (name, "planted")
            for name in ("plain.parquet", "dictionary.parquet", "book.xlsx", "store.sqlite", "task.log")
        ),
        ("token.log", "salesforce access token"),
    }


def test_every_kind_of_credential_is_known(demo):
    expected = {
        "AIRFLOW_CONN_TRYTON", "AIRFLOW_CONN_SALESFORCE", "AIRFLOW_CONN_ZENDESK", "AIRFLOW_CONN_STRIPE_US",
        "AIRFLOW_CONN_STRIPE_DE", "AIRFLOW_CONN_STRIPE_JP", "control token", "ERP admin", "PostgreSQL",
        "Airflow admin", "AIRFLOW__CORE__FERNET_KEY", "AIRFLOW__API__SECRET_KEY", "AIRFLOW__API_AUTH__JWT_SECRET",
    }  # fmt: skip
    assert expected <= set(demo.secrets)
    assert all(len(secret) >= 16 for secret in demo.secrets.values())


def test_no_credential_is_in_any_log_report_or_file_of_the_data_root_nor_in_airflows_metadata(demo):
    passwords = demo.run / "airflow" / "passwords.json"
    assert passwords.stat().st_mode & 0o777 == 0o600
    searched = [path for path in (*files_below(demo.data), *files_below(demo.run)) if path != passwords]
    assert demo.run / "airflow" / "airflow.db" in searched
    assert any(path.is_relative_to(demo.run / "airflow" / "logs") for path in searched)
    assert any(path.is_relative_to(demo.run / "sandbox") for path in searched)
    assert {".parquet", ".xlsx", ".html", ".json", ".log", ".sqlite"} <= {path.suffix for path in searched}
    assert len(searched) > 100
    assert leaks(searched, demo.secrets) == []
    assert not any(secret in demo.output for secret in demo.secrets.values())


def test_no_credential_travels_through_xcom_or_a_rendered_field(demo):
    with closing(sqlite3.connect(f"file:{demo.run / 'airflow' / 'airflow.db'}?mode=ro", uri=True)) as metadata:
        values = [str(row[0]) for row in metadata.execute("SELECT value FROM xcom")]
        rendered = [
            str(row[0]) for row in metadata.execute("SELECT rendered_fields FROM rendered_task_instance_fields")
        ]
    assert values
    for secret in demo.secrets.values():
        assert not any(secret in value for value in (*values, *rendered))
    assert max(map(len, values)) < 20_000


def test_no_credential_is_an_argument_of_a_process(demo):
    seen = demo.outside.arguments
    for part in ("airflow", "trytond", "postgres", "tieout_sandbox.demo"):
        assert any(part in arguments for arguments in seen), f"{part} was not seen running"
    shown = {name for name, secret in demo.secrets.items() if any(secret in arguments for arguments in seen)}
    assert shown == set()


def test_every_server_listens_on_loopback_alone(demo):
    assert demo.outside.addresses == {"127.0.0.1"}


def test_airflow_tells_a_stranger_nothing_but_that_it_lives(demo):
    open_to_all = {path for path, status in demo.outside.answers.items() if status not in (401, 403, 404, 405)}
    assert len(demo.outside.answers) > 50
    assert open_to_all <= {"GET /api/v2/monitor/health", "GET /api/v2/version", *SIGN_IN}


SIGN_IN = {"GET /api/v2/auth/login", "GET /api/v2/auth/logout", "GET /docs", "GET /redoc", "GET /openapi.json"}


def test_what_is_left_is_its_own_users_alone(demo):
    for folder in (demo.data, demo.run, demo.run / "airflow", demo.run / "sandbox"):
        assert folder.stat().st_mode & 0o077 == 0, folder
