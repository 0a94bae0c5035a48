"""What the mappings read is in the source contracts: else drift goes unseen, and Salesforce is never asked for it."""

import re

import pytest
import yaml

from tieout.settings import SHIPPED_CONFIG
from tieout.sources.drift import load_contract

MAPPINGS = sorted((SHIPPED_CONFIG / "conform").glob("*/*.yaml"))
# not fields of a living record: a mark of deletion we or the vendor add
NOT_SENT = {"deleted", "deleted_at"}


def paths(mapping):
    """Top-level fields a mapping names: plain texts and `path:` entries of an entity's fields and columns."""
    for entity in mapping["entities"].values():
        nested = "each" in entity or "each_sql" in entity
        if "each" in entity:
            yield entity["each"].split(".")[0]
        for part in ("fields", "columns"):
            for rule in (entity.get(part) or {}).values():
                path = rule.get("path") if isinstance(rule, dict) else rule
                for one in [path] if isinstance(path, str) else path or ():
                    if one.startswith("^"):
                        yield re.split(r"[.\[]", one[1:])[0]
                    elif not nested:
                        yield re.split(r"[.\[]", one)[0]


@pytest.mark.parametrize("path", MAPPINGS, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_every_mapped_field_is_in_the_contract(path):
    mapping = yaml.safe_load(path.read_text())
    names = load_contract(path.parent.name).object(mapping["object"]).names
    missing = {name for name in paths(mapping) if name not in names}
    assert missing - NOT_SENT == set()
