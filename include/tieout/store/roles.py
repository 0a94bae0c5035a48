"""The application's rights on a PostgreSQL store: it works in every table, and of the audit log it may only add to it.

Two roles: the owner of the database, who runs `tieout store upgrade` and nobody logs in with otherwise, and the
application's, which every worker uses. Triggers refuse a change of the audit log to everybody; only an owner could take
them away, so the application must not be one.
"""

from __future__ import annotations

from tieout.store import models as _models
from tieout.store.base import Base

_ = _models  # every table is known

ADDED_TO_ONLY = ("audit_log",)
_READ_ONLY = ("alembic_version",)


def statements(application: str) -> list[str]:
    """What the owner runs after each upgrade, so that `application` (a role that exists) has its rights and no more."""
    role = _quoted(application)
    made = [
        "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
        f"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM PUBLIC, {role}",
        f"REVOKE CREATE ON SCHEMA public FROM {role}",
        f"GRANT USAGE ON SCHEMA public TO {role}",
        f"GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO {role}",
    ]
    for table in sorted([*Base.metadata.tables, *_READ_ONLY]):
        if table in _READ_ONLY:
            rights = "SELECT"
        elif table in ADDED_TO_ONLY:
            rights = "SELECT, INSERT"
        else:
            rights = "SELECT, INSERT, UPDATE, DELETE"
        made.append(f"GRANT {rights} ON {_quoted(table)} TO {role}")
    return made


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
