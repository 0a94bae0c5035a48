"""What an approver is shown of a batch, and how the answer is recorded: the same for Airflow's form and the command.

The lines shown are the stored content that the hash binds, not a table that may have moved on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from tieout.errors import LedgerError
from tieout.ids import Slot
from tieout.money import format_money
from tieout.orchestration.markdown import figure, table
from tieout.orchestration.work import Work
from tieout.store.people import same_person

if TYPE_CHECKING:
    from tieout.entities import LegalEntity
    from tieout.store.approvals import Preparer
    from tieout.store.batches import Batch

SHOWN_LINES = 80
"""Lines of a batch listed in a question; the sums are always of all."""
_DOCUMENTS = 3

Amounts = dict[tuple[str, str], Decimal]
"""Debits and credits by (account, side)."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is put before an approver: `body` is Markdown, `may_answer` is empty where anybody may."""

    about: str
    """A batch's or a run's id."""
    content_hash: str
    subject: str
    body: str
    may_answer: tuple[tuple[str, str], ...]
    """Airflow's id and name of each."""
    expires_at: datetime

    @property
    def names(self) -> tuple[str, ...]:
        """Names of those who may answer."""
        return tuple(name for _, name in self.may_answer)


@dataclass(frozen=True, slots=True)
class Behind:
    """What is behind one journal line: how many source rows, their sum, the largest documents."""

    rows: int
    amount: Decimal
    largest: tuple[tuple[str, Decimal], ...]


def waiting(work: Work) -> list[str]:
    """Batches that wait for a decision and about which no question is open."""
    from tieout.store import approvals

    with work.store.reading() as session:
        return approvals.unasked(session, work.store.now())


def question(work: Work, batch_id: str) -> Question | None:
    """What to ask about a batch; None if it does not wait for a decision.

    Raises LedgerError if everybody who may decide prepared it.
    """
    from tieout.store import approvals, batches

    with work.store.reading() as session:
        batch = batches.get(session, batch_id)
        if batch.state != "awaiting_approval":
            return None
        prepared = approvals.preparers(session, batch)
        late = approvals.escalated(session, batch_id)
    entity = work.entities[batch.slot.legal_entity_id]
    named = (*entity.approval.approvers, *(entity.approval.escalate_to if late else ()))
    may = [
        (person.airflow_id, person.name)
        for person in named
        if not any(same_person(name, p.who) for p in prepared for name in person.names)
    ]
    if named and not may:
        raise LedgerError(
            "everybody who may approve it prepared it", record=batch_id, got=sorted({p.name for p in named}),
            remedy="name another approver for the entity in entities.yaml",
        )  # fmt: skip
    gross = ", ".join(format_money(amount, currency) for currency, amount in sorted(batch.gross.items()))
    return Question(
        batch_id,
        batch.content_hash,
        f"Approve {batch_id}: {gross} gross",
        describe(work, batch, entity, prepared),
        tuple(dict.fromkeys(may)),
        work.store.now() + timedelta(hours=entity.approval.within_hours),
    )


def shown(work: Work, batch_id: str) -> str:
    """Any batch as an approver would see it, in Markdown, whatever state it is in."""
    from tieout.store import approvals, batches

    with work.store.reading() as session:
        batch = batches.get(session, batch_id)
        decided = approvals.decision(session, batch_id)
        if decided is None:
            prepared = approvals.preparers(session, batch)
        else:
            prepared = tuple(approvals.Preparer(who, "at the time of the decision") for who in decided.preparers)
    return describe(work, batch, work.entities[batch.slot.legal_entity_id], prepared)


def ask(work: Work, asked: Question, run: str) -> None:
    """Record that a run puts a question."""
    from tieout.store import approvals

    with work.store.transaction() as session:
        approvals.ask(session, asked.about, run, asked.names, asked.expires_at, work.store.now())


def answer(work: Work, run: str, *, who: str, accept: bool, comment: str) -> str:
    """Record the answer to what a run asked; the batch's state.

    A batch that was decided elsewhere meanwhile stays as it is. Raises LedgerError where the answer cannot count; that
    is audited and the batch goes on waiting.
    """
    from tieout.store import approvals, batches

    with work.store.reading() as session:
        asked = approvals.request(session, run)
        if asked is None:
            raise LedgerError("nobody was asked by this run", record=run)
        batch = batches.get(session, asked.batch_id)
    if batch.state != "awaiting_approval":
        return batch.state
    return decide(work, batch.batch_id, asked.content_hash, who=who, accept=accept, comment=comment, via=run)


