"""Airflow pools: one slot per source and one for the ERP, so that no limit is exceeded however many runs overlap."""

from __future__ import annotations

from tieout.orchestration.catalog import vendor_sources

ERP_POOL = "erp"


def source_pool(source: str) -> str:
    """The pool of a source."""
    return f"source_{source}"


def pools() -> dict[str, dict[str, object]]:
    """Every pool the workflows use, in the form `airflow pools import` reads.

    A task whose pool does not exist waits for ever, so this must have run before the first workflow does.
    """
    named = {source_pool(name): f"reads {name}, one at a time" for name in vendor_sources()}
    named[ERP_POOL] = "reads and posts in the ERP, one at a time"
    return {name: {"slots": 1, "description": text, "include_deferred": False} for name, text in sorted(named.items())}


if __name__ == "__main__":
    import json

    print(json.dumps(pools(), indent=2))
