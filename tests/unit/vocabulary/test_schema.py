import pyarrow as pa
import pytest

from tieout import schema


@pytest.mark.parametrize("table", schema.TABLES.values(), ids=lambda t: t.name)
def test_no_column_can_hold_a_float(table):
    assert not any(pa.types.is_floating(field.type) for field in table.arrow)


@pytest.mark.parametrize("table", schema.CANONICAL, ids=lambda t: t.name)
def test_every_entity_with_money_names_its_currency(table):
    if any(c.kind in ("money", "price") for c in table.columns):
        assert "currency" in table.names


def test_an_unknown_table_is_an_error_that_lists_what_there_is():
    with pytest.raises(KeyError, match="invoice_line"):
        schema.table("nonsense")
