"""Stripe: a first load by `created`, then the event feed as a list of what changed, each object read again: the many
young ones from the head of their list, the others by id.

No list can be filtered by time of change, so events are the only way to see changes; their payloads are in the
version they were made in and lack what can be expanded, so they only name objects. Events are kept for 30 days: a
source not read for longer is loaded again from the beginning. Balance transactions have no events; they only ever
move from pending to available, so each window reaches back to the oldest that was still pending. Nor do they name
the payout that carries them: each automatic payout's are listed by it, and must add up to its amount.
"""

from __future__ import annotations

import csv
import io
import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from functools import cache
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict

from tieout.errors import DataError, IncompleteExtract, Refused
from tieout.lake.landing import ControlTotal, ExtractRef, parse
from tieout.money import from_minor
from tieout.settings import Connection, load_config
from tieout.sources.client import Answer, Bearer, Clock, HttpClient, Params
from tieout.sources.control import Figures, compared, plain
from tieout.sources.drift import CONTRACTS
from tieout.sources.extract import Extraction, Filled, Mark, Pages, window_end, window_text
from tieout.sources.pagers import StripeList, member

log = logging.getLogger("tieout.sources")

EVENTS_KEPT = timedelta(days=29)  # Stripe says 30; a day's margin, because a feed cut at its end looks whole
BATCH = 100  # re-read objects per landed page
WORTH_A_PAGE = 10  # objects of a list's page that must be wanted for the page to be cheaper than reading them by id
LOOK_BACK = 100  # extracts of the feed searched for events already acted on
POLLS = 60

_COLLECTIONS = {
    "charge": "charges",
    "credit_note": "credit_notes",
    "customer": "customers",
    "dispute": "disputes",
    "invoice": "invoices",
    "payout": "payouts",
    "price": "prices",
    "product": "products",
    "refund": "refunds",
    "subscription": "subscriptions",
}
_FILTERS: dict[str, Params] = {
    "prices": [("expand[]", "data.tiers")],  # else a tiered price does not say what it costs
    "subscriptions": [("status", "all")],  # else canceled ones are left out
}
_EXPANDED: dict[str, Params] = {"prices": [("expand[]", "tiers")]}
_AMOUNTS = {
    "balance_transactions": "net",
    "charges": "amount",
    "credit_notes": "total",
    "disputes": "amount",
    "invoices": "total",
    "payouts": "amount",
    "refunds": "amount",
}
_REPORT = "balance_change_from_activity.itemized.3"
_REPORTED = {"gross": "amount", "fee": "fee", "net": "net"}  # the report's column -> the field of the object
_NOT_ACTIVITY = ("payout", "payout_reversal")  # categories the report leaves out
_DAY = 86400


