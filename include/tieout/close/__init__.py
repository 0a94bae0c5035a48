"""The close of a period: what still stands in the way."""

from tieout.close.backlog import Contradiction, StaleSource, backlog

__all__ = ["Contradiction", "StaleSource", "backlog"]
