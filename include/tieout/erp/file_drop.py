"""A legacy ERP that is reached by files alone: journals are dropped, acknowledged, and proved by its ledger extract.

    out/<entity>/<period>/<short key>.<attempt>.csv   a journal of ours: H header, L lines, T trailer with the totals
    in/ack/<short key>.<attempt>.ack | .nack          the ERP's word on it, one CSV row
    in/gl/*.csv      posted lines dated `from` to `until` of a company, all of them; the newest file wins for each date
    in/tb/*.csv      totals per account from the beginning to the end of the day `on`
    in/periods/*.csv, in/accounts/*.csv               the newest file counts

Files of the ERP come with a manifest each (`tieout.erp.drop_folder`). An acknowledgement is the ERP's word, no proof:
the journal counts as posted once it stands in a ledger extract. Without one nothing is dropped again.
"""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from itertools import groupby
from operator import attrgetter
from typing import Any

from pydantic import Field

from tieout.entities import LegalEntity
from tieout.erp.config import Adapter, ErpConfig
from tieout.erp.drafts import closed, is_under, keys_in, mirror, reference, refuse_unfit, the_posted
from tieout.erp.drop_folder import DropFolder, Manifest
from tieout.erp.port import (
    ZERO,
    Balance,
    ErpJournal,
    ErpLine,
    Fence,
    GlAccount,
    GlEntry,
    JournalRef,
    PeriodStatus,
    anchored,
    unfenced,
)
from tieout.errors import ConfigError, ErpUnavailable, PeriodClosed, Rejected, UnknownOutcome
from tieout.ids import short_key
from tieout.settings import Connection

_BEGINNING = date(1900, 1, 1)
_STATES = ("open", "closed", "locked")


class FileDropConfig(ErpConfig):
    """`erp/file_drop.yaml`. A company is given by its code in the ERP's files.

    A dimension is a column of that name, in our journals and in the ledger extracts.
    """

    currencies: dict[str, str]
    """Legal entity → its functional currency, in which the ERP keeps its books."""
    acknowledged_within: float = Field(default=60, ge=0)
    """Seconds to wait for an acknowledgement in the same run; after that the outcome is unknown and asked for again."""
    look_every: float = Field(default=1, gt=0)
    """Seconds between looks for it."""
    page: int = Field(default=500, ge=1)
    """Journals per page of ledger entries."""

    def problems(self, entity: LegalEntity) -> list[str]:
        """What this file says wrongly about an entity, in sentences."""
        currency = self.currencies.get(entity.id)
        if currency == entity.functional_currency:
            return []
        return [f"{entity.id}: its functional currency is {entity.functional_currency}, `currencies` says {currency}"]


@dataclass(frozen=True, slots=True)
class _Drop:
    """A journal of ours that was handed over, and the ERP's word on it."""

    run_key: str
    entity: str
    name: str
    attempt: int
    sha256: str
    date: date
    accepted: bool | None = None
    document: str | None = None
    told_at: datetime | None = None
    reason: str = ""
    code: str = ""


