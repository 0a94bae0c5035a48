"""`config check` on reconciliations: every mistake with its file, its line and what to do."""

import shutil

import pytest

from tieout.breaks import definition_ids
from tieout.breaks.check import definition_mistakes
from tieout.breaks.inputs import tables_of
from tieout.settings import SHIPPED_CONFIG, Settings

NAME = "payment_to_invoice"
SHIPPED = (SHIPPED_CONFIG / "reconciliations" / f"{NAME}.yaml").read_text()
QUERY = (SHIPPED_CONFIG / "reconciliations" / f"{NAME}.left.sql").read_text()


@pytest.fixture
def settings(tmp_path):
    shutil.copytree(SHIPPED_CONFIG / "reconciliations", tmp_path / "reconciliations")
    return Settings(tmp_path, tmp_path, "", "")


def mistakes(settings, old, new, file=f"{NAME}.yaml"):
    path = settings.config / "reconciliations" / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    line = next(n for n, one in enumerate(path.read_text().splitlines(), 1) if new.splitlines()[-1].strip() in one)
    return definition_mistakes(settings, NAME), f"{file}:{line}"


@pytest.mark.parametrize("name", definition_ids(Settings(SHIPPED_CONFIG, SHIPPED_CONFIG, "", "")))
def test_every_shipped_reconciliation_fits_the_tables(name):
    assert definition_mistakes(Settings(SHIPPED_CONFIG, SHIPPED_CONFIG, "", ""), name) == []


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("id: [payment_id]", "id: [paymnt_id]", "payment_id?"),
        ("  name: billing", "  name: billing\n  reason: custmer_name", "left.reason names a column"),
        ("  name: billing", "  name: billing\n  working: custmer_name", "left.working names a column"),
        ("sql: payment_to_invoice.left.sql", "sql: nowhere.sql", "no configuration file reconciliations/nowhere.sql"),
        ("id: payment_to_invoice", "id: payments_to_invoices", "id is not the name of its file"),
        ("by: [customer_id]", "by: [customer_nr]", "customer_name or customer_id?"),
        ("left: amount_paid, right: amount}", "left: amount_payd, right: amount}", "amount_paid or amount?"),
        ("column: reference_gap", "column: reason_gap", "reference_gap?"),
        ("{when: total <= 0,", "{when: totl <= 0,", "totl"),
        ("when: is_overpayment,", "when: is_overpayment AND,", "syntax error"),
        ("right: invoice_reference IS NULL}", "right: invoice_ref IS NULL}", "invoice_ref"),
        ("  date: accounting_date\n  id: [number]", "  date: status\n  id: [number]", "no date"),
        ("AND status = 'open'\"", "AND status = 'opne'\"", "asks for a value that status never has"),
        (
            "  - {name: amount, kind: amount, left: amount_paid, right: amount}",
            "  - {name: amount, kind: amount, left: amount_paid, right: amount}\n"
            "  - {name: state, kind: status, left: status, right: customer_name, left_values: {payed: x, paid: y}}",
            "compare.state maps a value that status never has",
        ),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_line_and_a_remedy(settings, old, new, says):
    found, where = mistakes(settings, old, new)
    if "date: status" in new:
        where = where.replace(where.rpartition(":")[2], str(int(where.rpartition(":")[2]) - 1))
    assert says in " ".join(map(str, found))
    assert {mistake.record.rpartition("/")[2] for mistake in found} == {where}
    assert all(mistake.remedy for mistake in found)


def test_a_mistake_in_a_query_is_told_in_its_own_file(settings):
    found, where = mistakes(settings, "i.amount_remaining,", "i.amount_remaning,", f"{NAME}.left.sql")
    (mistake,) = found
    assert "amount_remaning" in str(mistake)
    assert mistake.record.endswith(where)


def test_every_mistake_is_told_at_once(settings):
    path = settings.config / "reconciliations" / f"{NAME}.yaml"
    path.write_text(SHIPPED.replace("label: customer_name", "label: nobody").replace("when: total <= 0", "when: x < 0"))
    assert len(definition_mistakes(settings, NAME)) == 3


def test_a_table_whose_name_is_quoted_is_one_that_is_read():
    assert tables_of({"left": 'SELECT 1 FROM "case" AS c JOIN invoice', "right": "SELECT 2"}) == ["case", "invoice"]
