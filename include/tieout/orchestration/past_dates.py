"""Past dates asked for again: the request, its dry run, the differences to post. `recompute` reports them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from tieout.errors import ConfigError, LedgerError, StoreError
from tieout.ids import content_hash
from tieout.orchestration import planning
from tieout.orchestration.approval import Question
from tieout.orchestration.facts import Facts
from tieout.orchestration.markdown import figure, table
from tieout.orchestration.posting import account_names
from tieout.orchestration.work import Work
from tieout.store import audit
from tieout.store.people import same_person

if TYPE_CHECKING:
    from tieout.entities import LegalEntity
    from tieout.store.batches import Batch

log = logging.getLogger("tieout")

LONGEST_BACKFILL = 92
"""Days one request may cover: a quarter; more is several requests, each with its own dry run."""

_SHOWN = 100
"""Slots listed for people; the net effect is always of all."""


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
    """What posting the requested dates would change, as tables in the log and in the run's facts; journals by entity.

    Nothing is planned. An approval of the run binds the digest kept here.
    """
    first, last = date.fromisoformat(request["from"]), date.fromisoformat(request["to"])
    found = preview_backfill(work, first, last, request["entities"], request["run_id"])
    body = found.markdown()
    log.info("dry run, nothing is posted:\n%s", body)
    kept = {"digest": found.digest, "contents": dict(found.contents), "body": body}
    work.store.add_facts(request["run_id"], {"preview": kept})
    return {e: sum(row.entity == e for row in found.slots) for e in request["entities"]}


@dataclass(frozen=True, slots=True)
class SlotChange:
    """One slot: the versions that count for it now, and the version that would be added. Amounts are gross debits."""

    entity: str
    slot: str
    exists: str
    existing: Decimal
    version: int
    lines: int
    added: Decimal
    currency: str


@dataclass(frozen=True, slots=True)
class AccountEffect:
    """One account over all dates asked for, debit positive: what is carried now, what posting adds."""

    entity: str
    account: str
    name: str
    currency: str
    existing: Decimal
    change: Decimal


@dataclass(frozen=True, slots=True)
class Preview:
    """What posting past dates would add: differences to what is carried already, nothing where all is right."""

    slots: tuple[SlotChange, ...]
    accounts: tuple[AccountEffect, ...]
    contents: Mapping[str, str]
    """By slot and version, the hash of what would be posted."""

    @property
    def digest(self) -> str:
        """Binds all of it."""
        return content_hash(dict(self.contents))

    @property
    def empty(self) -> bool:
        """Whether nothing would be posted."""
        return not self.slots

    def markdown(self) -> str:
        """Both tables for people."""
        if self.empty:
            return "Nothing would be posted: what these dates need is there already."
        slots = table(
            ("Entity", "Slot", "There now", "Gross now", "Would add", "Lines", "Gross added", ""),
            [
                (c.entity, c.slot, c.exists, figure(c.existing, c.currency), f"v{c.version}", c.lines,
                 figure(c.added, c.currency), c.currency)
                for c in self.slots[:_SHOWN]
            ],
            right=(3, 5, 6),
        )  # fmt: skip
        accounts = table(
            ("Entity", "Account", "Carried now", "Net effect", "Afterwards", ""),
            [
                (e.entity, f"{e.account} {e.name}".strip(), figure(e.existing, e.currency),
                 figure(e.change, e.currency), figure(e.existing + e.change, e.currency), e.currency)
                for e in self.accounts
            ],
            right=(2, 3, 4),
        )  # fmt: skip
        more = f"\n\n… and {len(self.slots) - _SHOWN} more slots" if len(self.slots) > _SHOWN else ""
        titles = ("**What exists and what would be added**", "**Net effect per account, debit positive**")
        return f"{titles[0]}\n\n{slots}{more}\n\n{titles[1]}\n\n{accounts}"


def preview_backfill(
    work: Work, first: date, last: date, entities: Sequence[str], run_id: str | None = None
) -> Preview:
    """What posting past dates would add, by the tables a run would plan from, or the newest. Nothing is written."""
    from tieout.ledger import DAILY, load_rules, preview
    from tieout.ledger.plan import known_tables

    rules = load_rules(work.settings)
    names = account_names(work)
    slots: list[SlotChange] = []
    accounts: list[AccountEffect] = []
    hashes: dict[str, str] = {}
    for entity in work.chosen(entities):
        journals = preview(
            entity,
            DAILY,
            first,
            last,
            lake=work.lake,
            store=work.store,
            rules=rules,
            snapshot=known_tables(work.store, entity, run_id) if run_id else work.store.published(),
            settings=work.settings,
            period_open=planning.period_open(work, entity.id),
            line_limit=min(work.erp(entity.id, one.ledger).config.max_lines for one in entity.in_force),
        )
        hashes |= {f"{slot}/v{version}": digest for (slot, version), digest in journals.batch_hashes().items()}
        carried = _carried(work, entity, first, last)
        slots += _slot_changes(carried, journals.headers.to_pylist())
        accounts += _effects(entity, carried, journals.lines.to_pylist(), names)
    return Preview(tuple(slots), tuple(accounts), hashes)


def _carried(work: Work, entity: LegalEntity, first: date, last: date) -> list[Batch]:
    """Batches of these dates, and of what came late for others, whose content counts."""
    from tieout.ledger import DAILY
    from tieout.ledger.late import PRIOR_PERIOD
    from tieout.store import batches

    with work.store.reading() as session:
        found = batches.select_batches(session, entity=entity.id)
    streams = (*DAILY, PRIOR_PERIOD)
    return [b for b in found if b.counts and b.slot.stream in streams and first <= b.slot.business_date <= last]


def _slot_changes(carried: Sequence[Batch], headers: Sequence[Mapping[str, Any]]) -> Iterator[SlotChange]:
    for header in headers:
        there = [b for b in carried if str(b.slot) == header["slot"]]
        states = ", ".join(f"v{b.version} {b.state.replace('_', ' ')}" for b in there) or "nothing"
        gross = sum((b.gross.get(header["currency"], Decimal(0)) for b in there), Decimal(0))
        yield SlotChange(
            header["legal_entity_id"],
            header["slot"].split("/", 1)[1],
            states,
            gross,
            header["version"],
            header["line_count"],
            header["debit"],
            header["currency"],
        )


def _effects(
    entity: LegalEntity,
    carried: Sequence[Batch],
    lines: Sequence[Mapping[str, Any]],
    names: Mapping[tuple[str, str, str], str],
) -> Iterator[AccountEffect]:
    """Every account the change touches; its own net may be zero where debits and credits move alike."""
    change: dict[tuple[str, str], Decimal] = {}
    for line in lines:
        key = (line["account"], line["currency"])
        change[key] = change.get(key, Decimal(0)) + _signed(line["side"], line["amount"])
    now: dict[tuple[str, str], Decimal] = {}
    for batch in carried:
        for journal in batch.journals:
            for line in journal.content["lines"]:
                key = (line["account"], journal.currency)
                now[key] = now.get(key, Decimal(0)) + _signed(line["side"], Decimal(line["amount"]))
    for (account, currency), amount in sorted(change.items()):
        name = next((names[k] for one in entity.in_force if (k := (entity.id, one.ledger, account)) in names), "")
        yield AccountEffect(entity.id, account, name, currency, now.get((account, currency), Decimal(0)), amount)


def _signed(side: str, amount: Decimal) -> Decimal:
    return amount if side == "debit" else -amount


def question(work: Work, run_id: str) -> Question | None:
    """What to ask before the differences of a backfill are posted; None in report-only mode and where there are none.

    Raises LedgerError if nobody but who asked for it may approve.
    """
    asked = work.store.facts(run_id) | dict(_asked(work, run_id))
    preview = asked["preview"]
    if asked["mode"] != "post" or not preview["contents"] or decision(work, run_id) is not None:
        return None
    of_entities = [entity.approval for entity in work.chosen(asked["entities"])]
    named = set.intersection(*({*a.approvers} for a in of_entities)) if all(a.approvers for a in of_entities) else set()
    may = [
        p
        for p in sorted(named, key=lambda p: p.name)
        if not any(same_person(name, asked["asked_by"]) for name in p.names)
    ]
    if any(a.approvers for a in of_entities) and not may:
        raise LedgerError(
            "nobody may approve it for all of its entities", record=run_id, got=asked["asked_by"],
            remedy="ask for fewer entities at once, or name another approver in entities.yaml",
        )  # fmt: skip
    span = asked["from"] if asked["from"] == asked["to"] else f"{asked['from']} to {asked['to']}"
    facts = table(
        ("Backfill", span),
        [("Entities", ", ".join(asked["entities"])), ("Asked for by", asked["asked_by"]), ("Why", asked["reason"])],
    )
    ends = "Approving posts these differences and no others: if they change, nothing is posted."
    return Question(
        run_id,
        preview["digest"],
        f"Post the differences of {span} for {', '.join(asked['entities'])}",
        f"{facts}\n\n{preview['body']}\n\n{ends}",
        tuple((p.airflow_id, p.name) for p in may),
        work.store.now() + timedelta(hours=min(a.within_hours for a in of_entities)),
    )


def decide(work: Work, run_id: str, *, who: str, accept: bool, comment: str) -> bool:
    """Record whether the differences of a backfill are posted; binds the digest of its dry run.

    Raises LedgerError for whoever asked for it, whoever may not decide, and a rejection without a reason.
    """
    asked, name = _asked(work, run_id), who.strip()
    put = question(work, run_id)
    if put is None:
        raise LedgerError("it waits for no decision", record=run_id)
    called = {name, *(n for e in work.chosen(asked["entities"]) for n in e.approval.names_of(name))}
    if accept and any(same_person(one, asked["asked_by"]) for one in called):
        raise LedgerError("who asked for a backfill may not approve it", record=run_id, got=name)
    if not name or (put.names and not any(same_person(name, one) for one in (*put.names, asked["asked_by"]))):
        raise LedgerError("not among those who may decide", record=run_id, got=name, expected=put.names)
    if not accept and not comment.strip():
        raise LedgerError("a rejection needs a reason", record=run_id)
    action = "backfill.approved" if accept else "backfill.rejected"
    facts = {"digest": put.content_hash, "comment": comment, "asked_by": asked["asked_by"]}
    with work.store.transaction() as session:
        for entity in work.chosen(asked["entities"]):
            chain = f"{entity.id}/{entity.ledger}"
            audit.append(session, chain, action, name, facts, work.store.now(), subject=run_id)
    return accept


def decision(work: Work, run_id: str) -> tuple[bool, str] | None:
    """Whether a backfill was approved, and of which digest; None while nobody decided. The audit log is the record."""
    for entry in reversed(work.store.audit_entries(subject=run_id)):
        if entry.action in ("backfill.approved", "backfill.rejected"):
            return entry.action == "backfill.approved", str(entry.payload["digest"])
    return None


def _asked(work: Work, run_id: str) -> Mapping[str, Any]:
    run = work.store.run(run_id)
    if run is None:
        raise StoreError("no such run", got=run_id)
    return run.params


def plan_backfill(work: Work, request: Mapping[str, Any]) -> dict[str, str]:
    """In mode `post`, plan the differences a second person approved; in `report_only`, nothing.

    Raises LedgerError without an approval of what would be planned now. Part of what was approved may be planned
    already: by a try of this step that died, or by a night.
    """
    run_id, first, last = request["run_id"], date.fromisoformat(request["from"]), date.fromisoformat(request["to"])
    if _asked(work, run_id)["mode"] == "post":
        left = preview_backfill(work, first, last, request["entities"], run_id).contents
        newest = preview_backfill(work, first, last, request["entities"]).contents
        shown, decided = work.store.facts(run_id)["preview"]["contents"], decision(work, run_id)
        approved = decided == (True, content_hash(shown))
        # what came since is not in what this run plans from; but then the approver has not seen how things stand
        if left and not (approved and left.items() <= shown.items() and newest.items() <= shown.items()):
            raise LedgerError(
                "no second person approved what would be posted", record=run_id, got=sorted(left),
                remedy="trigger the backfill again and have its dry run approved",
            )  # fmt: skip
        if left:
            planning.plan(work, run_id, last, request["entities"], first)
    return {"run_id": run_id, "business_date": request["to"]}


def _form_date(form: Mapping[str, Any], name: str) -> date:
    try:
        return date.fromisoformat(str(form[name]))
    except ValueError:
        raise ConfigError("not a date", record=name, got=form[name], expected="YYYY-MM-DD") from None
