"""The guardrails of one ERP on one machine: calls per second and open calls, however many processes and threads call.

Kept in files whose locks die with their process: one per open call, and one with the times of the last calls. A call
starts only once the call so many before it has ended a whole second ago; the ERP got that one before it ended and gets
this one after it starts, so it never sees more within a second, however slow the way to it is. What runs on several
machines is bounded by the one slot of the ERP's pool.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tieout.errors import ErpUnavailable
from tieout.ids import sha256_hex

_LOOK_AGAIN = 0.005  # seconds


class Pace:
    """Lets calls to the ERP at `address` start.

    `patience`: seconds to wait for an open call to end; then the ERP counts as unavailable. A call that has not ended
    by then, because its process died, no longer counts.
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
        self._address, self._patience = address, patience
        self._most = max(1, math.floor(calls_per_second)) if calls_per_second else 0
        self._within = self._most / calls_per_second if calls_per_second else 0.0  # a second; longer below one a second
        root = folder or Path(tempfile.gettempdir()) / f"tieout-{os.getuid()}"
        home = root / f"erp-{sha256_hex(address)[:16]}"
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._times = home / "times"
        self._open = [home / f"open-{number}" for number in range(open_calls)]

    @contextmanager
    def call(self) -> Iterator[None]:
        """Hold an open call for the block, once its turn has come. Raises ErpUnavailable if none becomes free."""
        held = self._take()
        try:
            started = self._wait_for_turn()
            try:
                yield
            finally:
                self._ended(started)
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

    def _wait_for_turn(self) -> float:
        """When this call started (a moment of its own), once it may."""
        while self._most:
            with self._calls() as calls:
                now = time.monotonic()
                for started, ended in list(calls.items()):
                    over = ended + self._within if ended else float(started) + self._patience
                    if over <= now or float(started) > now:  # the latter: of another boot, the clock began anew
                        del calls[started]
                if len(calls) < self._most and repr(now) not in calls:
                    calls[repr(now)] = 0.0
                    return now
                wait = min((ended + self._within - now for ended in calls.values() if ended), default=_LOOK_AGAIN)
            time.sleep(max(wait, _LOOK_AGAIN))
        return 0.0

    def _ended(self, started: float) -> None:
        if self._most:
            with self._calls() as calls:
                calls[repr(started)] = time.monotonic()

    @contextmanager
    def _calls(self) -> Iterator[dict[str, float]]:
        """Start → end (0 while it lasts) of the last calls, locked and kept."""
        file = os.open(self._times, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            calls: dict[str, float] = json.loads(os.pread(file, 1 << 20, 0) or b"{}")
            yield calls
            text = json.dumps(calls).encode()
            os.ftruncate(file, len(text))
            os.pwrite(file, text, 0)
        finally:
            os.close(file)
