"""Result tables as CSV: no text a vendor sends becomes a formula in a spreadsheet."""

import pyarrow as pa
import pytest

from tieout import schema
from tieout.lake.engine import engine
from tieout.reports.export import _safe_columns


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(1)", "\t=1", "\r=1", "\n=1"])
def test_a_text_that_begins_like_a_formula_is_marked_as_text(text):
    empty = schema.table("breaks").arrow.empty_table()
    row = dict.fromkeys(empty.schema.names) | {"break_key": text, "sentence": f"a {text}"}
    with engine() as session:
        session.bind(
            "breaks", pa.Table.from_pylist([row], schema=pa.schema([f.with_nullable(True) for f in empty.schema]))
        )
        (written,) = session.sql(f"SELECT {_safe_columns('breaks')} FROM breaks").to_pylist()
    assert (written["break_key"], written["sentence"]) == (f"'{text}", f"a {text}")
