"""SAP S/4HANA: journal entries posted by SOAP and read by OData, from the published contracts of the services."""

from tieout_sandbox.simulators.sap.api import Sap

__all__ = ["Sap"]
