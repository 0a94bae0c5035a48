"""What a run tells the outside while it works: steps with their durations and counts, never amounts or secrets."""

from tieout.observe.steps import Step, peak_memory_mb, redact, step

__all__ = ["Step", "peak_memory_mb", "redact", "step"]
