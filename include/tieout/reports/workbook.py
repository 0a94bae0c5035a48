"""The workbook of a business date, laid out as an accountant would: summary first, then one sheet per question.

Texts are written as texts whatever they begin with, so nothing from a vendor can become a formula. The same data gives
the same bytes: no clock time is written into the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from textwrap import wrap
from typing import Any, Literal

import xlsxwriter

from tieout.money import minor_digits, round_money
from tieout.reports.compared import Amount, compared
from tieout.reports.data import (
    AGE_BUCKETS,
    ReportData,
    Row,
    age_bucket,
    count_by,
    headline,
    open_breaks,
    totals_by_outcome,
)
from tieout.reports.stake import MEANING, MEASURES, not_priced, totals
from tieout.reports.usage import top_leaks

Kind = Literal["text", "wide", "count", "money", "date", "instant"]

# Excel holds 1,048,576 rows; past this a person reads the result tables instead, and the sheet says so.
MAX_ROWS = 100_000
_LINE = 13
"""Height of a line of text in points."""


@dataclass(frozen=True, slots=True)
class Field:
    """One column of a sheet: the row's key, its heading, how it is shown and how many characters wide."""

    name: str
    heading: str
    kind: Kind = "text"
    width: int = 12


def _text(name: str, heading: str, width: int = 12) -> Field:
    return Field(name, heading, "text", width)


def _wide(name: str, heading: str, width: int) -> Field:
    return Field(name, heading, "wide", width)


def _count(name: str, heading: str, width: int = 9) -> Field:
    return Field(name, heading, "count", width)


def _money(name: str, heading: str, width: int = 15) -> Field:
    return Field(name, heading, "money", width)


def _date(name: str, heading: str) -> Field:
    return Field(name, heading, "date", 12)


