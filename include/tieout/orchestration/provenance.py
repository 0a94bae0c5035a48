"""What a run was made with, so that its results can be made again: the code and every configuration file in force."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.metadata import version
from pathlib import Path

from tieout.orchestration.facts import Facts
from tieout.settings import Settings

_LIBRARY = Path(__file__).resolve().parents[1]


def made_with(settings: Settings) -> Facts:
    """`code`: the release and a hash of the library's files; `configuration`: each file in force, by content hash;
    `configuration_approval`: whether a second person had to approve it.

    A file of the configured folder stands before the shipped one of the same name, as everywhere.
    """
    files: dict[str, Path] = {}
    for root in (settings.shipped, settings.config):
        files |= {path.relative_to(root).as_posix(): path for path in sorted(root.rglob("*")) if path.is_file()}
    return {
        "code": _code(),
        "configuration": {name: _sha256(files[name].read_bytes()) for name in sorted(files)},
        "configuration_approval": settings.config_approval,
    }


@cache
def _code() -> str:
    """Release and content: an installation from a working copy may differ from the release it names."""
    content = hashlib.sha256()
    for path in sorted(p for p in _LIBRARY.rglob("*") if p.suffix in (".py", ".sql", ".j2") and p.is_file()):
        content.update(path.relative_to(_LIBRARY).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return f"{version('tieout')}+{content.hexdigest()[:16]}"


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
