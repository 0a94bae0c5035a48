"""A drop folder on an S3 server and on an SFTP server: read, archived, and never half."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paramiko
import pytest
from pyarrow.fs import S3FileSystem
from usage_world import World, event, json_lines, parquet_rows

from tieout.errors import ConfigError, Unavailable
from tieout.settings import Connection
from tieout.sources.places import place

BIN = Path(sys.executable).parent


def served(folder: Path, *command: str) -> Iterator[int]:
    """A server on a loopback port, until it is no longer needed; `{port}` in its command becomes the port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    options = [part.replace("{port}", str(port)) for part in command[1:]]
    with subprocess.Popen(
        [str(BIN / command[0]), *options], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as server:
        try:
            deadline = time.monotonic() + 60
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    if time.monotonic() > deadline or server.poll() is not None:
                        raise
                    time.sleep(0.05)
            yield port
        finally:
            server.terminate()


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    for port in served(tmp_path_factory.mktemp("s3"), "moto_server", "-H", "127.0.0.1", "-p", "{port}"):
        keys: Any = {"access_key": "key", "secret_key": "a-secret", "region": "us-east-1", "scheme": "http"}
        S3FileSystem(
            endpoint_override=f"127.0.0.1:{port}", allow_bucket_creation=True, force_virtual_addressing=False, **keys
        ).create_dir("usage-drop")
        extra = {"endpoint": f"http://127.0.0.1:{port}"}
        connection = Connection("drop", "s3://usage-drop/in", "key", "a-secret", extra=extra)
        fs, root = place(connection)
        fs.pipe_file(f"{root}/README", b"usage goes here")
        yield connection


@pytest.fixture(scope="session")
def sftp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    home = tmp_path_factory.mktemp("sftp")
    (home / "files" / "in").mkdir(parents=True)
    key = paramiko.ECDSAKey.generate()
    key.write_private_key_file(str(home / "host"))
    options = ("--user", "fin", "--pass", "a-secret", "--key", str(home / "host"), "--vfs-cache-mode", "writes")
    for port in served(home, "rclone", "serve", "sftp", "--addr", "127.0.0.1:{port}", *options, str(home / "files")):
        extra = {"host_key": f"{key.get_name()} {key.get_base64()}"}
        yield Connection("drop", f"sftp://127.0.0.1:{port}/in", "fin", "a-secret", extra=extra)


@pytest.fixture(params=["s3", "sftp"])
def elsewhere(request: pytest.FixtureRequest) -> Connection:
    connection: Connection = request.getfixturevalue(request.param)
    return connection


def test_files_are_read_from_elsewhere_and_archived_after_the_commit(world: World, elsewhere: Connection) -> None:
    fs, root = place(elsewhere)
    large = parquet_rows([event(f"p{n}") for n in range(5)])
    world.drop(root, "a.jsonl", json_lines([event("e1"), event("e2")]), 2, fs=fs)
    world.drop(root, "b.parquet", large, 5, fs=fs)
    world.drop(root, "bad.csv", b"no,usage\n1,2\n", 1, fs=fs, sha256="0" * 64)
    world.drop(root, "half.jsonl", json_lines([event("e3")]), 1, fs=fs, size=10_000)
    (ref,) = world.read(elsewhere, page_rows=3, archive="done")
    assert (ref.records, ref.faults, ref.control.proven) == (8, 1, True)
    assert ref.facts["left_alone"] == {
        "dt=2026-03-01/half.jsonl": f"half written: {len(json_lines([event('e3')]))} of 10000 bytes"
    }
    assert Path(ref.path_of(ref.as_is[0])).read_bytes() == large
    left = {f["name"].rsplit("/", 1)[1] for f in fs.ls(f"{root}/usage/dt=2026-03-01", detail=True)}
    assert left == {"_MANIFEST.json", "bad.csv", "half.jsonl"}  # what was not landed stays
    archived = fs.cat_file(f"{root}/done/usage/dt=2026-03-01/{hashlib.sha256(large).hexdigest()[:12]}-b.parquet")
    assert archived == large
    result = world.conform()
    assert (result.rows_out, result.rows_quarantined) == (7, 1)
    (waiting,) = world.table("quarantine").to_pylist()
    assert (waiting["source_id"], waiting["superseded"]) == ("usage/dt=2026-03-01/bad.csv", False)
    assert waiting["reason"].startswith("the whole file set aside: checksum differs from the manifest")

    # mended, the file and the manifest are read, and the record that stood for the file waits no longer
    mended_csv = b"event_id,occurred_at,subscription_id,meter,quantity\nc1,2026-03-01T09:00:00Z,s,m,1\n"
    for name, content in (("bad.csv", mended_csv), ("half.jsonl", json_lines([event("e3")]))):
        world.drop(root, name, content, 1, fs=fs)
    (mended,) = world.read(elsewhere, page_rows=3, archive="done")
    assert (mended.records, mended.faults) == (2, 0)
    assert world.conform().rows_out == 2
    assert [row["superseded"] for row in world.table("quarantine").to_pylist()] == [True]
    assert world.read(elsewhere, page_rows=3, archive="done") == []
    assert not [f for f in fs.find(f"{root}/usage") if not f.endswith("/")]  # the manifest went last


def test_a_server_with_another_key_is_never_signed_in_to(sftp: Connection) -> None:
    other = paramiko.ECDSAKey.generate()
    extra = {"host_key": f"{other.get_name()} {other.get_base64()}"}
    with pytest.raises(ConfigError, match="key is not the one configured"):
        place(Connection("drop", sftp.host, sftp.login, sftp.password, extra=extra))
    with pytest.raises(ConfigError, match="needs the server's key"):
        place(Connection("drop", sftp.host, sftp.login, sftp.password))


def test_wrong_credentials_are_told_and_not_shown(world: World, sftp: Connection) -> None:
    wrong = Connection("drop", sftp.host, sftp.login, "another-secret", extra=sftp.extra)
    with pytest.raises(ConfigError, match="refused login and password") as told:
        world.read(wrong)
    assert "another-secret" not in str(told.value)


def test_a_server_that_is_gone_is_unavailable_and_poisons_nothing(
    world: World, sftp: Connection, monkeypatch: Any
) -> None:
    fs, root = place(sftp)
    world.drop(f"{root}/gone", "a.jsonl", json_lines([event("e9")]), 1, fs=fs)
    there = Connection("drop", f"{sftp.host}/gone", sftp.login, sftp.password, extra=sftp.extra)

    def cut(self: Any, path: str, local: str, *rest: Any, **more: Any) -> None:
        Path(local).write_bytes(b"half")
        raise EOFError

    with monkeypatch.context() as broken:
        broken.setattr(paramiko.SFTPClient, "get", cut)
        with pytest.raises(Unavailable, match="the place of the files failed"):
            world.read(there)
    (ref,) = world.read(there)
    assert (ref.records, ref.faults) == (1, 0)
