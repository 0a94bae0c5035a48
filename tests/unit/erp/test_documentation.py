"""The published JSON Schemas of the ERPs' files are those of the code, and the shipped examples keep to them."""

from __future__ import annotations

import json

import jsonschema
import pytest

from tieout.erp.documentation import json_schema
from tieout.erp.open import ADAPTERS, adapter
from tieout.settings import SHIPPED_CONFIG, load_config, load_yaml


@pytest.mark.parametrize("kind", list(ADAPTERS))
def test_an_erps_file_has_a_published_schema_and_an_example_that_keeps_to_it(kind: str) -> None:
    folder = SHIPPED_CONFIG / "erp"
    published = json.loads((folder / f"{kind}.schema.json").read_text(encoding="utf-8"))
    assert published == json_schema(kind), "run `make docs`"
    example = folder / f"{kind}.yaml"
    jsonschema.validate(load_yaml(example), published)
    assert load_config(adapter(kind).config, example).companies
