"""The shipped source contracts, one YAML file per kind of source."""