def decide(work: Work, batch_id: str, digest: str, *, who: str, accept: bool, comment: str, via: str) -> str:
    """Record a decision on exactly the content `digest`; the batch's state. Raises LedgerError where it cannot count.

    `via` says by which way it came: a run of Airflow, where `who` is signed in, or the command, where `who` is stated.
    """
    from tieout.store import approvals, batches, write_offs

    with work.store.reading() as session:
        batch = batches.get(session, batch_id)
        late = approvals.escalated(session, batch_id)
    approval = work.entities[batch.slot.legal_entity_id].approval
    named = {person.name for person in approval.approvers}
    if named and late:
        named |= {person.name for person in approval.escalate_to}
    try:
        with work.store.transaction() as session:
            decided = approvals.decide(
                session, batch_id, digest, approver=who, accept=accept, comment=comment, now=work.store.now(),
                allowed=named, also_known_as=approval.names_of(who), facts={"via": via},
            )  # fmt: skip
            if batch.kind == batches.WRITE_OFF:
                write_offs.settle(session, work.store.now())  # a break whose write-off is refused is open again
            return decided.state
    except LedgerError as error:
        with work.store.transaction() as session:
            approvals.refuse(session, batch_id, who or "nobody", error.message, work.store.now())
        raise


def may_approve(work: Work, batch_id: str) -> tuple[str, ...]:
    """Who may approve what is done with a batch; anybody if nobody is named."""
    return tuple(person.name for person in work.entities[Slot.of(batch_id).legal_entity_id].approval.approvers)


def escalate(work: Work, run: str) -> str:
    """End what a run asked without an answer; says whose it is now. Nothing is approved."""
    from tieout.store import approvals

    with work.store.reading() as session:
        asked = approvals.request(session, run)
        if asked is None:
            raise LedgerError("nobody was asked by this run", record=run)
        entity = work.entities[asked.batch_id.split("/")[1]]
    owner = ", ".join(person.name for person in entity.approval.escalate_to) or "controller"
    reason = f"nobody decided within {entity.approval.within_hours} hours; escalated to {owner}"
    with work.store.transaction() as session:
        batch = approvals.escalate(session, run, owner, reason, work.store.now())
    return f"{batch.batch_id}: {reason}"


def describe(work: Work, batch: Batch, entity: LegalEntity, prepared: Sequence[Preparer]) -> str:
    """The batch in Markdown: what it is, who prepared it, its lines, what is behind each, and the period before."""
    return "\n\n".join(
        part
        for part in (
            _facts(work, batch, entity),
            _prepared(prepared),
            *_journals(work, batch),
            _compared(work, batch, entity),
            "Approving binds exactly this content: a changed batch is asked about again. No preparer may approve.",
        )
        if part
    )


def _facts(work: Work, batch: Batch, entity: LegalEntity) -> str:
    from tieout.store import approvals

    with work.store.reading() as session:
        before = approvals.gross_of_slot(session, batch.slot, batch.version)
        decided = approvals.decision(session, batch.batch_id)
    threshold = entity.approval.threshold(batch.slot.stream)
    gross = ", ".join(format_money(a, c) for c, a in sorted(batch.gross.items()))
    rows = [
        ("Entity", f"{entity.id}, {entity.name}; ledger {batch.slot.ledger}"),
        ("Stream", f"{batch.slot.stream.replace('_', ' ')}, {batch.slot.period}"),
        ("Posting date", f"{batch.accounting_date}"),
        ("Version", str(batch.version) + (f", corrects {batch.origin}" if batch.origin else "")),
        ("Gross debits", gross),
        ("Earlier versions of the slot", ", ".join(format_money(a, c) for c, a in sorted(before.items())) or "none"),
        ("Threshold", format_money(threshold, entity.functional_currency) if threshold is not None else "none"),
        ("Second person", "needed" if batch.needs_approval else "not needed"),
        ("Journals", f"{len(batch.journals)}, {sum(j.line_count for j in batch.journals)} lines"),
        ("Planned", f"{batch.planned_at:%Y-%m-%d %H:%M} UTC by {batch.run_id}"),
        ("Content", batch.content_hash),
    ]
    if decided is not None:
        rows.append(("Decision", f"{decided.decision} by {decided.approver}: {decided.comment or 'no comment'}"))
    return table(("Batch", batch.batch_id), rows)


def _prepared(prepared: Sequence[Preparer]) -> str:
    if not prepared:
        return "**Prepared by** nobody in particular: no rule, mapping or break behind it changed hands."
    by: dict[str, list[str]] = {}
    for one in prepared:
        by.setdefault(one.who, []).append(one.why)
    return "**Prepared by**\n\n" + table(("Who", "Why"), [(who, ", ".join(why)) for who, why in by.items()])


