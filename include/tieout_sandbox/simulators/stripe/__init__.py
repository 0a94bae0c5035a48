"""Stripe's API at version 2024-06-20, as the published OpenAPI description and docs.stripe.com state it."""

from tieout_sandbox.simulators.stripe.api import rate_limited, routes, server_error

__all__ = ["rate_limited", "routes", "server_error"]