class EventTypes(BaseModel):
    """`contracts/stripe_events.yaml`: the event types known at the pinned version."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    changes: dict[str, frozenset[str]]
    ignored: frozenset[str]

    @property
    def known(self) -> frozenset[str]:
        """Every known type."""
        return self.ignored.union(*self.changes.values())


@dataclass(frozen=True, slots=True)
class Change:
    """One event: which object it is about, and the object itself if the event says it was deleted."""

    event_id: str
    collection: str | None
    object_id: str
    deleted: Mapping[str, Any] | None


def catch_up(
    run: Extraction, connection: Connection, *, until: datetime | None = None, clock: Clock | None = None
) -> list[ExtractRef]:
    """Read everything that changed up to `until` (or now, less the safety lag) and return the new extracts."""
    with HttpClient(
        run.source.name,
        connection.host,
        auth=Bearer(connection.password or ""),
        headers={"Stripe-Version": run.contract.version},
        rate=run.source.rate,
        clock=clock,
    ) as client:
        return _Account(run, client, until).catch_up()


class _Account:
    """One Stripe account being read."""

    def __init__(self, run: Extraction, client: HttpClient, until: datetime | None) -> None:
        self.run, self.client, self.source = run, client, run.source
        self.now = client.server_time("v1/events?limit=1")
        self.hi = window_end(self.now, run.source.lag, until)
        self._changes: dict[str, list[Change]] = {}

    def catch_up(self) -> list[ExtractRef]:
        done = self._events()
        feed_hi, feed_sequence = self.run.mark("events").hi, self.run.mark("events").sequence
        for name in self.source.objects:
            if name == "events" or feed_hi is None:
                continue
            done += self.run.adopt(name)
            mark = self.run.mark(name)
            if mark.hi is not None and mark.hi >= feed_hi:
                continue
            self.client.window = window_text(mark.hi, feed_hi)
            if name == "balance_transactions":
                done.append(self._balance_transactions(mark, feed_hi))
            elif name == "payout_transactions":
                done += self._payout_transactions(mark, feed_hi)
            elif mark.hi is None or mark.hi < self.now - EVENTS_KEPT:
                done.append(self._load(name, mark, feed_hi, feed_sequence))
            else:
                done += self._changed(name, mark, feed_hi, feed_sequence)
        return done

    # --- the feed ---------------------------------------------------------------------------------

    def _events(self) -> list[ExtractRef]:
        """Land the events of the window; at first all that Stripe still keeps, as they date what records do not."""
        done = self.run.adopt("events")
        mark = self.run.mark("events")
        if mark.hi is not None and mark.hi >= self.hi:
            return done
        gap = mark.hi is None or mark.hi < self.now - EVENTS_KEPT
        lo = self.hi - EVENTS_KEPT if mark.hi is None or gap else mark.hi - self.source.reach_back
        if self.source.start is not None:
            lo = min(max(lo, self.source.start), self.hi)
        self.client.window = window_text(lo, self.hi)

        def fill(pages: Pages) -> Filled:
            types: Counter[str] = Counter()
            total, oldest = Figures(), None
            for records, answer in self._list("events", lo, self.hi):
                total.add(records)
                oldest = records[-1]["id"] if records else oldest
                types.update(str(event.get("type")) for event in records if isinstance(event, dict))
                self._land(pages, records, answer)
            unseen = {name: count for name, count in sorted(types.items()) if name not in _event_types().known}
            if unseen:
                log.warning("source=%s unseen event types: %s", self.source.name, unseen)
            control = self._second_listing("events", lo, self.hi, oldest, total) if self.source.second_listing else None
            return Filled(control, facts={"unseen_event_types": unseen, "feed_restarted": gap})

        return [*done, self.run.extract("events", lo, self.hi, fill)]

    def _changes_of(self, name: str, mark: Mark) -> dict[str, Change]:
        """The newest event of each object of one collection that its last extract has not seen, by object id."""
        consumed = int(mark.feed.get("events", 0))
        # an event whose first extract is further back than this would only have its object read once more
        extracts = self.run.landing.extracts(self.source.name, "events", after=max(0, consumed - LOOK_BACK))
        new = [e for e in extracts if e.sequence > consumed]
        since = min((e.window_lo for e in new if e.window_lo), default=None)
        seen = {
            change.event_id
            for e in extracts
            if e.sequence <= consumed and since and e.window_hi and e.window_hi > since
            for change in self._read_events(e)
        }
        changes: dict[str, Change] = {}
        for extract in new:
            for change in self._read_events(extract):
                if change.collection == name and change.event_id not in seen:
                    known = changes.get(change.object_id)
                    # events come newest first; that an object was deleted outlives whatever else happened to it
                    if known is None or (change.deleted and not known.deleted):
                        changes[change.object_id] = change
        return changes

    def _read_events(self, extract: ExtractRef) -> list[Change]:
        if extract.extract_id not in self._changes:
            self._changes[extract.extract_id] = [
                change for file in extract.files() for text in _records(file) if (change := _change(text))
            ]
        return self._changes[extract.extract_id]

    # --- objects ----------------------------------------------------------------------------------

    def _load(self, name: str, mark: Mark, hi: datetime, events: int) -> ExtractRef:
        """The object's whole list up to `hi`."""
        lo = self.source.start

        def fill(pages: Pages) -> Filled:
            total = Figures(_AMOUNTS.get(name))
            oldest = None
            for records, answer in self._list(name, lo, hi):
                total.add(records)
                oldest = records[-1]["id"] if records else oldest
                self._land(pages, [self._whole(record, answer) for record in records], answer)
            # what was deleted is on no list any more; records that refer to it are
            gone = [{**c.deleted, "deleted": True} for c in self._changes_of(name, mark).values() if c.deleted]
            if gone:
                self._land(pages, gone, answer)
            control = self._second_listing(name, lo, hi, oldest, total) if self.source.second_listing else None
            return Filled(control, {"events": events}, {"full": True, "deleted": len(gone)})

        return self.run.extract(name, lo, hi, fill)

    def _changed(self, name: str, mark: Mark, hi: datetime, events: int) -> list[ExtractRef]:
        """The objects that events name, read again."""
        changes = self._changes_of(name, mark)
        if not changes:
            self.run.pass_over(name, hi, {"events": events})
            return []

        def fill(pages: Pages) -> Filled:
            gone: list[str] = []
            found: set[str] = set()
            deleted = read = 0
            batch: list[Mapping[str, Any]] = []
            answers: list[Answer] = []

            def flush() -> None:
                if batch:
                    pages.land(
                        list(batch),
                        request=answers[-1].request,
                        request_id=answers[-1].request_id,
                        status=answers[-1].status,
                        fetched_at=answers[-1].served_at,
                        sha256=answers[-1].sha256 if len(answers) == 1 else None,
                    )
                    batch.clear()
                    answers.clear()

            for records, answer in self._young(name, hi, changes):
                wanted = [self._whole(record, answer) for record in records if record["id"] not in found]
                found.update(record["id"] for record in wanted)
                pages.land(
                    wanted,
                    request=answer.request,
                    request_id=answer.request_id,
                    status=answer.status,
                    fetched_at=answer.served_at,
                    sha256=None,
                )
            read += len(found)
            for object_id, change in changes.items():
                if object_id in found:
                    continue
                answer = self.client.get(f"v1/{name}/{object_id}", _EXPANDED.get(name), accept=(200, 404))
                alive = answer.status == 200 and not answer.value.get("deleted")
                if alive:
                    batch.append(self._whole(answer.value, answer))
                    read += 1
                elif change.deleted is not None:
                    batch.append({**change.deleted, "deleted": True})
                    deleted += 1
                elif answer.status == 200:
                    batch.append(answer.value)
                    deleted += 1
                else:
                    gone.append(object_id)  # deleted after the window: the next one brings the event
                answers.append(answer)
                if len(batch) >= BATCH:
                    flush()
            flush()
            claimed = {"objects named by events": str(len(changes))}
            counted = {"objects named by events": str(read + deleted + len(gone))}
            return Filled(
                ControlTotal("the event feed /v1/events", claimed, counted),
                {"events": events},
                {"deleted": deleted, "gone": gone},
            )

        return [self.run.extract(name, mark.hi, hi, fill)]

    def _young(
        self, name: str, hi: datetime, changes: Mapping[str, Change]
    ) -> Iterator[tuple[list[dict[str, Any]], Answer]]:
        """The changed objects on the first pages of the list, newest first, as long as pages hold enough of them.

        Most of what changes on a day was made on that day: a hundred at once instead of each by itself. Objects whose
        deletion an event tells are left to be asked for by id.
        """
        if len(changes) < WORTH_A_PAGE:
            return
        for records, answer in self._list(name, self.source.start, hi):
            changed = [
                record
                for record in records
                if isinstance(record, dict) and (change := changes.get(str(record.get("id")))) and not change.deleted
            ]
            if changed:
                yield changed, answer
            if len(changed) < WORTH_A_PAGE:
                return

    def _balance_transactions(self, mark: Mark, hi: datetime) -> ExtractRef:
        """New transactions, and again all since the oldest that was pending."""
        pending = mark.feed.get("pending_since")
        lo = self.source.start if mark.hi is None else mark.hi - self.source.reach_back
        if mark.hi is not None and lo is not None and pending:
            lo = min(lo, datetime.fromtimestamp(int(pending), UTC))

        def fill(pages: Pages) -> Filled:
            oldest_pending: int | None = None
            activity = _Activity(lo, hi)
            for records, answer in self._list("balance_transactions", lo, hi):
                for record in records:
                    created = record.get("created")
                    if record.get("status") == "pending" and isinstance(created, int):
                        oldest_pending = min(created, oldest_pending or created)
                activity.add(records)
                self._land(pages, records, answer)
            return Filled(self._report(activity), {"pending_since": oldest_pending})

        return self.run.extract("balance_transactions", lo, hi, fill)

    def _payout_transactions(self, mark: Mark, hi: datetime) -> list[ExtractRef]:
        """The transactions of each automatic payout that was read since, once Stripe knows which those are."""
        consumed = int(mark.feed.get("payouts", 0))
        extracts = self.run.landing.extracts(self.source.name, "payouts", after=consumed)
        feed = {"payouts": max((e.sequence for e in extracts), default=consumed)}
        payouts: dict[str, Mapping[str, Any]] = {}
        for extract in extracts:
            for text in (text for file in extract.files() for text in _records(file)):
                payout = parse(text)
                if payout.get("automatic") is True and payout.get("reconciliation_status") == "completed":
                    payouts[str(payout.get("id"))] = payout
        if not payouts:
            self.run.pass_over("payout_transactions", hi, feed)
            return []

        def fill(pages: Pages) -> Filled:
            content = _PayoutContent()
            for payout_id, payout in payouts.items():
                carried: list[Mapping[str, Any]] = []
                for page in StripeList(self.client, "v1/balance_transactions", [("payout", payout_id)]):
                    records = [{**r, "payout": payout_id} if isinstance(r, dict) else r for r in page.records]
                    carried += [r for r in records if isinstance(r, dict)]
                    self._land(pages, records, page.answer)
                content.add(payout_id, payout, carried)
            if content.wrong:
                log.warning("source=%s payouts that their transactions do not add up to: %s",
                            self.source.name, ", ".join(content.wrong))  # fmt: skip
            return Filled(content.control(), feed)

        return [self.run.extract("payout_transactions", mark.hi, hi, fill)]

    def _list(self, name: str, lo: datetime | None, hi: datetime) -> Iterator[tuple[list[Any], Answer]]:
        for page in StripeList(self.client, f"v1/{name}", self._window(name, lo, hi)):
            yield page.records, page.answer

    def _window(self, name: str, lo: datetime | None, hi: datetime) -> Params:
        lower = [("created[gte]", str(int(lo.timestamp())))] if lo else []
        return [*_FILTERS.get(name, []), *lower, ("created[lt]", str(int(hi.timestamp())))]

    def _land(self, pages: Pages, records: list[Any], answer: Answer) -> None:
        pages.land(
            records,
            request=answer.request,
            request_id=answer.request_id,
            status=answer.status,
            fetched_at=answer.served_at,
            sha256=answer.sha256,
        )

    def _whole(self, record: Any, answer: Answer) -> Any:
        """The record with every list inside it complete: answers carry only the first ten members."""
        if not isinstance(record, dict):
            return record
        for name, part in record.items():
            if isinstance(part, dict) and part.get("object") == "list" and part.get("has_more"):
                record[name] = self._whole_list(part, answer)
        return record

    def _whole_list(self, part: dict[str, Any], answer: Answer) -> dict[str, Any]:
        url = urlsplit(str(part.get("url")))
        data = part.get("data")
        if not url.path.startswith("/v1/") or not isinstance(data, list) or not data:
            raise self.client.error(IncompleteExtract, "a list inside an object cannot be continued", answer.request)
        members = list(data)
        for page in StripeList(self.client, url.path, parse_qsl(url.query), after=str(data[-1]["id"])):
            members += page.records
        return {**part, "data": members, "has_more": False}

    # --- control totals ---------------------------------------------------------------------------

    def _second_listing(
        self, name: str, lo: datetime | None, hi: datetime, oldest: str | None, first: Figures
    ) -> ControlTotal:
        """The same list walked from its old end; its count and sums must be those of the first walk."""
        again = Figures(_AMOUNTS.get(name))
        if oldest is not None:
            again.add([self.client.get(f"v1/{name}/{oldest}").value])
        params, cursor = self._window(name, lo, hi), "ending_before" if oldest else "starting_after"
        for page in StripeList(self.client, f"v1/{name}", params, after=oldest, cursor=cursor):
            again.add(page.records)
        return compared("a second listing from the other end", again.texts(), first)

    def _report(self, activity: _Activity) -> ControlTotal:
        """Stripe's own report on the balance, over the whole UTC days inside the window."""
        if activity.start >= activity.end:
            return ControlTotal("no whole UTC day in the window for a balance report")
        form = {
            "report_type": _REPORT,
            "parameters[interval_start]": str(activity.start),
            "parameters[interval_end]": str(activity.end),
        }
        try:
            report = self.client.submit("v1/reporting/report_runs", form=form).value
        except Refused as refused:
            log.warning("source=%s no balance report: %s", self.source.name, refused.message)
            return ControlTotal(f"no balance report: {refused.message}")
        for attempt in range(POLLS):
            answer = self.client.get(f"v1/reporting/report_runs/{report['id']}")
            status = answer.value.get("status")
            if status == "succeeded":
                file = member(self.client, answer, "result", dict)
                body = self.client.get(f"v1/files/{file['id']}/contents", json_body=False).body
                return activity.compared(body)
            if status == "failed":
                return ControlTotal(f"the balance report failed: {answer.value.get('error')}")
            self.client.clock.sleep(min(30.0, 2.0**attempt))
        return ControlTotal("the balance report was not ready in time")