ENTITY, CURRENCY = _text("legal_entity_id", "Entity", 8), _text("currency", "Currency", 10)
BREAKS = (
    _wide("owner", "Owner", 15),
    _count("age_days", "Days", 7),
    _wide("definition", "Reconciliation", 22),
    ENTITY,
    _wide("break_key", "Key", 21),
    _wide("break_type", "Type", 11),
    _wide("sentence", "What is different", 50),
    _wide("compared", "Compared", 12),
    _money("left", "Left"),
    _money("right", "Right"),
    CURRENCY,
    _money("stake", "At stake"),
    _money("balance_at_stake", "Counted once: owed, paid or booked"),
    _money("monthly_at_stake", "Counted once: again every month"),
    _wide("next_action", "Next action", 38),
    _wide("status", "Status", 10),
    _date("first_seen", "First seen"),
)
JOURNALS = (
    ENTITY,
    _text("stream", "Stream", 13),
    _date("accounting_date", "Date"),
    _text("run_key", "Run key", 49),
    _text("kind", "Kind", 12),
    _text("state", "State", 16),
    _text("erp_number", "ERP number", 16),
    CURRENCY,
    _money("debit", "Debit", 17),
    _money("credit", "Credit", 17),
    _count("line_count", "Lines"),
    _count("row_count", "Source rows"),
)
LINES = (
    _text("run_key", "Run key", 49),
    _count("line_no", "Line", 7),
    _text("account", "Account", 10),
    _text("account_role", "Role", 22),
    _text("event_type", "Event", 26),
    _text("product_family", "Family", 12),
    _text("tax_code", "Tax code", 28),
    _text("description", "Text", 44),
    CURRENCY,
    _money("debit", "Debit", 17),
    _money("credit", "Credit", 17),
    _count("row_count", "Source rows"),
)
DRILLDOWN = (
    _text("run_key", "Run key", 49),
    _count("line_no", "Line", 7),
    _text("account", "Account", 10),
    _text("side", "Side", 8),
    _text("line_text", "Text of the line", 34),
    _date("event_date", "Event date"),
    _text("document_number", "Document", 20),
    _money("amount", "Amount"),
    CURRENCY,
    _text("source", "Source", 12),
    _text("source_id", "Source id", 36),
    _text("event_id", "Event", 72),
    _text("raw_ref", "Landed page", 58),
)
TOTALS = (
    _text("definition", "Reconciliation", 44),
    ENTITY,
    CURRENCY,
    _text("outcome", "Outcome", 11),
    _text("detail", "Detail", 50),
    _count("left_rows", "Left rows", 11),
    _money("left_amount", "Left amount", 18),
    _count("right_rows", "Right rows", 11),
    _money("right_amount", "Right amount", 18),
    _money("apart", "Left − right", 18),
)
PROOF = (
    ENTITY,
    _text("account", "Account", 10),
    _text("name", "Name", 30),
    CURRENCY,
    _money("opening", "Opening at go-live", 18),
    _money("posted", "Posted by Tieout", 18),
    _money("foreign", "Entries by others", 18),
    _money("expected", "Expected", 18),
    _money("trial_balance", "ERP trial balance", 18),
    _money("difference", "Difference", 18),
)
FOREIGN = (
    ENTITY,
    _date("accounting_date", "Date"),
    _text("number", "Entry", 18),
    _text("account", "Account", 10),
    _wide("narrative", "Narrative", 60),
    CURRENCY,
    _money("debit", "Debit", 17),
    _money("credit", "Credit", 17),
)
QUARANTINE = (
    _text("source", "Source", 14),
    _text("object", "Object", 20),
    _text("reason_code", "Reason", 22),
    _wide("reason", "Why", 62),
    _text("source_id", "Record", 24),
    _money("amount", "Amount"),
    CURRENCY,
    _text("raw_ref", "Landed page", 52),
)
BACKLOG = (
    ENTITY,
    _text("kind", "Kind", 13),
    _wide("owner", "Owner", 18),
    _count("age_days", "Days", 7),
    _wide("what", "What is different", 58),
    _money("stake", "Value", 17),
    CURRENCY,
    _wide("next_action", "Next action", 44),
    _wide("item", "Item", 44),
)
INPUTS = (
    _text("source", "Source", 14),
    _text("object", "Object", 26),
    Field("complete_until", "Complete until (UTC)", "instant", 20),
    _count("records", "Records", 11),
    _count("kept", "Kept", 11),
    _count("merged", "Merged", 11),
    _count("quarantined", "Quarantined", 12),
    _text("control", "Control total", 14),
    _wide("control_how", "Held against", 62),
)
GATE = (
    _text("entity", "Entity", 26),
    _count("expectations", "Expectations", 13),
    _count("failed", "Failed", 9),
    _count("rows_failing", "Rows failing", 13),
    _wide("value_at_risk", "Value at risk", 34),
    _text("effect", "Effect", 12),
    _wide("reasons", "What fails", 70),
)
PROOF_SUMS = ("opening", "posted", "foreign", "expected", "trial_balance", "difference")
SIDES = "Left is the system named first in the reconciliation's title, right the one named second."


LEAKS = (
    ENTITY,
    _text("kind", "Kind", 20),
    _money("value", "Money"),
    CURRENCY,
    _count("age_days", "Days", 7),
    _wide("sentence", "What happened", 90),
    _wide("break_key", "Key", 40),
)
USAGE = (
    _text("meter", "Meter", 16),
    _text("unit", "Unit", 10),
    _text("month", "Month", 10),
    CURRENCY,
    _count("counted", "Counted", 16),
    _count("billed", "Billed", 16),
    _money("due", "Due"),
    _money("charged", "Charged"),
    _money("apart", "Charged − due"),
)