class FileDropLedger:
    """The ledgers of the companies behind one drop folder. Implements `tieout.erp.port.Ledger`."""

    def __init__(self, connection: Connection, config: FileDropConfig) -> None:
        self.config = config
        self._folder = DropFolder(connection.host)
        self._parsed: dict[str, tuple[GlEntry, ...]] = {}

    def close(self) -> None:
        """Nothing is held open."""

    # --- looking up -------------------------------------------------------------------------------------------

    def find_by_run_key(self, key: str, *, entity: str | None = None) -> list[JournalRef]:
        """Journals in the ledger extracts, else those dropped: posted where acknowledged, draft where not yet.

        One that the ERP refused is not there.
        """
        bare = key.removeprefix("TIEOUT/")
        named = entity or bare.partition("/")[0]
        found: list[JournalRef] = []
        for one in [named] if named in self.config.companies else list(self.config.companies):
            held = [j for j in self._journals(one) if j[0].run_key and is_under(j[0].run_key, key)]
            found += [_held(lines) for lines in held]
            known = {lines[0].run_key for lines in held}
            dropped = [d for d in self._last_drops(one, bare) if is_under(d.run_key, key)]
            found += [_dropped(d) for d in dropped if d.run_key not in known and d.accepted is not False]
        return found

    def period_status(self, entity: str, on: date) -> PeriodStatus:
        """What the newest period file says; absent without one."""
        for row in self._newest_rows("in/periods", entity):
            start, end = _day(row, "start"), _day(row, "end")
            if start <= on <= end:
                state = row.get("state", "")
                if state not in _STATES:
                    raise ErpUnavailable(
                        "a period file has an unknown state", record=row.get("name"), got=state, expected=_STATES
                    )
                reason = None if state == "open" else f"period {row.get('name')} is {state} in the ERP"
                return PeriodStatus(entity, on, state, row.get("name"), start, end, reason)  # type: ignore[arg-type]
        return PeriodStatus(entity, on, "absent", reason=f"no period file of the ERP has a period around {on}")

    def read_back(self, ref: JournalRef) -> ErpJournal:
        """The journal as the newest ledger extract has it.

        Raises ErpUnavailable while no extract can show it yet, Rejected where one should and does not.
        """
        extracts = self._extracts(ref.entity)  # before the word on it: what arrives meanwhile refutes nothing
        for _, lines in self._sourced(ref.entity, extracts):
            if lines[0].journal_id == ref.erp_id:
                return _journal(lines)
        drops = [
            d for d in self._last_drops(ref.entity, ref.run_key.removeprefix("TIEOUT/")) if d.run_key == ref.run_key
        ]
        told_at = drops[0].told_at if drops and drops[0].accepted else None
        if told_at is None and drops and drops[0].accepted is None:
            raise ErpUnavailable("the journal was not acknowledged yet", record=ref.run_key, got=drops[0].name)
        on = drops[0].date if drops else ref.date
        shown = [m for m in extracts if m.since <= on <= m.until]
        if not shown or (told_at is not None and max(m.manifest.made_at for m in shown) < told_at):
            raise ErpUnavailable(
                "no ledger extract can show the journal yet",
                record=ref.run_key,
                expected=f"one of {on} made after {told_at:%Y-%m-%d %H:%M:%S} UTC" if told_at else f"one of {on}",
            )
        raise Rejected("the ERP has no such journal", record=ref.run_key, expected=ref.erp_id)

    def trial_balance(self, entity: str, on: date, since: date | None = None) -> list[Balance]:
        """From the trial balance file of that day; else from the nearest one and the extracts' movement between."""
        currency = self._currency(entity)
        before = self._cumulative(entity, since - timedelta(days=1)) if since else {}
        until = self._cumulative(entity, on)
        balances = []
        for account in sorted(until.keys() | before.keys()):
            old_debit, old_credit = before.get(account, (ZERO, ZERO))
            debit, credit = until.get(account, (ZERO, ZERO))
            opening = old_debit - old_credit
            balances.append(Balance(entity, account, currency, opening, debit - old_debit, credit - old_credit))
        return balances

    def gl_entries(self, entity: str, since: date, until: date) -> Iterator[list[GlEntry]]:
        """Posted lines dated from `since` to `until`, both included."""
        return self._pages([j for j in self._journals(entity) if since <= j[0].date <= until])

    def gl_changes(self, entity: str, since: datetime, until: datetime) -> Iterator[list[GlEntry]]:
        """Posted lines of the extracts that arrived in `[since, until)`: what an extract brings may be new."""
        extracts = self._extracts(entity)
        arrived = {m.manifest.path for m in extracts if since <= m.manifest.arrived_at < until}
        return self._pages([j for path, j in self._sourced(entity, extracts) if path in arrived])

    def gl_accounts(self, entity: str) -> list[GlAccount]:
        """The accounts of the newest chart file, by code."""
        currency = self._currency(entity)
        rows = self._newest_rows("in/accounts", entity)
        found = (GlAccount(entity, _text(r, "code"), r.get("name") or "", r.get("currency") or currency) for r in rows)
        return sorted(found, key=attrgetter("code"))

    # --- posting ----------------------------------------------------------------------------------------------

    def post(self, journal: ErpJournal, *, fence: Fence = unfenced) -> JournalRef:
        """Drop the journal once and wait for the ERP's word.

        A journal without a word is never dropped again; one the ERP refused is, as the next attempt. Raises Rejected
        and PeriodClosed (its refusal), UnknownOutcome (no word yet).
        """
        refuse_unfit(
            journal,
            self.config,
            currency=self._currency(journal.entity),
            accounts={account.code for account in self.gl_accounts(journal.entity)},
            has_value=lambda dimension, value: True,  # the ERP's own to refuse: no file lists its values
        )
        if journal.debit != journal.credit:
            raise Rejected(
                "the journal is not balanced", record=journal.run_key, got=f"{journal.debit} / {journal.credit}"
            )
        if posted := the_posted(self.find_by_run_key(journal.run_key, entity=journal.entity), journal):
            return posted
        last = self._drop_of(journal)
        if last is None or last.accepted is False:
            status = self.period_status(journal.entity, journal.date)
            if not status.is_open:
                raise closed(journal, status)
        attempt = 1 if last is None else last.attempt + (last.accepted is False)
        fence()
        self._hand_over(journal, attempt)
        return self._wait(journal)

    def reverse(
        self, ref: JournalRef, on: date, run_key: str, short_key: str, *, anchor: str = "", fence: Fence = unfenced
    ) -> JournalRef:
        """Drop our own mirror of a posted journal, dated `on`."""
        return self.post(mirror(self.read_back(ref), on, run_key, short_key, anchor), fence=fence)

    def _hand_over(self, journal: ErpJournal, attempt: int) -> None:
        content = self._file(journal, attempt)
        says = {
            "run_key": journal.run_key,
            "short_key": journal.short_key,
            "company": self.config.company_of(journal.entity),
            "attempt": attempt,
            "date": journal.date.isoformat(),
            "lines": len(journal.lines),
            "debit": f"{journal.debit:f}",
            "credit": f"{journal.credit:f}",
        }
        self._folder.deliver(_path(journal, attempt), content, **says)

    def _file(self, journal: ErpJournal, attempt: int) -> bytes:
        """The journal's own bytes: the same for the same journal and attempt."""
        text = io.StringIO()
        write = csv.writer(text, lineterminator="\n").writerow
        write(
            ["H", journal.run_key, journal.short_key, self.config.company_of(journal.entity), journal.date.isoformat(),
             journal.currency, anchored(journal.narrative, journal.anchor), attempt, reference(journal)]
        )  # fmt: skip
        write(["#", "line", "account", "debit", "credit", "description", *self.config.dimensions.values()])
        for number, line in enumerate(journal.lines, 1):
            values = [line.dimensions.get(dimension, "") for dimension in self.config.dimensions]
            write(["L", number, line.account, f"{line.debit:f}", f"{line.credit:f}", line.description, *values])
        write(["T", len(journal.lines), f"{journal.debit:f}", f"{journal.credit:f}"])
        return text.getvalue().encode()

    def _wait(self, journal: ErpJournal) -> JournalRef:
        until = time.monotonic() + self.config.acknowledged_within
        while True:
            if posted := the_posted(self.find_by_run_key(journal.run_key, entity=journal.entity), journal):
                return posted
            drop = self._drop_of(journal)
            if drop is not None and drop.accepted is False:
                kind = PeriodClosed if drop.code == "period_closed" else Rejected
                raise kind("the ERP refused the journal", record=journal.run_key, got=drop.reason or "no reason given")
            if time.monotonic() >= until:
                raise UnknownOutcome(
                    "the ERP has not acknowledged the journal",
                    record=journal.run_key,
                    got=drop.name if drop else None,
                    remedy="it is looked for again; if nothing comes, see whether the ERP's import runs",
                )
            time.sleep(self.config.look_every)

    # --- our drops and the ERP's word -----------------------------------------------------------------------------

    def _drop_of(self, journal: ErpJournal) -> _Drop | None:
        bare = journal.run_key.removeprefix("TIEOUT/")
        return next((d for d in self._last_drops(journal.entity, bare) if d.run_key == journal.run_key), None)

    def _last_drops(self, entity: str, bare: str) -> list[_Drop]:
        """The last attempt of each journal dropped for an entity, in the period that a key names if it names one."""
        parts = bare.split("/")
        below = f"out/{entity}/{parts[2]}" if len(parts) > 2 and parts[2] else f"out/{entity}"
        last: dict[str, Manifest] = {}
        for manifest in self._folder.delivered(below, recursive=True):
            key = str(manifest.says.get("run_key"))
            if key not in last or int(last[key].says["attempt"]) < int(manifest.says["attempt"]):
                last[key] = manifest
        return [self._told(entity, key, manifest) for key, manifest in sorted(last.items())]

    def _told(self, entity: str, run_key: str, manifest: Manifest) -> _Drop:
        """A drop with the ERP's word on it, if it has spoken of exactly these bytes."""
        says = manifest.says
        name = manifest.path.rpartition("/")[2].removesuffix(".csv")
        drop = _Drop(run_key, entity, name, int(says["attempt"]), str(says["sha256"]), date.fromisoformat(says["date"]))
        for ending, accepted in ((".ack", True), (".nack", False)):
            content = self._folder.read(f"in/ack/{name}{ending}")
            row = _only_row(content)
            if row is None:  # not there, or not whole yet
                continue
            if row.get("run_key") != run_key or row.get("sha256") != drop.sha256:
                raise UnknownOutcome(
                    "an acknowledgement speaks of another file",
                    record=f"in/ack/{name}{ending}",
                    expected=f"{run_key} {drop.sha256}",
                    got=f"{row.get('run_key')} {row.get('sha256')}",
                )
            return _Drop(
                run_key, entity, name, drop.attempt, drop.sha256, drop.date, accepted,
                row.get("document") or None, _instant(row.get("at")), row.get("reason") or "", row.get("code") or "",
            )  # fmt: skip
        return drop

    # --- the ERP's files --------------------------------------------------------------------------------------

    def _extracts(self, entity: str) -> list[_Extract]:
        """The ledger extracts of an entity, the newest first."""
        company = self.config.company_of(entity)
        found = []
        for manifest in self._folder.delivered("in/gl"):
            if manifest.says.get("company") == company:
                since, until = (_day(manifest.says, name) for name in ("from", "until"))
                found.append(_Extract(manifest, since, until))
        return sorted(found, key=lambda e: (e.manifest.made_at, e.manifest.path), reverse=True)

    def _sourced(self, entity: str, extracts: Iterable[_Extract]) -> list[tuple[str, list[GlEntry]]]:
        """Journals with the extract they come from: for each date the newest extract that covers it."""
        seen: list[_Extract] = []
        journals = []
        for extract in extracts:
            if not any(one.since <= extract.since and extract.until <= one.until for one in seen):
                lines = self._lines(entity, extract)
                valid = [line for line in lines if not any(one.since <= line.date <= one.until for one in seen)]
                for _, group in groupby(valid, key=attrgetter("journal_id")):
                    journals.append((extract.manifest.path, list(group)))
            seen.append(extract)
        journals.sort(key=lambda j: (j[1][0].date, j[1][0].journal_id))
        return list(zip((path for path, _ in journals), _under_our_ids([j for _, j in journals]), strict=True))

    def _journals(self, entity: str) -> list[list[GlEntry]]:
        return [lines for _, lines in self._sourced(entity, self._extracts(entity))]

    def _lines(self, entity: str, extract: _Extract) -> tuple[GlEntry, ...]:
        """The lines of an extract, journal by journal; read once, because a delivered file never changes."""
        path = f"{extract.manifest.path} {extract.manifest.says.get('sha256')}"
        if path not in self._parsed:
            rows = list(self._folder.rows(extract.manifest))
            entries = [self._entry(entity, row, number, extract) for number, row in enumerate(rows, 1)]
            _refuse_other_totals(extract.manifest, entries)
            entries.sort(key=attrgetter("journal_id"))
            self._parsed[path] = tuple(
                entry for _, group in groupby(entries, key=attrgetter("journal_id")) for entry in _numbered(list(group))
            )
        return self._parsed[path]

    def _entry(self, entity: str, row: Mapping[str, str], number: int, extract: _Extract) -> GlEntry:
        on = _day(row, "date")
        if not extract.since <= on <= extract.until:
            raise ErpUnavailable(
                "a ledger extract has a line outside its dates", record=f"{extract.manifest.path} row {number}", got=on
            )
        text = row.get("reference") or ""
        keys = keys_in(text)
        dimensions = {ours: row[column] for ours, column in self.config.dimensions.items() if row.get(column)}
        posted_on = row.get("posted_on")
        return GlEntry(
            entity=entity,
            erp_id=f"{_text(row, 'journal_id')}.{_text(row, 'line')}",
            journal_id=_text(row, "journal_id"),
            journal_number=row.get("journal_number") or row["journal_id"],
            date=on,
            posted_on=date.fromisoformat(posted_on) if posted_on else None,
            period=row.get("period") or f"{on:%Y-%m}",
            account=_text(row, "account"),
            debit=_amount(row, "debit"),
            credit=_amount(row, "credit"),
            currency=row.get("currency") or self._currency(entity),
            narrative=(keys and row.get("narrative")) or text,
            description=row.get("description") or "",
            run_key=keys[0] if keys else None,
            line_no=int(_text(row, "line")) if keys else None,
            changed_at=_instant(row.get("changed_at")) or extract.manifest.made_at,
            dimensions=dimensions,
        )

    def _cumulative(self, entity: str, on: date) -> dict[str, tuple[Decimal, Decimal]]:
        """Debits and credits per account from the beginning to the end of a day.

        From the newest trial balance of that day. Without one: from the last of an earlier day, else the first of a
        later one, and the extracts' movement between. Raises ErpUnavailable where there is none, or where the extract
        has what was posted after the trial balance was made.
        """
        company = self.config.company_of(entity)
        files = [(_day(m.says, "on"), m) for m in self._folder.delivered("in/tb") if m.says.get("company") == company]
        earlier, later = [f for f in files if f[0] <= on], [f for f in files if f[0] > on]
        if not files:
            raise ErpUnavailable("the ERP has delivered no trial balance", record=entity, expected="a file in in/tb")
        base = max(f[0] for f in earlier) if earlier else min(f[0] for f in later)
        manifest = max((m for day, m in files if day == base), key=lambda m: m.made_at)
        totals: dict[str, tuple[Decimal, Decimal]] = {}
        for row in self._folder.rows(manifest):
            totals[_text(row, "account")] = _amount(row, "debit"), _amount(row, "credit")
        sign = 1 if on >= base else -1
        low, high = min(on, base), max(on, base)
        for lines in self._journals(entity):
            for line in lines:
                if line.date <= base and line.changed_at > manifest.made_at:
                    raise ErpUnavailable(
                        "the ERP's trial balance is older than its ledger extract",
                        record=manifest.path,
                        got=f"journal {line.journal_number} was posted after it",
                        remedy="deliver a new trial balance",
                    )
                if low < line.date <= high:
                    debit, credit = totals.get(line.account, (ZERO, ZERO))
                    totals[line.account] = debit + sign * line.debit, credit + sign * line.credit
        return totals

    def _newest_rows(self, below: str, entity: str) -> list[dict[str, str]]:
        """The rows of an entity's newest file in a folder; none where there is no file."""
        company = self.config.company_of(entity)
        files = [m for m in self._folder.delivered(below) if m.says.get("company") in (company, None)]
        if not files:
            return []
        rows = self._folder.rows(max(files, key=lambda m: m.made_at))
        return [row for row in rows if row.get("company", company) == company]

    def _pages(self, journals: Iterable[list[GlEntry]]) -> Iterator[list[GlEntry]]:
        page: list[GlEntry] = []
        for number, lines in enumerate(journals, 1):
            page += lines
            if number % self.config.page == 0:
                yield page
                page = []
        if page:
            yield page

    def _currency(self, entity: str) -> str:
        self.config.company_of(entity)
        if entity not in self.config.currencies:
            raise ConfigError(
                "no currency for this legal entity", got=entity, remedy="add it to `currencies` in the ERP's file"
            )
        return self.config.currencies[entity]


