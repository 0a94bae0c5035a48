"""Where the seconds of a run under Airflow went: our own steps, posting to the ERP, and the rest, which is Airflow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

HEAVIEST = 2


def split(facts: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """The seconds of a run by what used them, from the facts its steps left.

    `steps` has each step's own seconds. Some run at the same time, so `own` is the time during which at least one of
    them ran. `posting` is the time of submitting and reading back, `airflow` what is left of the run: starting
    processes, scheduling, waiting. `peak_mb` is the largest process any step ran in.
    """
    kept = {n: s for n, s in facts.items() if isinstance(s, Mapping) and "milliseconds" in s}
    posting = kept.pop("posting", {"milliseconds": 0, "peak_mb": 0})
    own, posted = _covered(kept.values()), posting["milliseconds"] / 1000
    return {
        "seconds": round(seconds, 1),
        "own": round(own, 1),
        "posting": round(posted, 1),
        "airflow": round(seconds - own - posted, 1),
        "peak_mb": max((step["peak_mb"] for step in (*kept.values(), posting)), default=0),
        "steps": {name: step["milliseconds"] / 1000 for name, step in kept.items()},
    }


def heaviest(cost: Mapping[str, Any]) -> str:
    """The steps that took longest, as people read it: `quality_gate 9, conform 4`."""
    ranked = sorted(cost["steps"].items(), key=lambda step: -step[1])[:HEAVIEST]
    return ", ".join(f"{name} {seconds:.0f}" for name, seconds in ranked)


def _covered(steps: Iterable[Mapping[str, Any]]) -> float:
    """Seconds during which at least one of the steps ran."""
    spans = sorted((_started(step), _started(step) + step["milliseconds"] / 1000) for step in steps)
    covered, until = 0.0, float("-inf")
    for start, end in spans:
        covered += max(0.0, end - max(start, until))
        until = max(until, end)
    return covered


def _started(step: Mapping[str, Any]) -> float:
    return datetime.fromisoformat(step["started_at"]).timestamp()
