"""Breaks over time: run a shipped reconciliation on the published tables, age what it finds, see what is gone."""

from tieout.breaks.inputs import definition_ids, definition_path
from tieout.breaks.run import look, run

__all__ = ["definition_ids", "definition_path", "look", "run"]
