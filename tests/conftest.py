"""Fixtures every folder may use: real servers of the sandbox, started only where a test asks for them."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest_plugins = ["tieout_sandbox.testing"]

UMASK = os.umask(0o022)
os.umask(UMASK)


@pytest.fixture(autouse=True)
def _umask() -> Iterator[None]:
    """A step takes the umask of its process for itself; servers that tests start as another user need the old one."""
    yield
    os.umask(UMASK)


# What takes minutes starts first; each group shares its servers, so one process runs all of it.
_GROUPS = ("e2e", "faults/night", "integration/night", "faults", "integration")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With several processes (`pytest -n 2 --dist loadgroup`): which tests stay together, and the longest first."""
    here = Path(__file__).parent

    def group(item: pytest.Item) -> str:
        place = item.path.relative_to(here).as_posix()
        return next((g for g in _GROUPS if place.startswith(f"{g}/")), place)

    def rank(item: pytest.Item) -> int:
        return _GROUPS.index(group(item)) if group(item) in _GROUPS else len(_GROUPS)

    for item in items:
        item.add_marker(pytest.mark.xdist_group(group(item)))
    items.sort(key=rank)
