import re
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

from tieout import schema
from tieout.ledger.events import EVENTS
from tieout.reconcile import result_schema
from tieout.schema import BREAK_STATES, BREAK_TYPES, DUCKDB_TYPES

TEXT = (Path(__file__).parents[3] / "docs" / "interfaces.md").read_text()


def block(language, after=""):
    return re.search(rf"```{language}\n(.*?)```", TEXT[TEXT.index(after) :], re.DOTALL)[1]


def section(title):
    return re.split(r"\n#+ ", TEXT[TEXT.index(f"### {title}") + 4 :])[0]


def test_the_printed_definition_runs_as_printed(tmp_path, monkeypatch):
    (tmp_path / "invoices.yaml").write_text(block("yaml"))
    monkeypatch.chdir(tmp_path)
    printed = StringIO()
    with redirect_stdout(printed):
        exec(compile(block("python"), "interfaces.md", "exec"), {})
    assert printed.getvalue() == block("text", after="prints")


@pytest.mark.parametrize("table", ["matches", "breaks", "totals"])
def test_every_result_column_is_documented_with_its_type(table):
    documented = re.findall(r"^\| `(\w+)` \| (\S+) \|", section(f"`{table}`"), re.MULTILINE)
    columns = {c.name: DUCKDB_TYPES[c.kind] for c in schema.table(table).columns}
    assert documented == [(name, columns[name]) for name in result_schema(table).names]


@pytest.mark.parametrize("table", ["journals", "journal_lines", "journal_drilldown", "usage_summary"])
def test_the_tables_of_other_functions_are_documented(table):
    documented = re.findall(r"^\| `(\w+)` \| (\S+) \|", section(f"`{table}`"), re.MULTILINE)
    assert documented == [(c.name, DUCKDB_TYPES[c.kind]) for c in schema.table(table).columns]


def test_the_columns_of_accounting_events_are_documented():
    for name in EVENTS.names:
        assert re.search(rf"^\| `{name}` \|", TEXT, re.MULTILINE), name


@pytest.mark.parametrize(("title", "literals"), [("Break types", BREAK_TYPES), ("Break states", BREAK_STATES)])
def test_every_literal_is_documented(title, literals):
    assert re.findall(r"^\| `(\w+)` \|", section(title), re.MULTILINE) == list(literals)
