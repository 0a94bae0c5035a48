"""Named steps of a run with wall time, peak memory and counts, written as one log line each."""

from __future__ import annotations

import logging
import re
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

log = logging.getLogger("tieout")

_SECRET = re.compile(
    r"(?i)(authorization|password|passwd|secret|token|api[-_]?key|apiaccesskeyid|session)(\"?\s*[:=]\s*\"?)([^\s\",;&]+(?:\s+[^\s\",;&]+)?)"
)
_KEYS = re.compile(r"\b(sk|rk|whsec)_[A-Za-z0-9_]{6,}")


@dataclass(slots=True)
class Step:
    """A step under way; add counts with `step.count(rows=…)`."""

    name: str
    counts: dict[str, int | str] = field(default_factory=dict)
    seconds: float = 0.0
    peak_mb: int = 0

    def count(self, **counts: int | str) -> None:
        """Add facts to the step's log line."""
        self.counts.update(counts)


@contextmanager
def step(name: str) -> Iterator[Step]:
    """Time a step; its log line is written whether it ends well or not."""
    current, start = Step(name), time.perf_counter()
    try:
        yield current
    finally:
        current.seconds = round(time.perf_counter() - start, 3)
        current.peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        facts = " ".join(f"{k}={v}" for k, v in current.counts.items())
        log.info("step=%s seconds=%.3f peak_mb=%d %s", name, current.seconds, current.peak_mb, facts)


def redact(text: str) -> str:
    """`text` with anything that looks like a credential replaced by `***`."""
    return _KEYS.sub("***", _SECRET.sub(r"\1\2***", text))
