"""The guardrails of one ERP on one machine: calls per second and open calls, however many processes and threads call.

Kept in locked files that die with their process. A file says when the next call may start; one file per open call is
locked while the call lasts. What runs on several machines is bounded by the one slot of the ERP's pool.
"""

from __future__ import annotations

import fcntl
import os
import struct
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tieout.errors import ErpUnavailable
from tieout.ids import sha256_hex

_MARGIN = 1.05  # calls leave evenly spaced; on their way they may come closer together by this much of a second
_LOOK_AGAIN = 0.005  # seconds
_MOMENT = struct.Struct("d")


class Pace:
    """Lets calls to the ERP at `address` start, one after the other.

    `patience`: seconds to wait for an open call to end; then the ERP counts as unavailable.
    """

    def __init__(
        self,
        address: str,
        *,
        calls_per_second: float | None,
        open_calls: int,
        patience: float,
        folder: Path | None = None,
    ) -> None:
        self._interval = _MARGIN / calls_per_second if calls_per_second else 0.0
        self._patience, self._address = patience, address
        root = folder or Path(tempfile.gettempdir()) / f"tieout-{os.getuid()}"
        home = root / f"erp-{sha256_hex(address)[:16]}"
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._turns = home / "turns"
        self._open = [home / f"open-{number}" for number in range(open_calls)]

    @contextmanager
    def call(self) -> Iterator[None]:
        """Hold an open call for the block, once its turn has come. Raises ErpUnavailable if none becomes free."""
        held = self._take()
        try:
            self._wait_for_turn()
            yield
        finally:
            os.close(held)

    def _take(self) -> int:
        deadline = time.monotonic() + self._patience
        while True:
            for path in self._open:
                file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    os.close(file)
                else:
                    return file
            if time.monotonic() > deadline:
                raise ErpUnavailable(
                    "no open call to the ERP becomes free",
                    record=self._address,
                    expected=f"at most {len(self._open)} at once",
                    remedy="find the process whose call hangs, or allow more `open_calls`",
                )
            time.sleep(_LOOK_AGAIN)

    def _wait_for_turn(self) -> None:
        if not self._interval:
            return
        file = os.open(self._turns, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            kept, now = os.pread(file, _MOMENT.size, 0), time.monotonic()
            due = _MOMENT.unpack(kept)[0] if len(kept) == _MOMENT.size else now
            if due > now + self._patience:
                due = now  # of another boot: the clock began anew
            mine = max(due, now)
            os.pwrite(file, _MOMENT.pack(mine + self._interval), 0)
        finally:
            os.close(file)
        time.sleep(mine - now)
