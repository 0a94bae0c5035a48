from datetime import datetime

import pytest
from openpyxl import load_workbook
from sample import sample

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


def test_totals_stand_under_each_currency(book):
    sheet = book["Journals"]
    labels = [sheet.cell(r, 1).value for r in range(1, sheet.max_row + 1)]
    assert "Total EUR" in labels


def test_the_same_data_gives_the_same_bytes(tmp_path):
    a, b = write(sample(), tmp_path / "a.xlsx"), write(sample(), tmp_path / "b.xlsx")
    assert a.read_bytes() == b.read_bytes()
    assert load_workbook(a).properties.created == datetime(2026, 3, 29)  # noqa: DTZ001
