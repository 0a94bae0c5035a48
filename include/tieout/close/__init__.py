"""The close of a period: its own journals, and what still stands in the way."""

from tieout.close.backlog import StaleSource, backlog
from tieout.close.month_end import plan_month_end

__all__ = ["StaleSource", "backlog", "plan_month_end"]
