"""Definitions from YAML files, with errors that point at the line, and the published JSON Schema."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tieout.errors import ConfigError, DefinitionError
from tieout.reconcile.definition import Definition
from tieout.settings import load_config

_REMEDY = "correct the setting there; docs/interfaces.md describes every one and has a complete example"


def load_definition(definition: Definition | Mapping[str, Any] | Path | str) -> Definition:
    """A definition from a YAML file, from its values, or as it is.

    Raises DefinitionError naming file, line, what is wrong and what to do.
    """
    if isinstance(definition, Definition):
        return definition
    try:
        if isinstance(definition, Mapping):
            return Definition.model_validate(dict(definition))
        return load_config(Definition, Path(definition))
    except ValidationError as error:
        mistakes = [
            f"{'.'.join(map(str, e['loc'])) or 'definition'}: {e['msg']}" for e in error.errors(include_url=False)
        ]
        raise DefinitionError("definition is not usable: " + "; ".join(mistakes), remedy=_REMEDY) from None
    except OSError as error:
        raise DefinitionError("definition cannot be read", record=str(definition), got=error.strerror) from None
    except ConfigError as error:
        raise DefinitionError(error.message, record=error.record, got=error.got, remedy=_REMEDY) from None


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a definition file, published as `include/config/reconciliations/definition.schema.json`."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Definition.model_json_schema(),
        "title": "Tieout reconciliation",
    }


if __name__ == "__main__":
    import json
    import sys

    sys.stdout.write(json.dumps(json_schema(), indent=2) + "\n")
