"""NetSuite's REST services for journal entries and SuiteQL, from the published record contract and guides."""

from tieout_sandbox.simulators.netsuite.api import NetSuite

__all__ = ["NetSuite"]