@dataclass(frozen=True, slots=True)
class _Extract:
    """A delivered ledger extract: all posted lines of a company with a date in `[since, until]`."""

    manifest: Manifest
    since: date
    until: date


def _path(journal: ErpJournal, attempt: int) -> str:
    period = journal.run_key.split("/")[3]
    return f"out/{journal.entity}/{period}/{journal.short_key}.{attempt}.csv"


def _under_our_ids(journals: list[list[GlEntry]]) -> Iterator[list[GlEntry]]:
    """The first journal of each run key under the id that it had before the ERP told its own; others as they are."""
    known: set[str] = set()
    for lines in journals:
        key = lines[0].run_key
        if key and key not in known:
            known.add(key)
            lines = [replace(line, journal_id=short_key(key)) for line in lines]
        yield lines


def _dropped(drop: _Drop) -> JournalRef:
    ours = short_key(drop.run_key)
    if drop.accepted:
        return JournalRef(drop.entity, ours, drop.run_key, drop.date, "posted", drop.document)
    return JournalRef(drop.entity, ours, drop.run_key, drop.date, "draft")


def _held(lines: list[GlEntry]) -> JournalRef:
    first = lines[0]
    return JournalRef(first.entity, first.journal_id, first.run_key or "", first.date, "posted", first.journal_number)


