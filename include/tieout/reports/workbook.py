"""The workbook of a business date, laid out as an accountant would: summary first, then one sheet per question.

Texts are written as texts whatever they begin with, so nothing from a vendor can become a formula. The same data gives
the same bytes: no clock time is written into the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import xlsxwriter

from tieout.money import minor_digits, round_money
from tieout.reports.data import (
    ReportData,
    Row,
    age_bucket,
    count_by,
    headline,
    money_by,
    open_breaks,
    totals_by_outcome,
)

Kind = Literal["text", "code", "wide", "count", "money", "date", "key"]
_WIDTH: dict[Kind, int] = {"text": 18, "code": 10, "wide": 52, "count": 10, "money": 17, "date": 12, "key": 30}

# Excel holds 1,048,576 rows; past this a person reads the result tables instead, and the sheet says so.
MAX_ROWS = 100_000


@dataclass(frozen=True, slots=True)
class Field:
    """One column of a sheet: the row's key, its heading and how it is shown."""

    name: str
    heading: str
    kind: Kind = "text"


def _f(name: str, heading: str, kind: Kind = "text") -> Field:
    return Field(name, heading, kind)


BREAKS = (
    _f("owner", "Owner"),
    _f("bucket", "Age"),
    _f("age_days", "Days", "count"),
    _f("definition", "Reconciliation", "key"),
    _f("legal_entity_id", "Entity", "code"),
    _f("break_key", "Key", "key"),
    _f("break_type", "Type"),
    _f("currency", "Currency", "code"),
    _f("left_amount", "Left", "money"),
    _f("right_amount", "Right", "money"),
    _f("value", "At stake", "money"),
    _f("difference", "Difference", "money"),
    _f("sentence", "What is different", "wide"),
    _f("next_action", "Next action", "wide"),
    _f("state", "State"),
    _f("first_seen", "First seen", "date"),
)
JOURNALS = (
    _f("legal_entity_id", "Entity", "code"),
    _f("stream", "Stream", "code"),
    _f("accounting_date", "Date", "date"),
    _f("run_key", "Run key", "key"),
    _f("state", "State"),
    _f("erp_number", "ERP number"),
    _f("currency", "Currency", "code"),
    _f("debit", "Debit", "money"),
    _f("credit", "Credit", "money"),
    _f("line_count", "Lines", "count"),
    _f("row_count", "Source rows", "count"),
)
LINES = (
    _f("run_key", "Run key", "key"),
    _f("line_no", "Line", "count"),
    _f("account", "Account", "code"),
    _f("account_role", "Role"),
    _f("event_type", "Event", "key"),
    _f("product_family", "Family"),
    _f("tax_code", "Tax code"),
    _f("currency", "Currency", "code"),
    _f("debit", "Debit", "money"),
    _f("credit", "Credit", "money"),
    _f("row_count", "Source rows", "count"),
)
DRILLDOWN = (
    _f("run_key", "Run key", "key"),
    _f("line_no", "Line", "count"),
    _f("document_number", "Document"),
    _f("event_id", "Event", "key"),
    _f("amount", "Amount", "money"),
    _f("source", "Source"),
    _f("source_id", "Source id", "key"),
    _f("raw_ref", "Landed page", "key"),
)
TOTALS = (
    _f("definition", "Reconciliation", "key"),
    _f("legal_entity_id", "Entity", "code"),
    _f("currency", "Currency", "code"),
    _f("outcome", "Outcome"),
    _f("detail", "Detail", "key"),
    _f("left_rows", "Left rows", "count"),
    _f("left_amount", "Left amount", "money"),
    _f("right_rows", "Right rows", "count"),
    _f("right_amount", "Right amount", "money"),
)
PROOF = (
    _f("legal_entity_id", "Entity", "code"),
    _f("account", "Account", "code"),
    _f("name", "Name", "key"),
    _f("currency", "Currency", "code"),
    _f("opening", "Opening at go-live", "money"),
    _f("posted", "Posted by Tieout", "money"),
    _f("foreign", "Entries by others", "money"),
    _f("expected", "Expected", "money"),
    _f("trial_balance", "ERP trial balance", "money"),
    _f("difference", "Difference", "money"),
)
FOREIGN = (
    _f("legal_entity_id", "Entity", "code"),
    _f("accounting_date", "Date", "date"),
    _f("account", "Account", "code"),
    _f("narrative", "Narrative", "wide"),
    _f("currency", "Currency", "code"),
    _f("debit", "Debit", "money"),
    _f("credit", "Credit", "money"),
)
QUARANTINE = (
    _f("source", "Source"),
    _f("object", "Object"),
    _f("reason_code", "Reason"),
    _f("reason", "Why", "wide"),
    _f("source_id", "Record"),
    _f("amount", "Amount", "money"),
    _f("currency", "Currency", "code"),
    _f("raw_ref", "Landed page", "key"),
)
BACKLOG = (
    _f("legal_entity_id", "Entity", "code"),
    _f("kind", "Kind"),
    _f("item", "Item", "key"),
    _f("owner", "Owner"),
    _f("amount", "Value", "money"),
    _f("currency", "Currency", "code"),
    _f("age_days", "Days", "count"),
    _f("what", "What is different", "wide"),
    _f("next_action", "Next action", "wide"),
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
        },
    )
    book.set_properties(
        {
            "title": f"{data.title} {data.business_date}",
            "author": "Tieout",
            "created": datetime(data.business_date.year, data.business_date.month, data.business_date.day),  # noqa: DTZ001
        }
    )
    sheets = _Sheets(book, data)
    sheets.summary()
    waiting = [
        {**b, "bucket": age_bucket(b.get("age_days")), "definition": _title(data, b["definition_id"])}
        for b in open_breaks(data)
    ]
    sheets.table("Breaks", "Open breaks by owner and age", BREAKS, waiting, sums=("value", "difference"))
    journals = [*data.journals]
    currency = {j["run_key"]: j["currency"] for j in journals}
    lines = [{**row, row["side"]: row["amount"]} for row in data.journal_lines]
    sheets.table("Journals", "Journals of this date", JOURNALS, journals, sums=("debit", "credit"))
    sheets.table("Journal lines", "Lines of the journals", LINES, lines, sums=("debit", "credit"))
    drill = [{**row, "currency": currency.get(row["run_key"])} for row in data.drilldown]
    sheets.table("Drill-down", "Source rows behind each journal line", DRILLDOWN, drill)
    totals = [
        {**t, "definition": _title(data, t["definition_id"])} for rows in totals_by_outcome(data).values() for t in rows
    ]
    sheets.table("Totals", "Totals by reconciliation, entity and currency", TOTALS, totals, bold="all")
    sheets.table(
        "Proof", "Opening + posted + entries by others = ERP trial balance", PROOF, data.proof, sums=PROOF_SUMS
    )
    sheets.table("Entries by others", "Entries on the ledger that Tieout did not post", FOREIGN, data.foreign)
    sheets.table("Backlog", "What is unfinished before the close", BACKLOG, data.backlog)
    sheets.table("Quarantine", "Records set aside with a reason", QUARANTINE, data.quarantine)
    book.close()
    return path


