"""Stripe, Salesforce and Zendesk as their APIs answer, out of the generated company, on loopback.

Python: `build(company, path)` renders once, `start(db, secrets)` runs the servers as a process, `stop(pid)` ends it.
Base URLs are `http://127.0.0.1:PORT/stripe`, `/salesforce` and `/zendesk`.

Control, always with `Authorization: Bearer <control_token of the secrets file>`:
- `GET|POST /_control/clock` `{"now": "2026-03-30T09:00:00Z"}`: what is visible, tokens' age, the `Date` header.
- `POST /_control/faults` one setting or a list of them (fields: `faults.Fault`), `GET` lists them with how often each
  fired, `DELETE /_control/faults[/{id}]` clears.
- `GET|DELETE /_control/requests`: answered requests by method, path and status.
- `GET|POST /_control/limits` `{"salesforce_daily": 5, "salesforce_session_seconds": 60, "bulk_failures": 1}`.
- `GET /_control/contents`: documents stored by vendor, account and object. `/_control/ready` needs no token.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from tieout_sandbox.simulators.process import Running, start, stop

if TYPE_CHECKING:
    from tieout_sandbox.company.model import Company

__all__ = ["Running", "build", "start", "stop"]


def build(company: "Company", path: Path) -> dict[str, int]:
    """Render a company into a new document file; returns documents per vendor."""
    from tieout_sandbox.simulators.build import build as render_all

    return render_all(company, path)
