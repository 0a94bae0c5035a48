"""What a run tells the outside while it works: steps with their durations and counts, never amounts or secrets."""

from tieout.observe.steps import Step, redact, step

__all__ = ["Step", "redact", "step"]