def write(data: ReportData, path: Path) -> Path:
    """Write the workbook to `path` and return it."""
    book = xlsxwriter.Workbook(
        str(path),
        {
            "constant_memory": True,
            "strings_to_formulas": False,
            "strings_to_urls": False,
            "strings_to_numbers": False,
            "default_date_format": "yyyy-mm-dd",
            "default_format_properties": {"font_name": "Arial", "font_size": 10},
        },
    )
    book.set_properties(
        {
            "title": f"{data.title} {data.business_date}",
            "author": "Tieout",
            "created": datetime(data.business_date.year, data.business_date.month, data.business_date.day),  # noqa: DTZ001
        }
    )
    waiting = open_breaks(data)
    sheets = _Sheets(book, data)
    sheets.summary(waiting)
    counted = ("balance_at_stake", "monthly_at_stake")
    sheets.table(
        "Breaks",
        "Open breaks by owner and type, the largest first",
        BREAKS,
        [_break_row(data, row) for row in waiting],
        sums=counted,
        notes=(MEANING, SIDES),
    )
    currency = {j["run_key"]: j["currency"] for j in data.journals}
    sheets.table("Journals", "Journals of this date", JOURNALS, data.journals, sums=("debit", "credit"))
    lines = [{**row, row["side"]: row["amount"]} for row in data.journal_lines]
    netted = "Nothing is netted: an account debited and credited in one journal had events of both directions."
    sheets.table("Journal lines", "Lines of the journals", LINES, lines, sums=("debit", "credit"), notes=(netted,))
    of_line = {(line["run_key"], line["line_no"]): line for line in data.journal_lines}
    drill = [_part(row, of_line.get((row["run_key"], row["line_no"])), currency) for row in data.drilldown]
    adds_up = (
        "The amounts of a run key and line add up to that journal line exactly, positive on the line's side. An "
        "accrual's event names what was delivered and when its billing period began, a release's the invoice line."
    )
    sheets.table("Drill-down", "Source rows behind each journal line", DRILLDOWN, drill, notes=(adds_up,))
    both = [
        {**t, "definition": _title(data, t["definition_id"]), "apart": _apart(t)}
        for rows in totals_by_outcome(data).values()
        for t in rows
    ]
    all_rows = "all = matched + break + excluded, on each side."
    sheets.table(
        "Totals", "Totals by reconciliation, entity and currency", TOTALS, both, bold="all", notes=(SIDES, all_rows)
    )
    sheets.table(
        "Proof", "Opening + posted + entries by others = ERP trial balance", PROOF, data.proof, sums=PROOF_SUMS
    )
    sheets.table(
        "Entries by others",
        "Entries since go-live that Tieout did not post",
        FOREIGN,
        data.foreign,
        sums=("debit", "credit"),
    )
    sheets.table("Usage leaks", "Open usage leaks, the largest first", LEAKS, top_leaks(waiting, None))
    by_month = "Billing periods that have ended, by the month of their last day; due is by the price book."
    usage = [{**row, "apart": row["charged"] - row["due"]} for row in data.usage]
    sheets.table("Usage", "What each meter counted and billed", USAGE, usage, notes=(by_month,))
    sheets.table("Backlog", "What is unfinished before the close", BACKLOG, _backlog(data), notes=_backlog_notes(data))
    sheets.table("Quarantine", "Records set aside with a reason", QUARANTINE, data.quarantine)
    kept = "Every record read is kept, merged into a newer or equal one, or set aside in quarantine."
    sheets.table("Inputs", "How far each source is read", INPUTS, data.sources, notes=(kept,))
    sheets.table("Quality gate", "What the tables were checked for before matching", GATE, _gate(data))
    sheets.hashes()
    book.close()
    return path


def _break_row(data: ReportData, row: Row) -> dict[str, Any]:
    about = compared(row)
    change = row.get("change")
    return {
        **row,
        "definition": _title(data, row["definition_id"]),
        "compared": about.field,
        "left": about.left,
        "right": about.right,
        "stake": _priced(row, "value"),
        "status": ", ".join(str(w) for w in (row.get("state"), change if change != "continuing" else None) if w),
    }


