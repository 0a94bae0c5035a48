"""The engine that the tests of a module share, for generated cases too, which take no fixture made per case."""

from tieout.lake.engine import Engine

SESSION: dict[str, Engine] = {}