def _journals(work: Work, batch: Batch) -> Iterable[str]:
    from tieout.orchestration.posting import account_names

    names, behind = account_names(work), _behind(work, [journal.run_key for journal in batch.journals])
    owner, left = (batch.slot.legal_entity_id, batch.slot.ledger), SHOWN_LINES
    for journal in batch.journals:
        lines, currency = journal.content["lines"], journal.currency
        rows = []
        for number, line in enumerate(lines[:left], 1):
            source = behind.get((journal.run_key, number))
            account = f"{line['account']} {names.get((*owner, line['account']), '')}".strip()
            amount = figure(Decimal(line["amount"]), currency)
            sides = (amount, "") if line["side"] == "debit" else ("", amount)
            largest = "; ".join(f"{doc} {figure(a, currency)}" for doc, a in source.largest) if source else "?"
            count = f"{source.rows:,}" if source else "?"
            if source and source.amount != Decimal(line["amount"]):
                count += f" (sum {figure(source.amount, currency)}: differs)"
            rows.append((str(number), account, *sides, line["description"], count, largest))
        left -= len(rows)
        total = figure(journal.debit, currency)
        rows.append(("", f"**Total {currency}**", f"**{total}**", f"**{total}**", "", "", ""))
        head = ("Line", "Account", "Debit", "Credit", "Text", "Source rows", "Largest documents behind it")
        listed = table(head, rows, right=(2, 3, 5))
        more = f"\n\n… and {len(lines) - len(rows) + 1} more lines" if len(rows) - 1 < len(lines) else ""
        yield f"**Journal {journal.run_key}**\n\n{listed}{more}"


def _behind(work: Work, run_keys: Sequence[str]) -> dict[tuple[str, int], Behind]:
    from tieout.lake.engine import engine

    with engine(work.settings) as session:
        work.lake.bind(session, work.store.published(), ["journal_drilldown"])
        found = session.rows(
            """
            WITH by_document AS (
              SELECT run_key, line_no, coalesce(document_number, source_id) AS document, count(*) AS n,
                sum(amount) AS amount
              FROM journal_drilldown WHERE list_contains($keys, run_key)
              GROUP BY ALL
            )
            SELECT run_key, line_no, CAST(sum(n) AS BIGINT), CAST(sum(amount) AS DECIMAL(38, 4)),
              list(document ORDER BY abs(amount) DESC, document)[:$documents],
              list(CAST(amount AS DECIMAL(38, 4)) ORDER BY abs(amount) DESC, document)[:$documents]
            FROM by_document GROUP BY run_key, line_no
            """,
            {"keys": list(run_keys), "documents": _DOCUMENTS},
        )
    return {
        (key, line): Behind(rows, amount, tuple(zip(documents, amounts, strict=True)))
        for key, line, rows, amount, documents, amounts in found
    }


def _compared(work: Work, batch: Batch, entity: LegalEntity) -> str:
    """The accounts of this batch beside the same stream's whole period before and this period so far."""
    from tieout.calendar import period_of
    from tieout.store import batches

    period = period_of(entity, batch.accounting_date)
    previous = period_of(entity, period.start - timedelta(days=1)).name
    with work.store.reading() as session:
        of_stream = [
            b
            for b in batches.select_batches(session, entity=entity.id, stream=batch.slot.stream)
            if b.counts and b.slot.ledger == batch.slot.ledger
        ]
    this = amounts([batch])
    so_far = amounts(b for b in of_stream if b.slot.period == batch.slot.period and b.batch_id != batch.batch_id)
    before = amounts(b for b in of_stream if b.slot.period == previous)
    currency = entity.functional_currency
    rows = [
        (account, side, *(figure(sums.get((account, side), Decimal(0)), currency) for sums in (this, so_far, before)))
        for account, side in sorted({*this, *((a, s) for a, s in before if any(a == x for x, _ in this))})
    ]
    head = ("Account", "Side", "This batch", f"Other batches of {batch.slot.period}", f"All of {previous}")
    none = "" if before else f"\n\nThe stream posted nothing in {previous}: there is nothing to compare with."
    return f"**Compared with the period before**\n\n{table(head, rows, right=(2, 3, 4))}{none}"


def amounts(found: Iterable[Batch]) -> Amounts:
    """What batches post, by account and side."""
    sums: Amounts = {}
    for batch in found:
        for journal in batch.journals:
            for line in journal.content["lines"]:
                key = (line["account"], line["side"])
                sums[key] = sums.get(key, Decimal(0)) + Decimal(line["amount"])
    return sums
