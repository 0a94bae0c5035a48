"""The simulators' keys and tokens: random at every first start, kept in one file only its owner can read."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def generate(accounts: Iterable[str]) -> dict[str, Any]:
    """Fresh credentials: a secret and a restricted (read-only) Stripe key per account, one client each else."""
    return {
        "control_token": secrets.token_urlsafe(32),
        "stripe": {
            account: {"secret": f"sk_test_{secrets.token_hex(24)}", "restricted": f"rk_test_{secrets.token_hex(24)}"}
            for account in accounts
        },
        "salesforce": {"client_id": f"3MVG9{secrets.token_hex(32)}", "client_secret": secrets.token_hex(32).upper()},
        "zendesk": {"email": "ops@example.com", "token": secrets.token_urlsafe(30)},
    }


def load_or_create(path: Path, accounts: Iterable[str]) -> dict[str, Any]:
    """Read the file, or write a new one with mode 0600."""
    if path.exists():
        kept: dict[str, Any] = json.loads(path.read_text())
        return kept
    made = generate(accounts)
    path.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        json.dump(made, out, indent=2)
    return made
