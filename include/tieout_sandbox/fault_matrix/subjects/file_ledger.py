"""The ledger in a file in the fault matrix: no network, so cheap that it is killed at every commit of the store too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tieout_sandbox.fault_matrix.subject import Shared, Subject
from tieout_sandbox.file_ledger import FileLedger


@dataclass(frozen=True)
class RunningFile:
    """A file nobody needs to serve."""

    path: Path
    url: None = None

    def ledger(self, url: str | None = None, *, timeout: float = 60.0) -> FileLedger:
        return FileLedger(self.path)

    def restart(self) -> None:
        """Nothing runs."""

    def expire_sessions(self) -> None:
        """Nobody logs in."""


@contextmanager
def start(shared: Shared) -> Iterator[RunningFile]:
    """A ledger in the subject's folder."""
    yield RunningFile(shared.folder / "erp.sqlite")


SUBJECT = Subject(name="file_ledger", start=start, network=False, write_offs=True)
