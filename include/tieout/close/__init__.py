"""The close of a period: what still stands in the way."""

from tieout.close.backlog import StaleSource, backlog

__all__ = ["StaleSource", "backlog"]
