"""Zendesk's Support API as its published OpenAPI description states it."""

from tieout_sandbox.simulators.zendesk.api import rate_limited, routes, server_error

__all__ = ["rate_limited", "routes", "server_error"]
