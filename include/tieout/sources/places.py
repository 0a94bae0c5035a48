"""Where dropped files are: a folder on this machine, in an S3 bucket or on an SFTP server, behind one interface.

The address is the connection's host, the credentials are its login and password:

    file:///srv/tieout/drop
    s3://bucket/folder          login = key id, password = secret, extra: region, endpoint (another S3 than Amazon's)
    sftp://server:22/folder     login, password or extra: key_file; extra: host_key ("ssh-ed25519 AAAA…")

Any other address is left to fsspec. An SFTP server whose key is not the one configured is never signed in to.
"""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import fsspec

from tieout.errors import ConfigError, Unavailable
from tieout.settings import Connection
from tieout.transport import checked_address

TIMEOUT = 30.0  # seconds to connect, and to wait for an answer


def place(connection: Connection) -> tuple[Any, str]:
    """The fsspec file system of a connection and the folder in it.

    Raises ConfigError for an address or credentials that cannot be used, Unavailable where the server is not there.
    """
    match urlsplit(connection.host).scheme:
        case "s3":
            return _bucket(connection)
        case "sftp":
            return _sftp(connection)
    found: tuple[Any, str] = fsspec.core.url_to_fs(connection.host)
    return found


@contextlib.contextmanager
def told(source: str, address: str) -> Iterator[None]:
    """Faults of the place's server and of the way to it, raised as Unavailable of the source."""
    try:
        yield
    except Exception as error:
        if not isinstance(error, OSError | EOFError) and not type(error).__module__.startswith("paramiko."):
            raise
        why = f"the place of the files failed: {type(error).__name__}: {error}"
        raise Unavailable(why, source=source, request=address) from error


def _bucket(connection: Connection) -> tuple[Any, str]:
    from fsspec.implementations.arrow import ArrowFSWrapper
    from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem

    endpoint = connection.extra.get("endpoint")
    options: dict[str, Any] = {"region": connection.extra.get("region")}
    if endpoint:
        parts = urlsplit(checked_address(str(endpoint), connection.conn_id))
        # buckets stand in the path: a server of one's own seldom has a name for each
        options |= {"endpoint_override": parts.netloc, "scheme": parts.scheme, "force_virtual_addressing": False}
        options["region"] = options["region"] or "us-east-1"
    if connection.login:
        options |= {"access_key": connection.login, "secret_key": connection.password}
    store = S3FileSystem(
        **{name: value for name, value in options.items() if value is not None},
        connect_timeout=TIMEOUT,
        request_timeout=TIMEOUT,
        retry_strategy=AwsStandardS3RetryStrategy(max_attempts=5),
    )

    class _Bucket(ArrowFSWrapper):  # type: ignore[misc]
        """A bucket has keys, no folders: none is made for a key to stand in."""

        def makedirs(self, path: str, exist_ok: bool = False) -> None:
            pass

        def mv(self, path1: str, path2: str, **_: Any) -> None:
            self.fs.copy_file(path1, path2)
            try:
                self.fs.delete_file(path1)
            except OSError:  # pyarrow puts a mark where a folder became empty, which not every server takes
                if self.exists(path1):
                    raise

    parts = urlsplit(connection.host)
    return _Bucket(store), f"{parts.netloc}{parts.path}".rstrip("/")


def known_host_key(connection: Connection) -> Any:
    """The key an SFTP server must have (`paramiko.PKey`). Raises ConfigError where the connection has none."""
    import paramiko

    known = str(connection.extra.get("host_key") or "")
    try:
        kind, text = known.split()[:2]
        return paramiko.PKey.from_type_string(kind, base64.b64decode(text, validate=True))
    except (ValueError, paramiko.SSHException, paramiko.pkey.UnknownKeyType):
        raise ConfigError(
            "an SFTP connection needs the server's key", record=connection.conn_id,
            expected='extra: {"host_key": "ssh-ed25519 AAAA…"}',
            remedy="ask the server's operator for it, or compare what `ssh-keyscan` shows with what they publish",
        ) from None  # fmt: skip


def _sftp(connection: Connection) -> tuple[Any, str]:
    import paramiko
    from fsspec.implementations.sftp import SFTPFileSystem

    parts, host_key = urlsplit(connection.host), known_host_key(connection)
    name = parts.hostname or ""
    port = parts.port or 22

    class _KnownServer(SFTPFileSystem):  # type: ignore[misc]
        """fsspec's SFTP takes any server's key; this one takes one."""

        cachable = False

        def _connect(self) -> None:
            self.client = paramiko.SSHClient()
            self.client.get_host_keys().add(name if port == 22 else f"[{name}]:{port}", host_key.get_name(), host_key)
            self.client.set_missing_host_key_policy(paramiko.RejectPolicy())
            self.client.connect(name, **self.ssh_kwargs)
            self.ftp = self.client.open_sftp()
            if channel := self.ftp.get_channel():
                channel.settimeout(TIMEOUT)

    try:
        server = _KnownServer(
            name, port=port, username=connection.login, password=connection.password,
            key_filename=connection.extra.get("key_file"), allow_agent=False, look_for_keys=False,
            timeout=TIMEOUT, auth_timeout=TIMEOUT, banner_timeout=TIMEOUT,
        )  # fmt: skip
    except paramiko.BadHostKeyException:
        raise ConfigError(
            "the SFTP server's key is not the one configured; nothing was sent", record=connection.conn_id,
            remedy="if the server's operator has changed its key, put the new one into extra: host_key",
        ) from None  # fmt: skip
    except paramiko.AuthenticationException:
        raise ConfigError("the SFTP server refused login and password", record=connection.conn_id) from None
    except (OSError, EOFError, paramiko.SSHException) as error:
        raise Unavailable("the SFTP server cannot be reached", source=connection.conn_id, request=str(error)) from None
    return server, parts.path.rstrip("/") or "/"