def _journal(lines: list[GlEntry]) -> ErpJournal:
    first = lines[0]
    return ErpJournal(
        entity=first.entity,
        run_key=first.run_key or "",
        short_key=short_key(first.run_key) if first.run_key else "",
        date=first.date,
        currency=first.currency,
        narrative="" if first.run_key else first.narrative,
        lines=tuple(ErpLine(e.account, e.debit, e.credit, e.description, e.dimensions) for e in lines),
        state="posted",
        number=first.journal_number,
    )


def _numbered(lines: list[GlEntry]) -> Sequence[GlEntry]:
    """The lines of one journal in their own order."""
    return sorted(lines, key=lambda line: int(line.erp_id.rpartition(".")[2]))


def _refuse_other_totals(manifest: Manifest, entries: Iterable[GlEntry]) -> None:
    """Raises ErpUnavailable where an extract's totals are not those its manifest gives, or do not balance."""
    debit = credit = ZERO
    for entry in entries:
        debit, credit = debit + entry.debit, credit + entry.credit
    claimed = (_amount(manifest.says, "debit"), _amount(manifest.says, "credit"))
    if (debit, credit) != claimed or debit != credit:
        raise ErpUnavailable(
            "a ledger extract has other totals than its manifest, or does not balance",
            record=manifest.path,
            expected=f"{claimed[0]} / {claimed[1]}",
            got=f"{debit} / {credit}",
        )


