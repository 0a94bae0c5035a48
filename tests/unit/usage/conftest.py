"""One engine for each module."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tieout.lake.engine import engine

sys.path.insert(0, str(Path(__file__).parent))

from one_engine import SESSION


@pytest.fixture(scope="module", autouse=True)
def one_session() -> Iterator[None]:
    """One engine for the module: starting one takes longer than most of these tests."""
    with engine() as SESSION["engine"]:
        yield
