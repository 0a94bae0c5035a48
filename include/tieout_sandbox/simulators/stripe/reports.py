"""Stripe's report runs: an independent account of the balance, for control totals.

Report types and columns: https://docs.stripe.com/reports/report-types/balance and /payout-reconciliation. Data for a
day is complete, and may be asked for, once that UTC day is over.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from tieout.money import from_minor, minor_digits
from tieout_sandbox.simulators.documents import Query
from tieout_sandbox.simulators.stripe import errors, params
from tieout_sandbox.simulators.stripe.present import Presenter
from tieout_sandbox.simulators.wire import Answer

_DAY = 86400
_TYPE = re.compile(r"(balance_change_from_activity|payout_reconciliation)\.(itemized|summary)\.\d+")
_PARAMETERS = {
    "columns",
    "connected_account",
    "currency",
    "interval_end",
    "interval_start",
    "payout",
    "reporting_category",
    "timezone",
}
_ITEMIZED = {
    "balance_change_from_activity": [
        "balance_transaction_id",
        "created_utc",
        "created",
        "available_on_utc",
        "currency",
        "gross",
        "fee",
        "net",
        "reporting_category",
        "source_id",
        "description",
    ],
    "payout_reconciliation": [
        "automatic_payout_id",
        "automatic_payout_effective_at_utc",
        "balance_transaction_id",
        "created_utc",
        "available_on_utc",
        "reporting_category",
        "currency",
        "gross",
        "fee",
        "net",
        "source_id",
        "description",
    ],
}
_SUMMARY = ["reporting_category", "currency", "count", "gross", "fee", "net"]


@dataclass(slots=True)
class _Run:
    id: str
    account: str
    created: int
    report_type: str
    parameters: dict[str, Any]
    polls: int = 0


@dataclass(slots=True)
class Runs:
    """Every report run asked for since the process began."""

    runs: dict[str, _Run] = field(default_factory=dict)

    def create(self, asked: dict[str, Any], account: str, now: int) -> Answer:
        """POST /v1/reporting/report_runs. A run is `pending` until it is read once."""
        params.refuse_unknown(asked, {"report_type", "parameters", "expand"})
        report_type = asked.get("report_type", "")
        if not _TYPE.fullmatch(report_type):
            raise errors.missing("report type", report_type, param="report_type", status=400)
        given = asked.get("parameters", {})
        if not isinstance(given, dict):
            raise errors.invalid("Invalid object", param="parameters")
        unknown = sorted(set(given) - _PARAMETERS)
        if unknown:
            name = f"parameters[{unknown[0]}]"
            raise errors.invalid(f"Received unknown parameter: {name}", code="parameter_unknown", param=name)
        bounds = {}
        for name in ("interval_start", "interval_end"):
            if name not in given:
                raise errors.invalid(
                    f"Missing required param: parameters[{name}].",
                    code="parameter_missing",
                    param=f"parameters[{name}]",
                )
            bounds[name] = params.integer(given[name], f"parameters[{name}]")
        available = now - now % _DAY
        if bounds["interval_end"] > available:
            raise errors.invalid(
                f"`interval_end` must be at or before `data_available_end` ({available}) for this report type.",
                param="parameters[interval_end]",
            )
        run_id = "frr_" + hashlib.sha256(f"{account}{len(self.runs)}{report_type}{given}".encode()).hexdigest()[:24]
        run = self.runs[run_id] = _Run(run_id, account, now, report_type, {**given, **bounds})
        return Answer(_run(run, "pending", ""))

    def get(self, parts: list[str], show: Presenter, now: int, base_url: str) -> Answer:
        """Runs, their result files, and the files' contents."""
        match parts:
            case ["reporting", "report_runs"]:
                mine = [r for r in reversed(self.runs.values()) if r.account == show.account]
                data = [_run(r, "succeeded" if r.polls else "pending", base_url) for r in mine]
                return Answer({"object": "list", "data": data, "has_more": False, "url": "/v1/reporting/report_runs"})
            case ["reporting", "report_runs", run_id]:
                run = self._mine(run_id, show, "reporting.report_run")
                run.polls += 1
                return Answer(_run(run, "succeeded", base_url))
            case ["files", file_id]:
                run = self._mine(file_id.replace("file_", "frr_"), show, "file upload")
                return Answer(_file(run, base_url))
            case ["files", file_id, "contents"]:
                run = self._mine(file_id.replace("file_", "frr_"), show, "file upload")
                return Answer(_contents(run, show), media_type="text/csv")
        raise errors.unknown_url("GET", "/v1/" + "/".join(parts))

    def _mine(self, run_id: str, show: Presenter, noun: str) -> _Run:
        run = self.runs.get(run_id)
        if run is None or run.account != show.account:
            raise errors.missing(noun, run_id)
        return run


