"""Landing: extracts are whole or invisible, records keep their digits, bad bytes are flagged and kept."""

import json
from datetime import UTC, datetime

import pyarrow.parquet as pq
import pytest

from tieout.errors import DataError, IncompleteExtract
from tieout.lake.landing import LONGEST_FIELD, ControlTotal, Landing, Unreadable, extract_id, parse

LO, HI = datetime(2026, 3, 29, tzinfo=UTC), datetime(2026, 3, 30, 8, 50, tzinfo=UTC)


def opened(landing, sequence=1, object="invoices"):
    identity = extract_id(sequence, HI)
    return landing.open("stripe_us", object, window_lo=LO, window_hi=HI, extract_id=identity, sequence=sequence)


def page(writer, records):
    writer.page(records, request_id="req_1", http_status=200, fetched_at=HI, body_sha256="ab")


def landed(ref):
    return pq.read_table(ref.files()).to_pylist()


@pytest.fixture
def landing(tmp_path):
    return Landing(tmp_path / "raw")


def test_pages_are_invisible_until_the_extract_is_committed(landing):
    writer = opened(landing)
    page(writer, [{"id": "in_1"}])
    assert landing.extracts("stripe_us") == []
    ref = writer.commit(None, note="x")
    assert landing.extracts("stripe_us", "invoices") == [ref]
    assert (ref.records, ref.faults, ref.pages, ref.control.proven, ref.facts) == (1, 0, 1, False, {"note": "x"})
    assert (ref.window_lo, ref.window_hi) == (LO, HI)


def test_a_rerun_overwrites_its_own_remains(landing):
    killed = opened(landing)
    page(killed, [{"id": "a"}])
    page(killed, [{"id": "b"}])
    again = opened(landing)
    page(again, [{"id": "c"}])
    assert [r["record"] for r in landed(again.commit())] == ['{"id":"c"}']


def test_a_committed_extract_never_changes(landing):
    opened(landing).commit()
    with pytest.raises(DataError, match="already committed"):
        opened(landing)


def test_extracts_come_in_sequence_per_object(landing):
    for n in (10, 2, 1):
        opened(landing, n).commit()
    opened(landing, 1, "charges").commit()
    assert [(e.object, e.sequence) for e in landing.extracts("stripe_us")] == [
        ("charges", 1),
        ("invoices", 1),
        ("invoices", 2),
        ("invoices", 10),
    ]


def test_an_extract_that_misses_its_control_total_stays_invisible(landing):
    writer = opened(landing)
    page(writer, [{"id": "a"}])
    with pytest.raises(IncompleteExtract, match=r"stripe_us/invoices, window 2026-03-29.*expected: {'count': '2'}"):
        writer.commit(ControlTotal("second listing", {"count": "2"}, {"count": "1"}))
    assert landing.extracts("stripe_us") == []


@pytest.mark.parametrize(
    ("record", "text", "fault"),
    [
        pytest.param({"a": 1, "b": "é"}, '{"a":1,"b":"é"}', None, id="mapping"),
        pytest.param('{"a":  1}', '{"a":  1}', None, id="text is kept as it came"),
        pytest.param('{"q": 1.10}', '{"q":"1.10"}', None, id="a fraction becomes a string"),
        pytest.param('{"q": 1e3}', '{"q":"1e3"}', None, id="an exponent too"),
        pytest.param('{"q": NaN}', '{"q": NaN}', "is no JSON: NaN is no JSON number", id="NaN"),
        pytest.param({"q": [float("nan")]}, '{"q":[NaN]}', "holds a number that is no JSON number", id="not a number"),
        pytest.param("[1]", "[1]", "is no JSON object", id="a list"),
        pytest.param("{", "{", "is no JSON: ", id="cut"),
        pytest.param({"a": "x\0y"}, '{"a":"x\\u0000y"}', "holds a NUL character", id="NUL"),
        pytest.param({"a": "\\u0000"}, '{"a":"\\\\u0000"}', None, id="a backslash and digits are no NUL"),
        pytest.param('{"a": "\\ud800"}', '{"a": "\\ud800"}', "holds characters that are no", id="escaped surrogate"),
        pytest.param('{"a": "\\u00e9"}', '{"a": "\\u00e9"}', None, id="escaped letter"),
        pytest.param({"a": "\ud800"}, '{"a":"\\ud800"}', "holds characters that are no valid Unicode", id="surrogate"),
        pytest.param(Unreadable("a\\xff", "is no UTF-8"), "a\\xff", "is no UTF-8", id="unreadable"),
    ],
)
def test_a_record_keeps_its_digits_and_its_faults(landing, record, text, fault):
    writer = opened(landing)
    page(writer, [record, {"id": "good"}])
    ref = writer.commit()
    bad, good = landed(ref)
    assert bad["record"] == text
    assert bad["fault"] == fault or bad["fault"].startswith(fault)
    assert (good["record"], good["fault"], ref.faults) == ('{"id":"good"}', None, int(fault is not None))


