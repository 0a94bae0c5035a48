"""Telling people that something waits for them: a line to the webhook in the connection `tieout_notifications`.

Slack, Mattermost and Teams take the same `{"text": …}`. The webhook's address is a secret: its server is the
connection's host, its path the password. A message names what waits and where, never an amount.
"""

from __future__ import annotations

import logging

import requests

from tieout.settings import Connection
from tieout.transport import checked_address, new_session

CONNECTION = "tieout_notifications"

log = logging.getLogger("tieout")


def tell(connection: Connection | None, text: str) -> bool:
    """Send a line; whether it was taken. Failing to tell never fails what is told about: it is logged."""
    log.warning("%s", text)
    if connection is None:
        return False
    try:
        address = checked_address(connection.host, connection.conn_id)
        url = f"{address}/{(connection.password or '').lstrip('/')}"
        answer = new_session(address).post(url, json={"text": text}, timeout=10, allow_redirects=False)
    except requests.RequestException as error:
        log.warning("nobody could be told: %s", type(error).__name__)
        return False
    if not answer.ok:
        log.warning("nobody could be told: the webhook answered %s", answer.status_code)
    return answer.ok
