"""Salesforce: windows of `SystemModstamp`, deleted rows included, by REST or Bulk 2.0 as their number asks.

Commits become visible minutes after their stamp, so a window ends ten minutes behind Salesforce's clock and reaches
back into the one before. Both ways land the same records: text as text, booleans as booleans, an empty CSV cell as
null, dates and times as REST writes them.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.auth import AuthBase

from tieout.errors import Refused, Unavailable
from tieout.lake.landing import ExtractRef
from tieout.observe import redact
from tieout.settings import Connection
from tieout.sources.client import Answer, Bearer, Clock, HttpClient, Verdict
from tieout.sources.control import Figures, compared, plain
from tieout.sources.extract import Extraction, Filled, Pages, window_end, window_text
from tieout.sources.pagers import BulkResults, Page, SoqlQuery, member
from tieout.transport import same_origin

log = logging.getLogger("tieout.sources")

RECYCLE_BIN = timedelta(days=14)  # deleted rows can be queried for 15 days; a day's margin
LONGEST_SOQL = 10_000  # characters; the address and headers of a request may have 16,384 bytes in all
POLLS = 400
_AMOUNTS = {
    "Opportunity": "Amount",
    "SBQQ__Quote__c": "SBQQ__NetAmount__c",
    "SBQQ__Subscription__c": "SBQQ__NetPrice__c",
}
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,79}\Z")

# what a describe calls a type -> how the contract calls it, once landed
_LANDED = {
    "boolean": "bool",
    "int": "int",
    "long": "int",
    "double": "number",
    "currency": "number",
    "percent": "number",
}


def catch_up(
    run: Extraction, connection: Connection, *, until: datetime | None = None, clock: Clock | None = None
) -> list[ExtractRef]:
    """Read every row stamped up to `until` (or now, less the safety lag) and return the new extracts."""
    with HttpClient(run.source.name, connection.host, rate=run.source.rate, clock=clock, judge=_judge) as client:
        now = sign_in(client, connection)
        client.renew = lambda: sign_in(client, connection)
        hi = window_end(now, run.source.lag, until)
        return [ref for name in run.source.objects for ref in _Object(run, client, name, now).catch_up(hi)]


def sign_in(client: HttpClient, connection: Connection) -> datetime:
    """OAuth client credentials at the org's own domain. Gives Salesforce's clock. Raises Refused."""
    client.authenticate(_NoAuth())
    answer = client.submit(
        "services/oauth2/token",
        form={
            "grant_type": "client_credentials",
            "client_id": connection.login or "",
            "client_secret": connection.password or "",
        },
    )
    instance = str(member(client, answer, "instance_url", str)).rstrip("/")
    if not _is_ours(client.base_url, instance):
        raise client.error(
            Refused, "the sign-in answers with an instance elsewhere, which gets no token", got=redact(instance),
            remedy="give the org's own My Domain address as the connection's host",
        )  # fmt: skip
    client.base_url = instance
    client.authenticate(Bearer(member(client, answer, "access_token", str)))
    return answer.served_at


def _is_ours(asked: str, given: str) -> bool:
    """Whether the instance is the server that was asked or, both encrypted, another one of Salesforce's own."""
    parts = [urlsplit(url) for url in (asked, given)]
    return same_origin(asked, given) or all(
        p.scheme == "https" and "@" not in p.netloc and (p.hostname or "").endswith(".salesforce.com") for p in parts
    )


