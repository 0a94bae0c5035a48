"""The table dictionary in Markdown, made from the schema: `python -m tieout.schema.dictionary > docs/tables.md`."""

from __future__ import annotations

import sys

from tieout.schema import CANONICAL, INTAKE, RATING, RESULTS
from tieout.schema.tables import DUCKDB_TYPES, Table

_INTRO = """# Table dictionary

Generated from `tieout.schema` by `make docs`; do not edit. Types are DuckDB's; money is exact. Periods and terms are
half-open: an end date is the first day that no longer belongs. Valid and quarantined rows never share a table.
"""


def render() -> str:
    """The whole dictionary: canonical entities, intake, rating, result tables."""
    parts = [_INTRO, "## Canonical entities\n"]
    parts += [_table(t) for t in CANONICAL]
    parts.append("## Intake\n")
    parts += [_table(t) for t in INTAKE]
    parts.append("## Rating\n")
    parts += [_table(t) for t in RATING]
    parts.append("## Result tables\n")
    parts += [_table(t) for t in RESULTS]
    return "\n".join(parts)


def _table(table: Table) -> str:
    kept = f" Stored by {', '.join(f'`{c}`' for c in table.partition_by)}." if table.partition_by else ""
    rows = [f"### `{table.name}`\n", f"{table.meaning} Key: {', '.join(f'`{k}`' for k in table.key)}.{kept}\n"]
    rows += ["| column | type | required | meaning |", "|---|---|---|---|"]
    for column in table.columns:
        meaning = column.meaning + (f" ({' / '.join(column.values)})" if column.values else "")
        kind = DUCKDB_TYPES[column.kind]
        rows.append(f"| `{column.name}` | {kind} | {'yes' if column.required else ''} | {meaning} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    sys.stdout.write(render())