def _run(run: _Run, status: str, base_url: str) -> dict[str, Any]:
    done = status == "succeeded"
    return {
        "id": run.id,
        "object": "reporting.report_run",
        "created": run.created,
        "error": None,
        "livemode": False,
        "parameters": run.parameters,
        "report_type": run.report_type,
        "result": _file(run, base_url) if done else None,
        "status": status,
        "succeeded_at": run.created if done else None,
    }


def _file(run: _Run, base_url: str) -> dict[str, Any]:
    file_id = run.id.replace("frr_", "file_")
    return {
        "id": file_id,
        "object": "file",
        "created": run.created,
        "expires_at": run.created + 365 * _DAY,
        "filename": f"{run.id}.csv",
        "links": {"object": "list", "data": [], "has_more": False, "url": f"/v1/file_links?file={file_id}"},
        "purpose": "finance_report_run",
        "size": 0,
        "title": f"FinanceReportRun {run.id}",
        "type": "csv",
        "url": f"{base_url}/v1/files/{file_id}/contents",
    }


def _contents(run: _Run, show: Presenter) -> str:
    """The run's CSV, amounts in major units."""
    kind, grain, _ = run.report_type.split(".")
    rows = _balance_rows if kind == "balance_change_from_activity" else _payout_rows
    lines: list[dict[str, Any]]
    if grain == "itemized":
        columns = run.parameters.get("columns") or _ITEMIZED[kind]
        lines = list(rows(run, show))
    else:
        columns, lines = _SUMMARY, _summarised(rows, run, show)
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, extrasaction="ignore", quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return out.getvalue()


def _balance_rows(run: _Run, show: Presenter) -> Iterator[dict[str, Any]]:
    """Every balance transaction created in the interval that is no payout, oldest first."""
    query = (
        Query(order="stamp, id")
        .and_("stamp >= ? AND stamp < ?", run.parameters["interval_start"], run.parameters["interval_end"])
        .and_("json_extract(body, '$.reporting_category') NOT IN ('payout', 'payout_reversal')")
    )
    yield from _wanted(query, run, show)


def _payout_rows(run: _Run, show: Presenter) -> Iterator[dict[str, Any]]:
    """The transactions behind each payout that arrives in the interval."""
    payouts = (
        Query(order="stamp, id")
        .and_("json_extract(body, '$.arrival_date') >= ?", run.parameters["interval_start"])
        .and_("json_extract(body, '$.arrival_date') < ?", run.parameters["interval_end"])
        .and_("json_extract(body, '$.automatic') IS NOT 0")
    )
    for payout in show.store.select(show.collection("payouts"), show.now, payouts):
        if run.parameters.get("payout", payout.id) != payout.id:
            continue
        query = Query(order="stamp, id").under(payout.id)
        arrives = _text(payout.body["arrival_date"])
        for row in _wanted(query, run, show):
            if row["reporting_category"] != "payout":
                yield row | {"automatic_payout_id": payout.id, "automatic_payout_effective_at_utc": arrives}


def _wanted(query: Query, run: _Run, show: Presenter) -> Iterator[dict[str, Any]]:
    for name in ("currency", "reporting_category"):
        if name in run.parameters:
            query = query.and_(f"json_extract(body, '$.{name}') = ?", run.parameters[name])
    for row in show.store.select(show.collection("balance_transactions"), show.now, query):
        body = row.body
        yield {
            "balance_transaction_id": row.id,
            "created_utc": _text(body["created"]),
            "created": _text(body["created"]),
            "available_on_utc": _text(body["available_on"]),
            "currency": body["currency"],
            "gross": _major(body["amount"], body["currency"]),
            "fee": _major(body["fee"], body["currency"]),
            "net": _major(body["net"], body["currency"]),
            "reporting_category": body["reporting_category"],
            "source_id": body.get("source") or "",
            "description": body.get("description") or "",
        }


def _summarised(
    rows: Callable[[_Run, Presenter], Iterator[dict[str, Any]]], run: _Run, show: Presenter
) -> list[dict[str, Any]]:
    groups: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows(run, show):
        key = (row["reporting_category"], row["currency"])
        zero = {"reporting_category": key[0], "currency": key[1], "count": 0}
        group = groups.setdefault(key, zero | dict.fromkeys(("gross", "fee", "net"), Decimal(0)))
        group["count"] += 1
        for amount in ("gross", "fee", "net"):
            group[amount] += Decimal(row[amount])
    return [groups[key] for key in sorted(groups)]


def _major(amount: int, currency: str) -> str:
    digits = minor_digits(currency.upper(), "stripe")
    return f"{from_minor(amount, currency.upper(), 'stripe'):.{digits}f}"


def _text(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