def _part(row: Row, line: Row | None, currency: Mapping[str, str]) -> dict[str, Any]:
    """A row of the drill-down with what its journal line says."""
    told = {} if line is None else {n: line[n] for n in ("account", "side")} | {"line_text": line["description"]}
    return {**row, **told, "currency": currency.get(row["run_key"])}


def _priced(row: Row, column: str) -> Decimal | str:
    if row.get(column) is None:
        return "two currencies" if row.get("break_type") == "currency" else "not priced"
    amount: Decimal = row[column]
    return amount


def _apart(total: Row) -> Decimal | None:
    if total["left_amount"] is None and total["right_amount"] is None:
        return None
    return (total["left_amount"] or Decimal(0)) - (total["right_amount"] or Decimal(0))


def _backlog(data: ReportData) -> list[dict[str, Any]]:
    return [{**row, "stake": _priced(row, "amount")} for row in data.backlog]


def _backlog_notes(data: ReportData) -> tuple[str, ...]:
    if data.close_report:
        return (f"The month end lists it, in {data.close_report}, once the workflow month_end has run for the month.",)
    return ("Values of breaks are each break's own; the sheet Breaks counts each cause once.",)


def _gate(data: ReportData) -> list[dict[str, Any]]:
    effect = {(True, True): "blocks", (True, False): "warns"}
    return [{**g, "effect": effect.get((bool(g["failed"]), bool(g.get("blocking"))), "passes")} for g in data.gate]


def _title(data: ReportData, definition_id: str) -> str:
    return data.definitions.get(definition_id, definition_id)