def test_an_overlong_text_is_flagged_but_a_long_list_is_not(landing):
    writer = opened(landing)
    page(writer, [{"memo": "x" * (LONGEST_FIELD + 1)}, {"lines": ["y" * 1000] * 2000}])
    long_text, long_list = landed(writer.commit())
    assert "more than" in long_text["fault"]
    assert long_list["fault"] is None


NESTED = '{"id": "deep", "x": ' + "[" * 100_000 + "]" * 100_000 + "}"


def test_a_page_with_a_record_nested_too_deeply_keeps_its_other_records(landing):
    text = '{"data": [{"id": "a", "y": "]\\"["}, ' + NESTED + ', {"id": "b", "q": 1.10}]}'
    records = parse(text)["data"]
    assert (records[0], records[2]) == ({"id": "a", "y": ']"['}, {"id": "b", "q": "1.10"})
    writer = opened(landing)
    page(writer, records)
    ref = writer.commit()
    first, deep, last = landed(ref)
    assert (first["fault"], deep["fault"], last["fault"]) == (None, "is nested too deeply to be read", None)
    assert json.loads(deep["record"])["id"] == "deep"
    with pytest.raises(ValueError, match="Expecting"):
        parse("[" * 100_000)


@pytest.mark.parametrize("depth", [300, 600, 900, 950, 100_000])
def test_a_record_nested_too_deeply_is_flagged_and_the_others_go_through(landing, depth):
    text = '{"id": "\\u00e9", "q": 1.5, "x": ' + "[" * depth + "]" * depth + "}"
    writer = opened(landing)
    page(writer, [text, parse(text), {"id": "good"}])
    *deep, good = landed(writer.commit())
    assert good["fault"] is None
    if depth == 100_000:
        assert [r["fault"] for r in deep] == ["is nested too deeply to be read"] * 2


def test_a_page_carries_its_envelope_and_a_record_is_found_by_its_reference(landing):
    writer = opened(landing)
    page(writer, [{"id": "a"}, {"id": "b"}])
    ref = writer.commit()
    envelope = json.loads(pq.read_schema(ref.files()[0]).metadata[b"tieout.envelope"])
    assert envelope["window_hi"] == HI.isoformat()
    assert (envelope["request_id"], envelope["http_status"], envelope["sha256"]) == ("req_1", 200, "ab")
    assert landing.record(f"stripe_us/invoices/{ref.extract_id}/1#1") == '{"id":"b"}'
    with pytest.raises(DataError, match="no such record"):
        landing.record(f"stripe_us/invoices/{ref.extract_id}/1#2")


def test_numbers_with_a_fraction_parse_to_their_digits():
    assert parse('{"a": 1.10, "b": 2, "c": [0.1]}') == {"a": "1.10", "b": 2, "c": ["0.1"]}


def test_an_empty_extract_has_no_files(landing):
    ref = opened(landing).commit()
    assert (ref.files(), ref.records) == ([], 0)


def test_an_object_store_holds_extracts_as_a_folder_does():
    landing = Landing("memory://tieout-landing/raw")
    killed = opened(landing)
    page(killed, [{"id": "a"}])
    landing.sweep("stripe_us", "invoices", after=0)
    writer = opened(landing)
    page(writer, [{"id": "b"}])
    mark = writer.mark()
    page(writer, [{"id": "c"}])
    writer.rewind(mark)
    ref = writer.commit()
    assert landing.extracts("stripe_us") == [ref]
    assert landing.extracts("stripe_us", after=1) == []
    assert landing.record(f"stripe_us/invoices/{ref.extract_id}/1#0") == '{"id":"b"}'
    assert ref.files() == [f"memory://tieout-landing/raw/stripe_us/invoices/{ref.extract_id}/page-00001.parquet"]