class _PayoutContent:
    """Payouts beside the net of the transactions each of them carries, in minor units per currency."""

    def __init__(self) -> None:
        self._claimed, self._counted = Figures("amount"), Figures("amount")
        self.wrong: dict[str, tuple[str, str]] = {}

    def add(self, payout_id: str, payout: Mapping[str, Any], carried: list[Mapping[str, Any]]) -> None:
        """One payout; its own transaction, which the list has too, is none that it carries."""
        try:
            amount = Decimal(str(payout.get("amount")))
            net = sum((Decimal(str(t.get("net"))) for t in carried if t.get("type") != "payout"), Decimal(0))
        except InvalidOperation:
            self.wrong[payout_id] = (str(payout.get("amount")), "an amount that cannot be read")
            return
        self._claimed.add([{"amount": amount, "currency": payout.get("currency")}])
        self._counted.add([{"amount": net, "currency": payout.get("currency")}])
        if amount != net:
            self.wrong[payout_id] = (plain(amount), plain(net))

    def control(self) -> ControlTotal:
        """The payouts' amounts; each that differs by itself too, as two wrong ones may add up.

        One that differs leaves the extract unproven instead of refusing it: reading again would not change it.
        """
        claimed = self._claimed.texts() | {p: amount for p, (amount, _) in self.wrong.items()}
        counted = self._counted.texts() | {p: net for p, (_, net) in self.wrong.items()}
        return ControlTotal("the amounts of the payouts themselves", claimed, counted, approximate=True)


