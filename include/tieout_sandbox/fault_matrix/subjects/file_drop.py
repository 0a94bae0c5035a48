"""The file drop in the fault matrix: a legacy ERP whose import runs beside, with the faults that only files have."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tieout import erp as erp_port
from tieout.settings import Connection
from tieout_sandbox.fault_matrix.subject import Shared, Subject
from tieout_sandbox.simulators.legacy_erp import LegacyErp

CONFIG = {
    "companies": {"US": "0100"},
    "currencies": {"US": "USD"},
    "dimensions": ["product_family"],
    "look_every": 0.005,
}


@dataclass
class RunningDrop:
    """A legacy ERP and its folder."""

    erp: LegacyErp
    url: None = None

    def ledger(self, url: str | None = None, *, timeout: float = 60.0) -> erp_port.Ledger:
        connection = Connection("legacy", f"file://{self.erp.root}")
        return erp_port.connect("file_drop", connection, CONFIG | {"acknowledged_within": min(timeout, 20.0)})

    def restart(self) -> None:
        """Its import begins anew from what its folder holds; it keeps nothing else."""

    def expire_sessions(self) -> None:
        """Nobody logs in."""


@contextmanager
def start(shared: Shared) -> Iterator[RunningDrop]:
    """A folder in the subject's own, and the import job over it."""
    root = shared.folder / "exchange"
    root.mkdir()
    erp = LegacyErp(root, {"0100": "USD"}, {"11000": "Receivable", "40100": "Revenue"})
    with erp.running():
        yield RunningDrop(erp)


def _unspoken(running: RunningDrop) -> None:
    running.erp.unspoken = 1


SUBJECT = Subject(
    name="file_drop", start=start, network=False, own_faults={"imported without an acknowledgement": _unspoken}
)
