from datetime import datetime
from decimal import Decimal

import pytest
from openpyxl import load_workbook
from sample import broken, sample

from tieout.reports.workbook import write


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    return load_workbook(write(sample(), tmp_path_factory.mktemp("xlsx") / "report.xlsx"))


def test_it_opens_with_the_summary_and_one_sheet_per_question(book):
    assert book.sheetnames == [
        "Summary",
        "Breaks",
        "Journals",
        "Journal lines",
        "Drill-down",
        "Totals",
        "Proof",
        "Entries by others",
        "Usage leaks",
        "Usage",
        "Backlog",
        "Quarantine",
        "Inputs",
        "Quality gate",
        "Result hashes",
    ]


def test_no_text_becomes_a_formula(book):
    cells = [cell for sheet in book for line in sheet.iter_rows() for cell in line if cell.value is not None]
    assert not [c for c in cells if c.data_type == "f"]
    texts = {c.value for c in cells}
    assert {"=HYPERLINK(1)", "=cmd|' /C calc'!A0", "+DE-2026-000001", "MANUAL @SUM(1)"} <= texts
    assert not [c for c in cells if c.hyperlink]


def test_headings_stay_in_view_and_filter(book):
    for sheet in book.worksheets[1:-1]:
        assert sheet.freeze_panes == "A5"
        assert sheet.auto_filter.ref


def test_amounts_are_numbers_in_the_currencys_format_and_too_large_ones_exact_text(book):
    sheet = book["Breaks"]
    heads = {cell.value: cell.column for cell in sheet[4]}
    cells = {sheet.cell(r, heads["Key"]).value: sheet.cell(r, heads["At stake"]) for r in range(5, 9)}
    assert cells["DE-2026-000001"].value == 1190
    assert ".00" in cells["DE-2026-000001"].number_format
    assert "." not in cells["JP-2026-000009"].number_format
    assert cells["=HYPERLINK(1)"].value == "99,999,999,999,999.99"


def rows_of(sheet):
    """The rows below the headings, by heading."""
    heads = [cell.value for cell in sheet[4]]
    return [
        dict(zip(heads, values, strict=True)) for values in sheet.iter_rows(min_row=5, values_only=True) if values[1]
    ]


def test_a_break_shows_what_is_compared_and_what_it_adds_to_the_total(tmp_path):
    entry = {"definition_id": "journal_to_ledger", "cause": "ledger entry 7"}
    breaks = (
        broken("tax", "amount", "30.67", field="tax", left_value="61.33 EUR", right_value="30.66 EUR"),
        broken("line 1", "missing_left", "5", **entry),
        broken("line 2", "missing_left", "5", difference=Decimal(-5), **entry),
        broken("monthly", "amount", "7", measure="monthly"), broken("case", "orphan", None, None),
    )  # fmt: skip
    book = load_workbook(write(sample(breaks=breaks), tmp_path / "report.xlsx"))
    found = {row["Key"]: row for row in rows_of(book["Breaks"])}
    assert (found["tax"]["Compared"], found["tax"]["Left"], found["tax"]["Right"]) == ("tax", 61.33, 30.66)
    assert found["case"]["At stake"] == "not priced"
    once = {"owed": "Counted once: owed, paid or booked", "monthly": "Counted once: again every month"}
    counted = {key: [row[head] for head in once.values()] for key, row in found.items()}
    assert counted == {
        "tax": [30.67, None], "line 1": [5, None], "line 2": [None, None], "monthly": [None, 7], "case": [None, None],
    }  # fmt: skip
    texts = {cell.value for line in book["Summary"].iter_rows() for cell in line}
    assert {"Total owed, paid or booked", "Total again every month", 35.67} <= texts


def test_a_source_row_names_the_journal_line_it_belongs_to(book):
    (part,) = rows_of(book["Drill-down"])
    assert (part["Account"], part["Side"], part["Amount"], part["Currency"]) == ("11000", "debit", 1190, "EUR")


def test_totals_stand_under_each_currency(book):
    sheet = book["Journals"]
    labels = [sheet.cell(r, 1).value for r in range(1, sheet.max_row + 1)]
    assert "Total EUR" in labels


def test_the_same_data_gives_the_same_bytes(tmp_path):
    a, b = write(sample(), tmp_path / "a.xlsx"), write(sample(), tmp_path / "b.xlsx")
    assert a.read_bytes() == b.read_bytes()
    assert load_workbook(a).properties.created == datetime(2026, 3, 29)  # noqa: DTZ001