class _Activity:
    """Count, gross, fee and net per currency of balance transactions in the whole UTC days of a window.

    Payouts are left out, as Stripe's report on activity leaves them out.
    """

    def __init__(self, lo: datetime | None, hi: datetime) -> None:
        self.end = int(hi.timestamp()) // _DAY * _DAY
        self._fixed = lo is not None
        self.start = -(-int(lo.timestamp()) // _DAY) * _DAY if lo else self.end
        self._sums: dict[str, Decimal] = {}
        self._unusable = False

    def add(self, records: list[Any]) -> None:
        for record in records:
            created = record.get("created")
            if type(created) is not int or created >= self.end or (self._fixed and created < self.start):
                continue
            if not self._fixed:
                self.start = min(self.start, created // _DAY * _DAY)
            if record.get("reporting_category") in _NOT_ACTIVITY:
                continue
            currency = str(record.get("currency"))
            try:
                amounts = {n: from_minor(record[f], currency.upper(), "stripe") for n, f in _REPORTED.items()}
            except (DataError, InvalidOperation, KeyError, TypeError, ValueError):
                amounts, self._unusable = {}, True
            _add_up(self._sums, currency, amounts)

    def compared(self, body: bytes) -> ControlTotal:
        """Held against the report's CSV; by count alone where an amount could not be read."""
        how, sums = f"report run {_REPORT}", dict[str, Decimal]()
        for row in csv.DictReader(io.StringIO(body.decode("utf-8-sig"), newline="")):
            _add_up(sums, row["currency"], {name: Decimal(row[name]) for name in _REPORTED})
        if self._unusable:
            return ControlTotal(f"{how}, counts only", _counts(sums), _counts(self._sums))
        return ControlTotal(how, _texts(sums), _texts(self._sums))


def _add_up(sums: dict[str, Decimal], currency: str, amounts: Mapping[str, Decimal]) -> None:
    for name, amount in {"count": Decimal(1), **amounts}.items():
        key = f"{name} {currency}"
        sums[key] = sums.get(key, Decimal(0)) + amount


def _texts(sums: Mapping[str, Decimal]) -> dict[str, str]:
    """The figures; a window without any activity still has its count."""
    return {name: plain(value) for name, value in sorted(sums.items())} or {"count": "0"}


def _counts(sums: Mapping[str, Decimal]) -> dict[str, str]:
    return {"count": plain(sum((v for n, v in sums.items() if n.startswith("count ")), Decimal(0)))}


def _records(file: str) -> Iterator[str]:
    page = pq.read_table(file, columns=["record", "fault"])
    for text, fault in zip(page["record"].to_pylist(), page["fault"].to_pylist(), strict=True):
        if fault is None:
            yield text


def _change(text: str) -> Change | None:
    """What one landed event says; None where it names no object, as events about whole accounts do."""
    event = parse(text)
    data = event.get("data")
    subject = data.get("object") if isinstance(data, dict) else None
    if not isinstance(subject, dict) or not isinstance(subject.get("id"), str):
        return None
    kind, event_type = str(subject.get("object")), str(event.get("type"))
    collection = _COLLECTIONS.get(kind)
    # customer.subscription.deleted means canceled: the subscription can still be read
    deleted = event_type.endswith(".deleted") and kind != "subscription"
    return Change(str(event.get("id")), collection, subject["id"], subject if deleted else None)


@cache
def _event_types() -> EventTypes:
    return load_config(EventTypes, CONTRACTS / "stripe_events.yaml")
