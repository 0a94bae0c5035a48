"""The generated company and its rendered documents, made once per seed, scale and code, and kept in the cache."""

from __future__ import annotations

import gc
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

from tieout_sandbox import company as company_package
from tieout_sandbox import simulators as simulators_package
from tieout_sandbox.cache import keep_newest, locked
from tieout_sandbox.company.model import Company
from tieout_sandbox.tryton.template import content_key


def company_key(seed: int, scale: int, clean: bool) -> str:
    """What a company depends on: the generator's code and its arguments."""
    return content_key(Path(company_package.__file__).parent, f"seed={seed} scale={scale} clean={clean}")


def stored_company(seed: int, scale: int, clean: bool) -> Company:
    """The company, from the cache if it was generated before."""
    with locked(f"company/{company_key(seed, scale, clean)[:16]}.pickle") as file:
        if file.exists():
            file.touch()
            return _load(file)
        made = company_package.generate(seed=seed, scale=scale, clean=clean)
        partial = file.with_suffix(".partial")
        with partial.open("wb") as out:
            pickle.dump(made, out, protocol=pickle.HIGHEST_PROTOCOL)
        partial.replace(file)
        keep_newest("company/*.pickle")
    return made


def _load(file: Path) -> Company:
    collects = gc.isenabled()
    gc.disable()  # a large company is millions of objects, and none of them garbage: looking for it takes minutes
    try:
        with file.open("rb") as stored:
            kept: Company = pickle.load(stored)  # noqa: S301 - written above, in a folder of the user's own
        return kept
    finally:
        if collects:
            gc.enable()


def copy_documents(seed: int, scale: int, clean: bool, target: Path, company: Callable[[], Company]) -> None:
    """Write the simulators' document file, rendered from `company` unless the cache has it."""
    from tieout_sandbox.simulators.build import build

    key = content_key(Path(simulators_package.__file__).parent, company_key(seed, scale, clean))
    with locked(f"documents/{key[:16]}.sqlite") as file:
        if not file.exists():
            partial = file.with_suffix(".partial")
            partial.unlink(missing_ok=True)
            build(company(), partial)
            partial.replace(file)
            keep_newest("documents/*.sqlite")
        file.touch()
        shutil.copyfile(file, target)
