"""The configuration in force: the folder people edit is a draft, runs use the version a second person approved.

The approved files are in the store; each process finds them laid out under the data root, checked against their hashes
every time, so neither a pending edit nor a file changed there reaches a run.
"""

from __future__ import annotations

import difflib
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from sqlalchemy.exc import IntegrityError

from tieout.errors import ConfigError
from tieout.ids import sha256_hex
from tieout.settings import Settings, private_folder
from tieout.store import Store, configuration
from tieout.store.configuration import ConfigVersion


def draft(settings: Settings) -> dict[str, bytes]:
    """Every file of the configured folder, and shipped ones it does not replace, by name."""
    files: dict[str, bytes] = {}
    for root in (settings.shipped, settings.config):
        for path in sorted(root.rglob("*")):
            name = path.relative_to(root).as_posix()
            generated = name.endswith(".schema.json")  # for editors; nothing reads it
            if path.is_file() and not generated and not any(part.startswith(".") for part in name.split("/")):
                files[name] = path.read_bytes()
    return files


def in_force(settings: Settings, store: Store) -> Settings:
    """The settings whose configuration is the approved one; where there is none yet, the draft becomes the first.

    With TIEOUT_CONFIG_APPROVAL=off the folder itself is used.
    """
    if settings.config_approval == "off":
        return settings
    live = _version_in_force(settings, store)
    folder = _laid_out(settings, store, live)
    _point_at(settings, live)
    return replace(settings, config=folder, shipped=folder)


def _version_in_force(settings: Settings, store: Store) -> ConfigVersion:
    with store.reading() as session:
        live = configuration.in_force(session)
    if live is not None:
        return live
    try:
        with store.transaction() as session:
            return configuration.bootstrap(session, draft(settings), store.now())
    except IntegrityError:  # another process was first
        return _version_in_force(settings, store)


def propose(settings: Settings, store: Store, *, who: str, reason: str) -> ConfigVersion:
    """Propose the folder as it is now. Raises ConfigError where it cannot be used, naming every mistake."""
    from tieout.orchestration.checks import check_configuration

    problems = check_configuration(settings)
    if problems:
        raise ConfigError("the configuration cannot be used", got="; ".join(map(str, problems)))
    in_force(settings, store)
    with store.transaction() as session:
        return configuration.propose(session, draft(settings), who=who, reason=reason, now=store.now())


def decide(settings: Settings, store: Store, number: int, *, who: str, accept: bool, comment: str) -> ConfigVersion:
    """Decide on a proposal; approved, the next task that starts uses it."""
    with store.transaction() as session:
        decided = configuration.decide(session, number, who=who, accept=accept, comment=comment, now=store.now())
    in_force(settings, store)
    return decided


def difference(store: Store, before: Mapping[str, str], after: Mapping[str, bytes]) -> str:
    """A unified diff from a version's files (name → hash) to others' content."""
    with store.reading() as session:
        known = configuration.content(session, set(before.values()))
    hashes = {name: sha256_hex(text) for name, text in after.items()}
    parts: list[str] = []
    for name in configuration.changes_between(before, hashes):
        old = known[before[name]].decode("utf-8", "replace").splitlines() if name in before else []
        new = after[name].decode("utf-8", "replace").splitlines() if name in after else []
        parts += difflib.unified_diff(old, new, f"in force/{name}", f"proposed/{name}", lineterm="", n=1)
    return "\n".join(parts)


def files_of(store: Store, found: ConfigVersion) -> dict[str, bytes]:
    """The content of a version's files, by name."""
    with store.reading() as session:
        known = configuration.content(session, set(found.files.values()))
    return {name: known[sha256] for name, sha256 in found.files.items()}


def _laid_out(settings: Settings, store: Store, live: ConfigVersion) -> Path:
    """The folder that holds exactly a version's files; one that does not is made again from the store."""
    folder = settings.approved_config / live.digest
    if folder.exists():
        there = {
            path.relative_to(folder).as_posix(): sha256_hex(path.read_bytes())
            for path in folder.rglob("*")
            if path.is_file()
        }
        if there == dict(live.files):
            return folder
    private_folder(settings.approved_config)
    made = Path(tempfile.mkdtemp(prefix="making-", dir=settings.approved_config))
    for name, text in files_of(store, live).items():
        private_folder((made / name).parent)
        (made / name).write_bytes(text)
    if folder.exists():
        folder.rename(made.with_name(f"{made.name}-changed"))
    try:
        made.rename(folder)
    except OSError:  # another process was first: it made the same
        shutil.rmtree(made, ignore_errors=True)
    shutil.rmtree(made.with_name(f"{made.name}-changed"), ignore_errors=True)
    return folder


def _point_at(settings: Settings, live: ConfigVersion) -> None:
    """Say which folder is in force to whoever reads configuration without the store: the shape of the workflows."""
    pointer = settings.approved_config / "current"
    if not pointer.exists() or pointer.read_text() != live.digest:
        handle, beside = tempfile.mkstemp(prefix="current-", dir=settings.approved_config)
        with os.fdopen(handle, "w") as file:
            file.write(live.digest)
        Path(beside).replace(pointer)
