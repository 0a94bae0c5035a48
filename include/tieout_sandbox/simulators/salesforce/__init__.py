"""Salesforce's REST and Bulk 2.0 query APIs with CPQ objects, as Salesforce documents them."""

from tieout_sandbox.simulators.salesforce.api import rate_limited, routes, server_error

__all__ = ["rate_limited", "routes", "server_error"]
