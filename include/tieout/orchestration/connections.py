"""From an Airflow connection to Tieout's own value: the only way a credential enters a step."""

from __future__ import annotations

from airflow.sdk import BaseHook

from tieout.settings import Connection


def airflow_connection(conn_id: str) -> Connection:
    """The connection Airflow knows under that id, from whichever secrets backend it uses.

    Raises Airflow's AirflowNotFoundException if there is none.
    """
    found = BaseHook.get_connection(conn_id)
    host = (found.host or "").rstrip("/")
    if found.port and "://" in host:
        host = f"{host}:{found.port}"
    return Connection(conn_id, host, found.login, found.password, found.schema, found.extra_dejson)


def optional_connection(conn_id: str) -> Connection | None:
    """The connection under that id, or None where nobody made one."""
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        return airflow_connection(conn_id)
    except AirflowNotFoundException:
        return None
