"""Fixtures every folder may use: real servers of the sandbox, started only where a test asks for them."""

pytest_plugins = ["tieout_sandbox.testing"]
