"""Where the sandbox keeps what is slow to make: virtual environments, binaries, database templates."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def cache_dir() -> Path:
    """`TIEOUT_SANDBOX_CACHE`, else `tieout-sandbox` in the user's cache folder; made if it is not there."""
    configured = os.environ.get("TIEOUT_SANDBOX_CACHE")
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = Path(configured) if configured else base / "tieout-sandbox"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder.resolve()


@contextmanager
def locked(name: str) -> Iterator[Path]:
    """Hold the cache entry `name` (its path is given) so that two processes never make it at once."""
    path = cache_dir() / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(path.name + ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield path


def keep_newest(pattern: str, count: int = 6) -> None:
    """Delete all but the `count` entries used last that match `pattern`: every change of code makes new ones."""
    by_age = sorted(cache_dir().glob(pattern), key=lambda path: path.stat().st_mtime, reverse=True)
    for outdated in by_age[count:]:
        outdated.unlink(missing_ok=True)
