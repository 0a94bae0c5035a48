"""The generated company behind real loopback servers, and where the vendors' published contracts lie."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from tieout_sandbox.company.model import Company
from tieout_sandbox.company_store import copy_documents, stored_company
from tieout_sandbox.simulators import start, stop

SPECS = Path(os.environ.get("TIEOUT_SPECS") or Path(__file__).parents[4] / "shared/specs")
NOW = "2026-03-30T09:00:00Z"


@pytest.fixture(scope="session")
def spec() -> Callable[[str], Path]:
    """A published contract by its path under the specifications' folder, or the test is skipped."""

    def find(path: str) -> Path:
        if not (SPECS / path).exists():
            pytest.skip(f"no {path} under {SPECS}; set TIEOUT_SPECS to the folder of the vendors' published contracts")
        return SPECS / path

    return find


@pytest.fixture(scope="session")
def company() -> Company:
    return stored_company(7, 1, False)


@dataclass(frozen=True, slots=True)
class Vendors:
    base: str
    secrets: dict[str, Any]
    session: requests.Session

    def stripe(self, account: str, path: str, **params: Any) -> Any:
        key = self.secrets["stripe"][account]["restricted"]
        headers = {"Authorization": f"Bearer {key}", "Stripe-Version": "2024-06-20"}
        return self._get(f"/stripe/v1/{path}", headers=headers, params=params)

    def zendesk(self, path: str, **params: Any) -> Any:
        known = self.secrets["zendesk"]
        return self._get(f"/zendesk/api/v2/{path}", auth=(f"{known['email']}/token", known["token"]), params=params)

    def salesforce(self, path: str, **params: Any) -> Any:
        headers = {"Authorization": f"Bearer {self._salesforce_token()['access_token']}"}
        return self._get(f"/salesforce/services/data/v60.0/{path}", headers=headers, params=params)

    def _salesforce_token(self) -> Any:
        sent = {"grant_type": "client_credentials", **self.secrets["salesforce"]}
        return self.session.post(f"{self.base}/salesforce/services/oauth2/token", data=sent, timeout=20).json()

    def _get(self, path: str, **more: Any) -> Any:
        return self.session.get(f"{self.base}{path}", timeout=20, **more).json()


@pytest.fixture(scope="session")
def vendors(company: Company, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vendors]:
    """The company at 2026-03-30 09:00 UTC."""
    home = tmp_path_factory.mktemp("vendors")
    copy_documents(company.seed, company.scale, company.clean, home / "vendors.sqlite", lambda: company)
    running = start(home / "vendors.sqlite", home / "secrets.json", now=NOW)
    with requests.Session() as session:
        yield Vendors(running.base_url, json.loads((home / "secrets.json").read_text()), session)
    stop(running.pid)
