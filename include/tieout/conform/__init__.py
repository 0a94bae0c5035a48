"""Conform: raw records of each source become canonical rows, linked to each other; bad ones go to quarantine.

`tieout.conform.steps` has `conform` and `replay`; the field mappings are YAML under `conform/` of the configuration.
"""
