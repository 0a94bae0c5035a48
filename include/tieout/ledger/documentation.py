"""The posting rules for people and editors: `python -m tieout.ledger.documentation table | schema`."""

from __future__ import annotations

import json
import sys
from typing import Any

from tieout.ledger.rules import PostingRules, RuleLine
from tieout.settings import Settings, load_config

_HEAD = """# Posting rules

Generated from `include/config/posting_rules.yaml` by `make docs`; do not edit. Each line names an account role and, in
brackets, the event's amount; roles become GL accounts in `mappings/accounts.csv`. A negative amount is posted on the
other side. In another currency a line is turned at the rate of the event's day, `at origin` at that of the document it
settles or unwinds; `exchange` is what those rates leave. Money that arrives in another currency `settles` through FX
clearing. `functional` amounts are in functional currency only.

What differs by legal entity is set in `entities.yaml`, under these keys of the entity:

- `streams` and `authors`: which streams it posts, and from when; `go_live`: from which day on;
- `schedule_source`: whether `release` follows the straight line (`tieout`) or a schedule (`file`, `erp`);
- `write_off`: whether an uncollectible invoice is charged to `bad_debt` or to the `allowance`; `tax_relief`: whether
  its tax is taken back;
- `revaluation`: whether the revaluation events are posted here (`tieout`) or by the ERP; `rate_days`: how old an
  exchange rate may be before the event waits;
- `restatement`: whether a changed day posts the `difference` or is taken back and posted anew (`reverse_and_repost`);
  `late_materiality`: above what a late event is held; `approval`: above what a batch waits for a second person.

| event | stream | what happens | dated by | debit | credit |
|---|---|---|---|---|---|
"""


def json_schema() -> dict[str, Any]:
    """The JSON Schema of `posting_rules.yaml`, published beside it."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **PostingRules.model_json_schema(),
        "title": "Tieout posting rules",
    }


def table(rules: PostingRules) -> str:
    """The rules as a table in Markdown, one row per event type."""
    rows = [
        f"| `{name}` | {rule.stream} | {rule.meaning} | {rule.date_from} | "
        f"{_side(rule.lines, 'debit')} | {_side(rule.lines, 'credit')} |\n"
        for name, rule in rules.events.items()
    ]
    return _HEAD + "".join(rows)


def _side(lines: tuple[RuleLine, ...], side: str) -> str:
    return ", ".join(
        f"{line.role.replace('_', ' ')} ({line.amount}{_rate(line)})" for line in lines if line.side == side
    )


def _rate(line: RuleLine) -> str:
    return ", at origin" if line.rate == "origin" else ", settles" if line.settles else ""


if __name__ == "__main__":
    shipped = load_config(PostingRules, Settings.from_env({}).config_file("posting_rules.yaml"))
    sys.stdout.write(table(shipped) if sys.argv[1] == "table" else json.dumps(json_schema(), indent=2) + "\n")