def _only_row(content: bytes | None) -> dict[str, str] | None:
    """The one record of an acknowledgement; None while it is not there or not written to its end."""
    if content is None or not content.endswith(b"\n"):
        return None
    try:
        rows = list(csv.DictReader(io.StringIO(content.decode("utf-8-sig")), strict=True))
    except (UnicodeDecodeError, csv.Error):
        return None
    return rows[0] if len(rows) == 1 and None not in rows[0].values() else None


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    if not value:
        raise ErpUnavailable("a file of the ERP lacks a value", record=name, got=str(dict(row))[:200])
    return str(value)


def _amount(row: Mapping[str, Any], name: str) -> Decimal:
    """A plain decimal number: point, no thousands separators, not negative."""
    try:
        amount = Decimal(str(row.get(name, "")))
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or amount < 0:
        raise ErpUnavailable("a file of the ERP has no amount where one belongs", record=name, got=row.get(name))
    return amount


def _day(row: Mapping[str, Any], name: str) -> date:
    try:
        return date.fromisoformat(str(row.get(name, "")))
    except ValueError:
        raise ErpUnavailable(
            "a file of the ERP has no date where one belongs", record=name, got=row.get(name)
        ) from None


def _instant(text: str | None) -> datetime | None:
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise ErpUnavailable("a file of the ERP has no instant with its zone where one belongs", got=text)
    return found.astimezone(UTC)


ADAPTER = Adapter(FileDropConfig, FileDropLedger, receivable_modes=("gl_control",), by_files=True)
