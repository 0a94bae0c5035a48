from pathlib import Path

from tieout.schema.dictionary import render

DOCS = Path(__file__).resolve().parents[3] / "docs"


def test_the_published_dictionary_is_the_schemas_own():
    assert (DOCS / "tables.md").read_text() == render(), "run `make docs`"
