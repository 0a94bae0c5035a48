"""Fixtures every folder may use: real servers of the sandbox, started only where a test asks for them."""

import os
from collections.abc import Iterator

import pytest

pytest_plugins = ["tieout_sandbox.testing"]

UMASK = os.umask(0o022)
os.umask(UMASK)


@pytest.fixture(autouse=True)
def _umask() -> Iterator[None]:
    """A step takes the umask of its process for itself; servers that tests start as another user need the old one."""
    yield
    os.umask(UMASK)