class _Sheets:
    """The open workbook with its formats; rows are written top to bottom, as constant memory demands."""

    def __init__(self, book: Any, data: ReportData) -> None:
        self.book, self.data = book, data
        top: dict[str, Any] = {"valign": "top"}
        head: dict[str, Any] = {"bold": True, "bg_color": "#E6EDF0", "bottom": 1, "text_wrap": True, "valign": "top"}
        self.title = book.add_format({"bold": True, "font_size": 14})
        self.quiet = book.add_format({"font_color": "#5F6F7A"})
        self.head = book.add_format(head | {"align": "left", "indent": 1})
        self.head_right = book.add_format(head | {"align": "right"})
        self.wrap = book.add_format(top | {"text_wrap": True, "align": "left", "indent": 1})
        self.plain = book.add_format(top | {"align": "left", "indent": 1})
        self.right = book.add_format(top | {"align": "right", "font_color": "#5F6F7A"})
        self.bold = book.add_format({"bold": True})
        self.bold_plain = book.add_format(top | {"bold": True, "align": "left", "indent": 1})
        self.good = book.add_format({"bold": True, "font_color": "#22735F", "align": "left", "indent": 1})
        self.bad = book.add_format({"bold": True, "font_color": "#A8322F", "align": "left", "indent": 1})
        self.money_formats: dict[tuple[int, bool], Any] = {}
        self.dates = book.add_format(top | {"num_format": "yyyy-mm-dd", "align": "left", "indent": 1})
        self.instants = book.add_format(top | {"num_format": "yyyy-mm-dd hh:mm", "align": "left", "indent": 1})
        self.counts = book.add_format(top | {"num_format": "#,##0"})
        self.bold_counts = book.add_format(top | {"num_format": "#,##0", "bold": True})

    def money(self, currency: str | None, bold: bool = False) -> Any:
        """Accounting format at the currency's digits: negatives in brackets, nothing for zero but a dash."""
        digits = minor_digits(currency) if currency else 2
        if (digits, bold) not in self.money_formats:
            shape = "#,##0" + ("." + "0" * digits if digits else "")
            style: dict[str, Any] = {"num_format": f'{shape}_);({shape});"-"_)', "valign": "top"}
            if bold:
                style |= {"bold": True, "top": 1}
            self.money_formats[digits, bold] = self.book.add_format(style)
        return self.money_formats[digits, bold]

    def summary(self, waiting: Sequence[Row]) -> None:
        """The first sheet: the answers, what blocks, what is at stake, who has it, what was posted."""
        data, head = self.data, headline(self.data)
        sheet = self._sheet("Summary", widths=(44, 15, 15, 15, 15, 15, 15, 15, 15))
        sheet.fit_to_pages(1, 1)
        sheet.write_string(0, 0, data.title, self.title)
        note = f" · {data.note}" if data.note else ""
        entities = ", ".join(f"{entity} ({currency})" for entity, currency in data.entities.items())
        sheet.write_string(1, 0, f"Business date {data.business_date} · {entities}{note}", self.quiet)
        tie = {True: "ties to the cent", False: "DOES NOT TIE", None: "not proved"}[head.ties]
        facts: list[tuple[str, str | int, Any]] = [
            ("Ledger against ERP trial balance", tie, self.good if head.ties else self.bad),
            ("Open breaks", head.open_breaks, self.bold_counts),
            ("  of which new", head.new_breaks, self.counts),
            ("  gone since the day before", head.gone_breaks, self.counts),
            ("Journals posted and read back", head.journals_posted, self.bold_counts),
            ("Journals waiting", head.journals_waiting, self.bold_counts),
            ("Records in quarantine", head.rows_quarantined, self.bold_counts),
        ]
        row = 3
        for label, value, style in facts:
            sheet.write_string(row, 0, label, self.plain)
            if isinstance(value, int):
                sheet.write_number(row, 1, value, style)
            else:
                sheet.write_string(row, 1, value, style)
            row += 1
        row = self._lines(sheet, row + 1, "What blocks", head.blockers or ("Nothing but the open breaks.",))
        row = self._stake(sheet, row + 1, waiting)
        row = self._owners(sheet, row + 1, waiting)
        row = self._block(
            sheet,
            row + 1,
            "Open breaks by type",
            ("Type", "Open"),
            [(str(kind).replace("_", " "), count) for (kind,), count in count_by(waiting, "break_type").items()],
        )
        self._block(
            sheet,
            row + 1,
            "Journals by entity and currency",
            ("Entity", "Currency", "Journals", "Posted", "Waiting", "Debit", "Credit"),
            self._journals(),
        )

    def _stake(self, sheet: Any, row: int, waiting: Sequence[Row]) -> int:
        """What is at stake by reconciliation, a column per currency, totals by measure below."""
        currencies = sorted({str(b["currency"]) for b in waiting if b.get("currency")})
        heads = ("Reconciliation", "Open", "New", "Over 30 days", "Not priced", *currencies, "Measure")
        rows: list[Sequence[Any]] = []
        for definition in sorted({str(b["definition_id"]) for b in waiting}):
            mine = [b for b in waiting if b["definition_id"] == definition]
            for name in [n for n in MEASURES if totals(mine, n)] or [""]:
                sums = totals(mine, name) if name else {}
                rows.append(
                    (
                        _title(self.data, definition),
                        len(mine),
                        sum(1 for b in mine if b.get("change") in ("new", "reopened")),
                        sum(1 for b in mine if age_bucket(b.get("age_days")) == AGE_BUCKETS[-1][0]),
                        not_priced(mine),
                        *({(c,): sums[c]} if c in sums else "" for c in currencies),
                        MEASURES.get(name, ""),
                    )
                )
        for name, words in MEASURES.items():
            sums = totals(waiting, name)
            if sums:
                each = [{(c,): sums[c]} if c in sums else "" for c in currencies]
                rows.append((f"Total {words}", "", "", "", "", *each, words))
        return self._block(sheet, row, "Open breaks and what is at stake", heads, rows, notes=(MEANING,))

    def _owners(self, sheet: Any, row: int, waiting: Sequence[Row]) -> int:
        names = [name for name, _ in AGE_BUCKETS]
        rows = []
        for (owner,), count in count_by(waiting, "owner").items():
            mine = [age_bucket(b.get("age_days")) for b in waiting if b.get("owner") == owner]
            rows.append((owner or "nobody", *(mine.count(name) for name in names), count))
        return self._block(sheet, row, "Open breaks by owner and age", ("Owner", *names, "All"), rows)

    def _journals(self) -> list[Sequence[Any]]:
        rows: list[Sequence[Any]] = []
        for (entity, currency), count in count_by(self.data.journals, "legal_entity_id", "currency").items():
            mine = [j for j in self.data.journals if (j["legal_entity_id"], j["currency"]) == (entity, currency)]
            posted = sum(1 for j in mine if j.get("state") == "posted")
            waiting = sum(1 for j in mine if j.get("state") not in ("posted", "reversed", "manually_resolved"))
            sums = [{(currency,): sum((j[side] for j in mine), Decimal(0))} for side in ("debit", "credit")]
            rows.append((entity, currency, count, posted, waiting, *sums))
        return rows

    def table(
        self,
        name: str,
        title: str,
        fields: Sequence[Field],
        rows: Iterable[Row],
        *,
        sums: Sequence[str] = (),
        bold: str | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        """One sheet: title, headings that stay in view and filter, the rows, and a total per currency."""
        rows = list(rows)
        sheet = self._sheet(name, widths=[f.width for f in fields])
        sheet.write_string(0, 0, title, self.title)
        more = f"; the first {MAX_ROWS:,} here, all in the result table" if len(rows) > MAX_ROWS else ""
        count = "1 row" if len(rows) == 1 else f"{len(rows):,} rows"
        sheet.write_string(1, 0, f"{self.data.title} · {self.data.business_date} · {count}{more}", self.quiet)
        if notes:
            sheet.write_string(2, 0, " ".join(notes), self.quiet)
        tallest = max(_lines_of(field.heading, field.width) for field in fields)
        sheet.set_row(3, tallest * _LINE + 4)
        for column, field in enumerate(fields):
            head = self.head_right if field.kind in ("money", "count") else self.head
            sheet.write_string(3, column, field.heading, head)
        sheet.freeze_panes(4, 0)
        shown = rows[:MAX_ROWS]
        sheet.autofilter(3, 0, 3 + max(len(shown), 1), len(fields) - 1)
        sheet.repeat_rows(3)
        at = 4
        for row in shown:
            strong = bold is not None and row.get("outcome") == bold
            wrapped = [_lines_of(_words(f, row.get(f.name)), f.width) for f in fields if f.kind == "wide"]
            if max(wrapped, default=1) > 1:
                sheet.set_row(at, max(wrapped) * _LINE)
            for column, field in enumerate(fields):
                self._cell(sheet, at, column, field, row, strong)
            at += 1
        at += 1
        for currency in sorted({str(r["currency"]) for r in shown if r.get("currency")}) if sums else ():
            sheet.write_string(at, 0, f"Total {currency}", self.bold)
            for column, field in enumerate(fields):
                if field.name in sums:
                    total = sum(
                        (r.get(field.name) or Decimal(0) for r in shown if r.get("currency") == currency), Decimal(0)
                    )
                    self._money(sheet, at, column, total, currency, bold=True)
            at += 1

    def hashes(self) -> None:
        """What this run's results hash to, for whoever compares two runs."""
        sheet = self._sheet("Result hashes", widths=(30, 80))
        sheet.write_string(0, 0, "Result hashes", self.title)
        notes = ("Equal hashes are equal results: a run of this date again shows whether it found the same.",)
        self._block(
            sheet, 1, "", ("Result table", "SHA-256 of its rows"), sorted(self.data.hashes.items()), notes=notes
        )

    def _cell(self, sheet: Any, row: int, column: int, field: Field, record: Row, strong: bool) -> None:
        value = record.get(field.name)
        if value is None or value == "":
            return
        if isinstance(value, Amount):
            self._money(sheet, row, column, value.value, value.currency, bold=False)
        elif field.kind == "money" and isinstance(value, str):
            sheet.write_string(row, column, value, self.right)
        elif field.kind == "money":
            self._money(sheet, row, column, value, record.get("currency"), bold=strong)
        elif field.kind == "count":
            sheet.write_number(row, column, value, self.bold_counts if strong else self.counts)
        elif field.kind == "date" and isinstance(value, date):
            sheet.write_datetime(row, column, value, self.dates)
        elif field.kind == "instant" and isinstance(value, datetime):
            # a spreadsheet knows no zones: the heading says UTC
            sheet.write_datetime(row, column, value.astimezone(UTC).replace(tzinfo=None), self.instants)
        else:
            style = self.wrap if field.kind == "wide" else self.bold_plain if strong else self.plain
            sheet.write_string(row, column, _words(field, value), style)

    def _money(self, sheet: Any, row: int, column: int, amount: Decimal, currency: str | None, *, bold: bool) -> None:
        """A spreadsheet holds binary numbers of 15 digits; an amount that needs more is written as text, exactly."""
        shown = round_money(amount, currency) if currency else amount
        if len(shown.as_tuple().digits) > 15:
            sheet.write_string(row, column, f"{shown:,}", self.right)
        else:
            sheet.write_number(row, column, shown, self.money(currency, bold))

    def _lines(self, sheet: Any, row: int, title: str, lines: Iterable[str]) -> int:
        sheet.write_string(row, 0, title, self.bold)
        for row, line in enumerate(lines, row + 1):  # noqa: B020
            sheet.write_string(row, 0, line, self.plain)
        return row + 1

    def _block(
        self,
        sheet: Any,
        row: int,
        title: str,
        heads: Sequence[str],
        rows: Sequence[Sequence[Any]],
        *,
        notes: Sequence[str] = (),
    ) -> int:
        """A small table; a column of numbers has its heading on the right, amounts come as {(currency,): amount}."""
        sheet.write_string(row, 0, title, self.bold)
        for line in (part for text in notes for part in wrap(text, 140)):
            row += 1
            sheet.write_string(row, 0, line, self.quiet)
        row += 1
        for column, text in enumerate(heads):
            numbers = any(isinstance(values[column], int | dict) for values in rows)
            sheet.write_string(row, column, text, self.head_right if numbers else self.head)
        for values in rows:
            row += 1
            for column, value in enumerate(values):
                if isinstance(value, dict):
                    for (currency,), amount in value.items():
                        self._money(sheet, row, column, amount, currency, bold=False)
                elif isinstance(value, int):
                    sheet.write_number(row, column, value, self.counts)
                elif value:
                    sheet.write_string(row, column, str(value), self.plain)
        return row + 1

    def _sheet(self, name: str, widths: Sequence[int]) -> Any:
        sheet = self.book.add_worksheet(name)
        for column, width in enumerate(widths):
            sheet.set_column(column, column, width)
        sheet.hide_gridlines(2)
        sheet.set_landscape()
        sheet.set_paper(9)
        sheet.set_margins(left=0.4, right=0.4, top=0.5, bottom=0.6)
        sheet.fit_to_pages(1, 0)
        sheet.set_footer("&L&F&CPage &P of &N&R&A")
        return sheet


_CODES = ("break_type", "outcome", "stream", "account_role", "kind", "event_type", "detail", "state", "reason_code")


def _words(field: Field, value: Any) -> str:
    text = "" if value is None else str(value)
    return text.replace("_", " ") if field.name in _CODES else text


def _lines_of(text: str, width: int) -> int:
    """How many lines a text takes in a column, a little more rather than one too few."""
    return max(1, len(wrap(text, max(width - 2, 5))))