class _Object:
    """One object of the org being read."""

    def __init__(self, run: Extraction, client: HttpClient, name: str, now: datetime) -> None:
        self.run, self.client, self.name, self.now = run, client, name, now
        self.base = f"services/data/{run.source.api_version or run.contract.version}"

    def catch_up(self, hi: datetime) -> list[ExtractRef]:
        done = self.run.adopt(self.name)
        mark = self.run.mark(self.name)
        if mark.hi is not None and mark.hi >= hi:
            return done
        lo = self.run.source.start if mark.hi is None else mark.hi - self.run.source.reach_back
        self.client.window = window_text(lo, hi)
        if not _NAME.match(self.name):
            raise self.client.error(Refused, "not a name of a Salesforce object", got=self.name)

        def fill(pages: Pages) -> Filled:
            types = self._describe()
            noted = frozenset(mark.feed.get("fields", ()))  # a field is news once
            contract = self.run.contract.object(self.name).fields
            described = {f: _LANDED.get(t, "text") for f, t in types.items() if f in contract or f not in noted}
            pages.drift.see_described(described, f"describe {self.name}")
            wanted = [f for f in contract if f in types]
            where = _between(lo, hi)
            claimed = self._claimed(where, types)
            counted = Figures(
                _AMOUNTS[self.name] if _has_amount(self.name, types) else None,
                "CurrencyIsoCode" if "CurrencyIsoCode" in types else None,
            )
            soql = f"SELECT {', '.join(wanted)} FROM {self.name}{where}"
            bulk = int(claimed["count"]) > self.run.source.bulk_above or len(soql) > LONGEST_SOQL
            for page in self._bulk(soql, types) if bulk else self._rest(soql):
                counted.add(page.records)
                pages.land_page(page)
            if counted.texts() != claimed:
                claimed = self._claimed(where, types)  # rows that became visible meanwhile count on neither side
            old = mark.hi is not None and self.now - mark.hi > RECYCLE_BIN
            if old:
                log.warning("source=%s object=%s deletions since %s may be lost", self.run.source.name, self.name, lo)
            facts = {"way": "bulk" if bulk else "rest", "deletions_may_be_lost": old}
            return Filled(compared("COUNT and SUM in SOQL", claimed, counted), {"fields": sorted(types)}, facts)

        return [*done, self.run.extract(self.name, lo, hi, fill)]

    def _describe(self) -> dict[str, str]:
        """The object's fields with their Salesforce types."""
        answer = self.client.get(f"{self.base}/sobjects/{self.name}/describe")
        return {str(f["name"]): str(f["type"]) for f in member(self.client, answer, "fields", list)}

    def _claimed(self, where: str, types: Mapping[str, str]) -> dict[str, str]:
        """Count of rows and, where the object has an amount, its sum by currency, as Salesforce adds them up."""
        count = self._query(f"SELECT COUNT() FROM {self.name}{where}").value["totalSize"]
        claimed = {"count": str(count)}
        if not _has_amount(self.name, types):
            return claimed
        amount = _AMOUNTS[self.name]
        grouped = "CurrencyIsoCode" in types
        soql = (
            f"SELECT {'CurrencyIsoCode, ' if grouped else ''}SUM({amount}) total FROM {self.name}{where}"
            f"{' GROUP BY CurrencyIsoCode' if grouped else ''}"
        )
        for row in member(self.client, self._query(soql), "records", list):
            if row.get("total") is not None and Decimal(str(row["total"])):
                currency = row.get("CurrencyIsoCode")
                claimed[f"{amount} {currency}" if currency else amount] = plain(Decimal(str(row["total"])))
        return claimed

    def _query(self, soql: str) -> Answer:
        return self.client.get(f"{self.base}/queryAll", [("q", soql)])

    def _rest(self, soql: str) -> Iterator[Page]:
        for page in SoqlQuery(self.client, self.base, f"{soql} ORDER BY SystemModstamp, Id"):
            records = [{k: v for k, v in r.items() if k != "attributes"} for r in page.records]
            yield Page(records, page.answer)

    def _bulk(self, soql: str, types: Mapping[str, str]) -> Iterator[Page]:
        """The rows by a Bulk 2.0 query job; no ORDER BY, which would keep Salesforce from splitting the query."""
        job = {
            "operation": "queryAll",
            "query": soql,
            "contentType": "CSV",
            "columnDelimiter": "COMMA",
            "lineEnding": "LF",
        }
        created = self.client.submit(f"{self.base}/jobs/query", json_=job)
        path = f"{self.base}/jobs/query/{member(self.client, created, 'id', str)}"
        try:
            self._wait_for(path)
            for page in BulkResults(self.client, f"{path}/results"):
                yield Page(list(_as_rest(page.records, types)), page.answer)
        finally:
            self.client.delete(path)

    def _wait_for(self, path: str) -> None:
        for attempt in range(POLLS):
            answer = self.client.get(path)
            state = answer.value.get("state")
            if state == "JobComplete":
                return
            if state in ("Failed", "Aborted"):
                raise self.client.error(
                    Unavailable, f"the bulk query {state.lower()}: {answer.value.get('errorMessage')}", answer.request
                )
            self.run.beat()
            self.client.clock.sleep(min(15.0, 0.5 * 2.0 ** min(attempt, 5)))
        raise self.client.error(Unavailable, "the bulk query did not end in time", path)


class _NoAuth(AuthBase):
    """Sends nothing, and keeps requests from looking for credentials elsewhere."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        return request


def _judge(status: int, body: bytes) -> Verdict | None:
    """Salesforce says 403, not 429, both when too many requests run at once and when the day's are used up."""
    if status == 401 and b"INVALID_SESSION_ID" in body:
        return "expired"
    if status != 403 or b"REQUEST_LIMIT_EXCEEDED" not in body:
        return None
    return "passing" if b"ConcurrentRequests" in body else "quota"


def _between(lo: datetime | None, hi: datetime) -> str:
    lower = f"SystemModstamp >= {_literal(lo)} AND " if lo else ""
    return f" WHERE {lower}SystemModstamp < {_literal(hi)}"


def _literal(instant: datetime) -> str:
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _has_amount(name: str, types: Mapping[str, str]) -> bool:
    return _AMOUNTS.get(name) in types


def _as_rest(records: Iterable[Mapping[str, str]], types: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Rows of a bulk CSV as REST would have answered them."""
    for record in records:
        yield {name: _value(text, types.get(name, "string")) for name, text in record.items()}


def _value(text: str, kind: str) -> Any:
    if text == "" or text is None:
        return None
    match kind:
        case "boolean":
            return text == "true"
        case "int" | "long":
            return int(Decimal(text))
        case "datetime":
            return f"{text[:-1]}+0000" if text.endswith("Z") else text
    return text