PROOF_SUMS = ("opening", "posted", "foreign", "expected", "trial_balance", "difference")


def _title(data: ReportData, definition_id: str) -> str:
    return data.definitions.get(definition_id, definition_id)


class _Sheets:
    """The open workbook with its formats; rows are written top to bottom, as constant memory demands."""

    def __init__(self, book: Any, data: ReportData) -> None:
        self.book, self.data = book, data
        self.title = book.add_format({"bold": True, "font_size": 14})
        self.quiet = book.add_format({"font_color": "#5F6F7A"})
        self.head = book.add_format(
            {"bold": True, "bg_color": "#E6EDF0", "bottom": 1, "text_wrap": True, "valign": "top"}
        )
        self.head_right = book.add_format(
            {"bold": True, "bg_color": "#E6EDF0", "bottom": 1, "text_wrap": True, "valign": "top", "align": "right"}
        )
        self.wrap = book.add_format({"text_wrap": True, "valign": "top"})
        self.plain = book.add_format({"valign": "top"})
        self.bold = book.add_format({"bold": True})
        self.good = book.add_format({"bold": True, "font_color": "#22735F"})
        self.bad = book.add_format({"bold": True, "font_color": "#A8322F"})
        self.money_formats: dict[tuple[int, bool], Any] = {}
        self.dates = book.add_format({"num_format": "yyyy-mm-dd", "valign": "top", "align": "left"})
        self.counts = book.add_format({"num_format": "#,##0", "valign": "top"})

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

    def summary(self) -> None:
        """The first sheet: the answers, what blocks, breaks by type, freshness."""
        data, head = self.data, headline(self.data)
        sheet = self._sheet("Summary", widths=(34, 18, 18, 18, 18, 18, 18, 18))
        sheet.write_string(0, 0, data.title, self.title)
        note = f" · {data.note}" if data.note else ""
        sheet.write_string(1, 0, f"Business date {data.business_date}{note}", self.quiet)
        row = 3
        tie = {True: "ties to the cent", False: "DOES NOT TIE", None: "not proved"}[head.ties]
        facts: list[tuple[str, str | int, Any]] = [
            ("Ledger against ERP trial balance", tie, self.good if head.ties else self.bad),
            ("Open breaks", head.open_breaks, self.bold),
            ("  of which new", head.new_breaks, self.plain),
            ("  gone since the day before", head.gone_breaks, self.plain),
            ("Journals posted and read back", head.journals_posted, self.bold),
            ("Journals waiting", head.journals_waiting, self.bold),
            ("Records in quarantine", head.rows_quarantined, self.bold),
        ]
        for label, value, style in facts:
            sheet.write_string(row, 0, label, self.plain)
            if isinstance(value, int):
                sheet.write_number(row, 1, value, style)
            else:
                sheet.write_string(row, 1, value, style)
            row += 1
        row = self._lines(sheet, row + 1, "What blocks", head.blockers or ("Nothing but the open breaks.",))
        waiting = open_breaks(data)
        row = self._block(
            sheet,
            row + 1,
            "Open breaks by type and currency",
            ("Type", "Currency", "Breaks", "Amount"),
            [
                (kind, currency or "", count, money_by(_only(waiting, kind, currency), "value", "currency"))
                for (kind, currency), count in count_by(waiting, "break_type", "currency").items()
            ],
        )
        row = self._block(
            sheet,
            row + 1,
            "Open breaks by owner and age",
            ("Owner", "Age", "Breaks"),
            [
                (owner or "nobody", bucket, count)
                for (owner, bucket), count in count_by(
                    [{**b, "bucket": age_bucket(b.get("age_days"))} for b in waiting], "owner", "bucket"
                ).items()
            ],
        )
        row = self._block(
            sheet,
            row + 1,
            "Inputs",
            ("Source", "Object", "Complete until", "Records", "Kept", "Merged", "Quarantined", "Control total"),
            [
                (
                    s["source"],
                    s["object"],
                    f"{s['complete_until']:%Y-%m-%d %H:%M} UTC" if s["complete_until"] else "never",
                    s["records"],
                    s["kept"],
                    s["merged"],
                    s["quarantined"],
                    s["control"],
                )
                for s in data.sources
            ],
        )
        self._block(sheet, row + 1, "Result hashes (equal hashes are equal results)", ("Table", "SHA-256"),
                    sorted(data.hashes.items()))  # fmt: skip

    def table(
        self,
        name: str,
        title: str,
        fields: Sequence[Field],
        rows: Iterable[Row],
        *,
        sums: Sequence[str] = (),
        bold: str | None = None,
    ) -> None:
        """One sheet: title, headings that stay in view and filter, the rows, and a total per currency."""
        rows = list(rows)
        sheet = self._sheet(name, widths=[_WIDTH[f.kind] for f in fields])
        sheet.write_string(0, 0, title, self.title)
        more = f"; the first {MAX_ROWS:,} here, all in the result table" if len(rows) > MAX_ROWS else ""
        sheet.write_string(
            1, 0, f"{self.data.title} · {self.data.business_date} · {len(rows):,} rows{more}", self.quiet
        )
        sheet.set_row(3, 32)
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

    def _cell(self, sheet: Any, row: int, column: int, field: Field, record: Row, strong: bool) -> None:
        value = record.get(field.name)
        if value is None or value == "":
            return
        if field.kind == "money":
            self._money(sheet, row, column, value, record.get("currency"), bold=strong)
        elif field.kind == "count":
            sheet.write_number(row, column, value, self.counts)
        elif field.kind == "date" and isinstance(value, date):
            sheet.write_datetime(row, column, value, self.dates)
        else:
            style = self.wrap if field.kind == "wide" else self.bold if strong else self.plain
            sheet.write_string(row, column, _text(field, value), style)

    def _money(self, sheet: Any, row: int, column: int, amount: Decimal, currency: str | None, *, bold: bool) -> None:
        """A spreadsheet holds binary numbers of 15 digits; an amount that needs more is written as text, exactly."""
        shown = round_money(amount, currency) if currency else amount
        if len(shown.as_tuple().digits) > 15:
            sheet.write_string(row, column, f"{shown:,}", self.plain)
        else:
            sheet.write_number(row, column, shown, self.money(currency, bold))

    def _lines(self, sheet: Any, row: int, title: str, lines: Iterable[str]) -> int:
        sheet.write_string(row, 0, title, self.bold)
        for row, line in enumerate(lines, row + 1):  # noqa: B020
            sheet.write_string(row, 0, line, self.plain)
        return row + 1

    def _block(self, sheet: Any, row: int, title: str, heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> int:
        sheet.write_string(row, 0, title, self.bold)
        row += 1
        for column, text in enumerate(heads):
            sheet.write_string(row, column, text, self.head)
        for values in rows:
            row += 1
            for column, value in enumerate(values):
                if isinstance(value, dict):
                    for (currency, *_), amount in value.items():
                        self._money(sheet, row, column, amount, currency, bold=False)
                elif isinstance(value, int):
                    sheet.write_number(row, column, value, self.counts)
                else:
                    sheet.write_string(
                        row, column, str(value).replace("_", " ") if column == 0 else str(value), self.plain
                    )
        return row + 1

    def _sheet(self, name: str, widths: Sequence[int]) -> Any:
        sheet = self.book.add_worksheet(name)
        for column, width in enumerate(widths):
            sheet.set_column(column, column, width)
        sheet.hide_gridlines(2)
        sheet.set_landscape()
        sheet.set_paper(9)
        sheet.fit_to_pages(1, 0)
        sheet.set_footer("&L&F&CPage &P of &N&R&A")
        return sheet


def _text(field: Field, value: Any) -> str:
    text = str(value)
    return text.replace("_", " ") if field.name in ("break_type", "outcome", "stream", "account_role", "kind") else text


def _only(rows: Iterable[Row], kind: str, currency: str | None) -> list[Row]:
    return [r for r in rows if r["break_type"] == kind and r.get("currency") == currency]
