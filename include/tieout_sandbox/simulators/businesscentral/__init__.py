"""Business Central's standard API v2.0 for general journals, from its published reference pages."""

from tieout_sandbox.simulators.businesscentral.api import BusinessCentral

__all__ = ["BusinessCentral"]
