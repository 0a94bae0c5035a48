"""Named steps of a run with wall time, processor time, peak memory and counts, written as one log line each."""

from __future__ import annotations

import logging
import re
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

log = logging.getLogger("tieout")

_NAMES = "authorization|password|passwd|pwd|secret|token|api[-_]?key|apiaccesskeyid|session"
# a text that was cut has no closing quote: then everything to its end may be the secret
_QUOTED = re.compile(rf"""(?is)((?:{_NAMES})["']?\s*[:=]\s*)(["'])(?:\\.|(?!\2).)*(?:\2|\Z)""")
_NESTED = re.compile(rf"""(?is)((?:{_NAMES})(?:\\+["'])?\s*[:=]\s*)(\\+["'])(?:(?!\2).)*(?:\2|\Z)""")
_SECRET = re.compile(rf"(?i)({_NAMES})(\"?\s*[:=]\s*\"?)([^\s\",;&]+(?:\s+[^\s\",;&]+)?)")
_BEARER = re.compile(r"(?i)\b(bearer\s+)(?=[^\s\"',;]*[0-9._~+/=-])[A-Za-z0-9._~+/=-]{6,}")
_BASE64 = re.compile(r"(?i)\b((?:basic|session)\s+)(?=[^\s\"',;]*[0-9+/=]|[A-Za-z]{16})[A-Za-z0-9+/=]{12,}")
_SIGNED = re.compile(r"\beyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://[^\s/?#:@\"']*:)[^\s/?#\"']+@")
_SALESFORCE = re.compile(r"\b00D[A-Za-z0-9]{9,15}!\S+?(?=[\s\"',;&<]|$)")
_KEYS = re.compile(r"\b(sk|rk|whsec)_[A-Za-z0-9_]{6,}")


@dataclass(slots=True)
class Step:
    """A step under way; add counts with `step.count(rows=…)`."""

    name: str
    counts: dict[str, int | str] = field(default_factory=dict)
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    """Of every thread of this process, user and system."""
    peak_mb: int = 0

    def count(self, **counts: int | str) -> None:
        """Add facts to the step's log line."""
        self.counts.update(counts)


@contextmanager
def step(name: str) -> Iterator[Step]:
    """Time a step; its log line is written whether it ends well or not."""
    current, start, used = Step(name), time.perf_counter(), time.process_time()
    try:
        yield current
    finally:
        current.seconds = round(time.perf_counter() - start, 3)
        current.cpu_seconds = round(time.process_time() - used, 3)
        current.peak_mb = peak_memory_mb()
        facts = " ".join(f"{k}={v}" for k, v in current.counts.items())
        log.info(
            "step=%s seconds=%.3f cpu_seconds=%.3f peak_mb=%d %s",
            name, current.seconds, current.cpu_seconds, current.peak_mb, facts,
        )  # fmt: skip


def peak_memory_mb() -> int:
    """The largest resident set of this process so far, in MiB; what its parent or its children had is not in it."""
    try:
        # not ru_maxrss: a process started from a large one inherits that one's peak
        status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) // 1024 for line in status if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1 << 20 if sys.platform == "darwin" else 1 << 10)


def redact(text: str) -> str:
    """`text` with anything that looks like a credential replaced by `***`."""
    text = _SALESFORCE.sub("***", _ADDRESS.sub(r"\1***@", text))
    text = _NESTED.sub(r"\1\2***\2", _QUOTED.sub(r"\1\2***\2", text))
    text = _SECRET.sub(_hidden, text)
    return _KEYS.sub("***", _SIGNED.sub("***", _BASE64.sub(r"\1***", _BEARER.sub(r"\1***", text))))


def _hidden(found: re.Match[str]) -> str:
    done = found[3].strip("\\'\"").startswith("***")
    return found[0] if done else f"{found[1]}{found[2]}***"
