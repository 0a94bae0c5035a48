"""SOQL is read as Salesforce reads it."""

from __future__ import annotations

import pytest

from tieout_sandbox.simulators.salesforce.soql import SoqlError, parse


def test_a_whole_query():
    parsed = parse(
        "select Id, name from account where Name = 'O\\'Neill' order by Name desc nulls last limit 5 offset 2"
    )
    assert [f.name for f in parsed.fields] == ["Id", "Name"]
    assert parsed.params == ("O'Neill",)
    assert (parsed.limit, parsed.offset) == (5, 2)
    assert parsed.order == "json_extract(body, '$.Name') DESC NULLS LAST, id"


@pytest.mark.parametrize(
    ("literal", "seconds"),
    [
        ("2026-03-30T09:00:00Z", 1_774_861_200),
        ("2026-03-30T09:00:00.000Z", 1_774_861_200),
        ("2026-03-30T11:00:00+02:00", 1_774_861_200),
        ("2026-03-30T11:00:00.000+0200", 1_774_861_200),
    ],
)
def test_instants_in_any_zone(literal, seconds):
    parsed = parse(f"SELECT Id FROM Account WHERE SystemModstamp >= {literal}")
    assert (parsed.where, parsed.params) == ("stamp >= ?", (seconds,))


def test_a_short_id_finds_its_long_form():
    parsed = parse("SELECT Id FROM Account WHERE Id = '001D000000IqhSL'")
    assert parsed.params == ("001D000000IqhSLIAZ",)


def test_keyset_condition_of_a_connector():
    parsed = parse(
        "SELECT Id FROM Account WHERE (SystemModstamp > 2026-03-30T09:00:00Z OR (SystemModstamp = 2026-03-30T09:00:00Z "
        "AND Id > '001D000000IqhSLIAZ')) AND SystemModstamp < 2026-03-30T10:00:00Z ORDER BY SystemModstamp, Id LIMIT 9"
    )
    assert parsed.where == "(stamp > ? OR (stamp = ? AND id > ?)) AND stamp < ?"


@pytest.mark.parametrize(
    ("soql", "code", "place"),
    [
        ("SELECT Id FRM Account", "MALFORMED_QUERY", "Column:"),
        ("SELECT Id FROM Account WHERE Name == 'a'", "MALFORMED_QUERY", "Column:"),
        ("SELECT Id FROM Account; DROP TABLE documents", "MALFORMED_QUERY", "Column:23"),
        ("SELECT Bad__c FROM Account", "INVALID_FIELD", "Column:8"),
        ("SELECT Id FROM Account WHERE Name = 5", "INVALID_FIELD", "Name"),
        ("SELECT Id FROM Account WHERE CreatedDate > 2026-01-01", "INVALID_FIELD", "CreatedDate"),
        ("SELECT Id FROM Accounts", "INVALID_TYPE", "'Accounts'"),
    ],
)
def test_errors_point_at_their_place(soql, code, place):
    with pytest.raises(SoqlError) as caught:
        parse(soql)
    assert caught.value.code == code
    assert place in caught.value.message
