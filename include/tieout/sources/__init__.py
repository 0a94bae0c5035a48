"""Reading the outside: one module per kind of system, all of them landing whole extracts and moving watermarks."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tieout.lake.landing import ExtractRef, Landing
    from tieout.settings import Connection
    from tieout.sources.client import Clock
    from tieout.sources.config import SourceConfig
    from tieout.store import Store

__all__ = ["catch_up", "read_until"]


def catch_up(
    source: SourceConfig,
    connection: Connection,
    *,
    landing: Landing,
    store: Store,
    until: datetime | None = None,
    clock: Clock | None = None,
) -> list[ExtractRef]:
    """Read everything a source has that was not read yet, up to `until`, and return the new committed extracts.

    Does nothing if the source has been read past `until`. Every extract is whole or not there; one that a killed
    process committed without moving its watermark is adopted. Raises LeaseHeld while another process reads the
    source, and the errors of `tieout.errors` below SourceError, which name source, window and request.
    """
    from tieout.errors import ConfigError
    from tieout.sources.extract import LEASE, Extraction

    with store.lease(f"extract/{source.name}", ttl=LEASE) as lease:
        run = Extraction(source, landing, store, lease)
        match source.kind:
            case "stripe":
                from tieout.sources.stripe import catch_up as read
            case "salesforce":
                from tieout.sources.salesforce import catch_up as read
            case "zendesk":
                from tieout.sources.zendesk import catch_up as read
            case "files":
                from tieout.sources.files import catch_up as read
            case "http":
                from tieout.sources.http_feed import catch_up as read
            case _:
                raise ConfigError("this kind of source is read through its ERP adapter", record=source.name)
        return read(run, connection, until=until, clock=clock)


def read_until(source: SourceConfig, store: Store) -> datetime | None:
    """Up to when a source has been read: the oldest end among its objects' last windows; None if nothing was."""
    from tieout.sources.extract import read_end

    ends = (read_end(source.name, name, store) for name in source.objects)
    return min((end for end in ends if end), default=None)
