"""Fixtures every folder may use: real servers of the sandbox, started only where a test asks for them."""

import os
from collections.abc import Iterator
from typing import Any

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
_GROUPS = ("tests/e2e/", "tests/faults/night/", "tests/integration/night/", "tests/faults/", "tests/integration/")


_BY_SUBJECT = "tests/faults/posting/"


def _group(nodeid: str) -> str:
    """The tests that one process runs together: a folder of `_GROUPS`, one adapter's crash matrix, else a file."""
    if nodeid.startswith(_BY_SUBJECT) and nodeid.endswith("]"):
        return f"{nodeid.split('::')[0]}[{nodeid.rpartition('[')[2].split('-')[0].rstrip(']')}]"
    return next((g for g in _GROUPS if nodeid.startswith(g)), nodeid.split("::")[0])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first, so that no process is left alone with them at the end; what shares a server together."""

    def place(item: pytest.Item) -> tuple[int, str]:
        folder = next((n for n, g in enumerate(_GROUPS) if item.nodeid.startswith(g)), len(_GROUPS))
        return folder, _group(item.nodeid) if item.nodeid.startswith(_BY_SUBJECT) else ""

    items.sort(key=place)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """How `pytest -n 3` shares out the tests: by `_group`, in the order collected."""
    from xdist.scheduler import LoadScopeScheduling

    class ByServers(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _group(nodeid)

    config.option.loadscopereorder = False
    return ByServers(config, log)
