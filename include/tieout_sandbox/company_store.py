"""The generated company and its rendered documents, made once per seed, scale and code, and kept in the cache."""

from __future__ import annotations

import pickle
import shutil
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
            with file.open("rb") as stored:
                kept: Company = pickle.load(stored)  # noqa: S301 - written below, in a folder of the user's own
            return kept
        made = company_package.generate(seed=seed, scale=scale, clean=clean)
        partial = file.with_suffix(".partial")
        with partial.open("wb") as out:
            pickle.dump(made, out, protocol=pickle.HIGHEST_PROTOCOL)
        partial.replace(file)
        keep_newest("company/*.pickle")
    return made


def copy_documents(seed: int, scale: int, clean: bool, target: Path) -> None:
    """Write the simulators' document file, rendered unless the cache has it."""
    from tieout_sandbox.simulators.build import build

    key = content_key(Path(simulators_package.__file__).parent, company_key(seed, scale, clean))
    with locked(f"documents/{key[:16]}.sqlite") as file:
        if not file.exists():
            partial = file.with_suffix(".partial")
            partial.unlink(missing_ok=True)
            build(stored_company(seed, scale, clean), partial)
            partial.replace(file)
            keep_newest("documents/*.sqlite")
        file.touch()
        shutil.copyfile(file, target)
