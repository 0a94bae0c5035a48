"""The company's support desk as Zendesk objects.

A ticket's `generated_timestamp` (its document's stamp) is when Zendesk finished with the change, which may be later
than `updated_at`: exports go by the former.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tieout_sandbox.company.model import Company
from tieout_sandbox.simulators.clock import iso
from tieout_sandbox.simulators.documents import Document
from tieout_sandbox.simulators.instants import seconds

_ERASED_USER = 1  # every ticket has a requester; this one's account is gone from the desk


def render(company: Company) -> Iterator[Document]:
    """Organisations, users and tickets."""
    for o in company.organizations:
        stamp = seconds(o.created)
        body: dict[str, Any] = {
            "name": o.name,
            "external_id": o.external_id,
            "domain_names": list(o.domains),
            "created_at": iso(stamp),
            "updated_at": iso(stamp),
        }
        yield Document("zendesk", "desk", "organizations", str(o.id), stamp, stamp, 1, body)
    for u in company.support_users:
        stamp = seconds(u.created)
        body = {
            "name": u.name,
            "email": u.email,
            "organization_id": u.organization_id,
            "role": "end-user",
            "created_at": iso(stamp),
            "updated_at": iso(stamp),
        }
        yield Document("zendesk", "desk", "users", str(u.id), stamp, stamp, 1, body)
    for t in company.tickets:
        fixed = {
            "created_at": iso(seconds(t.created)),
            "subject": t.subject,
            "raw_subject": t.subject,
            "description": t.description,
            "priority": t.priority,
            "organization_id": t.organization_id,
            "requester_id": t.requester_id or _ERASED_USER,
            "submitter_id": t.requester_id or _ERASED_USER,
        }
        for number, v in enumerate(t.versions, 1):
            generated = seconds(v.visible_at)
            body = fixed | {"status": v.status, "updated_at": iso(seconds(v.at))}
            yield Document("zendesk", "desk", "tickets", str(t.id), generated, generated, number, body)
