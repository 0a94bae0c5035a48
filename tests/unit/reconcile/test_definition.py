import json
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from tieout.errors import DefinitionError
from tieout.reconcile import Definition, json_schema, load_definition
from tieout.settings import SHIPPED_CONFIG

FOLDER = SHIPPED_CONFIG / "reconciliations"
GOOD = """\
id: sample
title: Sample
left: {name: billing, currency: currency, amount: amount, date: day, id: [number]}
right: {name: the ledger, currency: currency, amount: amount, date: day, id: [number]}
passes:
  - name: by_number
    by: [number]
compare:
  - {name: amount, kind: amount, left: amount, right: amount}
owners: {default: finance}
"""


def test_the_published_schema_is_the_definitions_own():
    assert json.loads((FOLDER / "definition.schema.json").read_text()) == json_schema(), "run `make docs`"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda p: p.stem)
def test_shipped_definitions_fit_the_published_schema(path):
    Draft202012Validator(json_schema()).validate(yaml.safe_load(path.read_text()))
    assert load_definition(path).id == path.stem


@pytest.mark.parametrize(
    ("change", "line", "told"),
    [
        (("    by: [number]", "    by: [number]\n    cardinality: N:N\n    shortfall: partial_payment"), 6,
         "needs `payer`: left or right"),
        (("    by: [number]", "    by: [{left: a, right: b, normalise: [{split: ','}]}]"), 6, "only in an N:N pass"),
        (("    by: [number]", "    by: [{left: a, right: b, normalise: [{extract: '(?=a)'}]}]"), 7,
         "regular expression"),
        (("owners: {default: finance}", "calendars: {default: {country: ZZ}}"), 10, "no public holidays are known"),
        (("kind: amount", "kind: money"), 9, "'amount', 'number', 'date', 'status' or 'text'"),
        (("title: Sample", "titel: Sample"), 2, "Extra inputs are not permitted"),
        (("currency: currency, amount: amount, date: day, id: [number]}\nright",
          "amount: amount, id: [number]}\nright"), 3,
         "an amount needs the column of its currency"),
        (("owners: {default: finance}", "owners: {amount: finance}"), 10, "name a `default` owner"),
        (("owners: {default: finance}", "sentences: {amount: 'off by {diff}'}"), 10, "uses {diff}"),
        (("left: amount, right: amount}", "left: amount, right: amount, tolerance: {minor_units: -1}}"), 9, "negative"),
        (("left: amount, right: amount}", "left: amount, right: amount, tolerance: {minor_units: {eur: 1}}}"), 9,
         "eur is no ISO 4217 currency; did you mean EUR?"),
        (("left: amount, right: amount}", "left: amount, right: amount, tolerance: {percent: 1, combine: lesser}}"), 9,
         "needs both `minor_units` and `percent`"),
        (("owners: {default: finance}", "materiality: {EURO: 1}"), 10, "EURO is no ISO 4217 currency"),
        (("owners: {default: finance}", "immaterial_limit: {EUR: -1}"), 10, "cannot be negative"),
        (("owners: {default: finance}", "lags: [{type: missing_left, days: 1}, {type: missing_left, days: 2}]"), 1,
         "not two of the same type"),
        (("owners: {default: finance}", "lags: [{type: amount, days: 1}]"), 10, "missing_left"),
        (("    by: [number]", "    by: [{left: a, right: b, normalise: [{extract: '('}]}]"), 7, "regular expression"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_a_mistake_is_told_by_line(tmp_path, change, line, told):
    path = tmp_path / "sample.yaml"
    path.write_text(GOOD.replace(*change))
    with pytest.raises(DefinitionError) as error:
        load_definition(path)
    assert f"line {line}" in str(error.value)
    assert told in str(error.value)
    assert "remedy" in str(error.value)


def test_a_cardinality_needs_no_quotes(tmp_path):
    path = tmp_path / "sample.yaml"
    path.write_text(GOOD.replace("    by: [number]", "    by: [number]\n    cardinality: 1:1"))
    assert load_definition(path).passes[0].cardinality == "1:1"


def test_what_may_be_read_in_several_ways_is_told_once(tmp_path):
    path = tmp_path / "sample.yaml"
    path.write_text(GOOD.replace("by: [number]", "by: [{left: a, right: b, normalise: [strip]}]"))
    with pytest.raises(DefinitionError) as error:
        load_definition(path)
    assert error.value.message.count("line 7") == 1
    assert "line 7, passes.0.by.0.normalise.0: Input should be 'trim'" in error.value.message


def test_broken_yaml_and_a_missing_file_are_told(tmp_path):
    path = tmp_path / "sample.yaml"
    path.write_text(GOOD + "compare: []\n")
    with pytest.raises(DefinitionError, match=r"sample.yaml:11:1; got: compare stands twice, first in line 8"):
        load_definition(path)
    path.write_text("id: [")
    with pytest.raises(DefinitionError, match=r"sample.yaml:\d"):
        load_definition(path)
    with pytest.raises(DefinitionError, match=r"absent\.yaml"):
        load_definition(tmp_path / "absent.yaml")


def test_the_version_follows_the_content(tmp_path):
    path: Path = tmp_path / "sample.yaml"
    path.write_text(GOOD)
    one = load_definition(path)
    path.write_text("# a comment\n" + GOOD)
    assert load_definition(path).content_hash == one.content_hash
    assert load_definition(yaml.safe_load(GOOD)).content_hash == one.content_hash
    path.write_text(GOOD.replace("    by: [number]", "    by: [number]\n    cardinality: '1:1'"))
    assert load_definition(path).content_hash == one.content_hash
    path.write_text(GOOD.replace("default: finance", "default: treasury"))
    assert load_definition(path).content_hash != one.content_hash


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda p: p.stem)
def test_mirroring_twice_gives_the_same_definition(path):
    definition = load_definition(path)
    assert definition.mirrored() != definition
    assert definition.mirrored().mirrored().content_hash == definition.content_hash
    assert isinstance(definition, Definition)
