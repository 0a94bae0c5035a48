"""Past dates asked for again: the request, its dry run, the differences to post. `recompute` reports them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any

from tieout.errors import ConfigError
from tieout.orchestration import planning
from tieout.orchestration.facts import Facts
from tieout.orchestration.work import Work

log = logging.getLogger("tieout")

LONGEST_BACKFILL = 92
"""Days one request may cover: a quarter; more is several requests, each with its own dry run."""


def open_backfill(work: Work, run_id: str, form: Mapping[str, Any], asked_by: str) -> Facts:
    """Check the form, audit who asked for what and why, and open one run per business date.

    Raises ConfigError naming the field that cannot be used.
    """
    first, last = (_form_date(form, name) for name in ("from_date", "to_date"))
    known, chosen = [e.id for e in work.entities.entities], list(form["entities"])
    if last < first or (last - first).days > LONGEST_BACKFILL:
        raise ConfigError(
            "the dates are no usable span", got=f"{first} to {last}", expected=f"up to {LONGEST_BACKFILL} days"
        )
    if not chosen or not set(chosen) <= set(known):
        raise ConfigError("entities must be configured ones", got=chosen, expected=known)
    reason = str(form.get("reason") or "").strip()
    if len(reason) < 10:
        raise ConfigError("a backfill needs a reason", got=reason, remedy="say in a sentence why")
    facts = {
        "from": first.isoformat(), "to": last.isoformat(), "entities": chosen, "mode": form["mode"],
        "reason": reason, "asked_by": asked_by,
    }  # fmt: skip
    work.store.start_run(run_id, "backfill", last, facts)
    for entity in work.chosen(chosen):
        chain = f"{entity.id}/{entity.ledger}"
        work.store.audit(chain, "backfill.requested", asked_by, {"run_id": run_id, **facts}, subject=run_id)
    days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    runs = [{"run_id": f"{run_id}.{day}", "business_date": day.isoformat()} for day in days]
    for run, day in zip(runs, days, strict=True):
        work.store.start_run(run["run_id"], "backfill", day, facts)
    return {"run_id": run_id, **facts, "runs": runs}


def backfill_dry_run(work: Work, request: Mapping[str, Any]) -> Facts:
    """What posting the requested dates would change, logged line by line; counts by entity."""
    first, last = date.fromisoformat(request["from"]), date.fromisoformat(request["to"])
    changes = preview_backfill(work, first, last, request["entities"])
    for change in changes:
        log.info(
            "would post %s: %s lines, %s %s",
            change["run_key"],
            change["lines"],
            change["debit"],
            change["currency"],
        )
    return {e: sum(c["entity"] == e for c in changes) for e in request["entities"]}


def preview_backfill(work: Work, first: date, last: date, entities: Sequence[str]) -> list[Facts]:
    """The journals that posting past dates would add: differences to what is posted, nothing where all is right."""
    from tieout.ledger import DAILY, load_rules, preview

    rules, snapshot, changes = load_rules(work.settings), work.store.published(), []
    for entity in work.chosen(entities):
        journals = preview(
            entity,
            DAILY,
            first,
            last,
            lake=work.lake,
            store=work.store,
            rules=rules,
            snapshot=snapshot,
            settings=work.settings,
            period_open=planning.period_open(work, entity.id),
        )
        changes += [
            {
                "entity": entity.id,
                "run_key": header["run_key"],
                "lines": header["line_count"],
                "debit": format(header["debit"], "f"),
                "currency": header["currency"],
            }
            for header in journals.headers.to_pylist()
        ]
    return changes


def plan_backfill(work: Work, request: Mapping[str, Any]) -> dict[str, str]:
    """In mode `post`, plan the differences of the requested dates; in `report_only`, nothing."""
    from tieout.ledger import DAILY

    if request["mode"] == "post":
        last, since = date.fromisoformat(request["to"]), date.fromisoformat(request["from"])
        planning.plan(work, request["run_id"], last, DAILY, request["entities"], since)
    return {"run_id": request["run_id"], "business_date": request["to"]}


def _form_date(form: Mapping[str, Any], name: str) -> date:
    try:
        return date.fromisoformat(str(form[name]))
    except ValueError:
        raise ConfigError("not a date", record=name, got=form[name], expected="YYYY-MM-DD") from None
