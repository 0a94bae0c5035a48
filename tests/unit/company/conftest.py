"""The company of the default seed, once with its planted breaks and once without."""

from __future__ import annotations

import pytest

from tieout_sandbox.company import Company, generate


@pytest.fixture(scope="session")
def planted() -> Company:
    return generate()


@pytest.fixture(scope="session")
def clean() -> Company:
    return generate(clean=True)
