"""The JSON Schemas of ERP files: `python -m tieout.erp.schemas <folder>` writes one per adapter."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tieout.erp.open import ADAPTERS, adapter


def json_schema(kind: str) -> dict[str, Any]:
    """What `erp/<name>.yaml` may say for an adapter, published as `include/config/erp/<kind>.schema.json`."""
    schema = adapter(kind).config.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def main(folder: Path) -> None:
    """Write every adapter's schema."""
    for kind in ADAPTERS:
        text = json.dumps(json_schema(kind), indent=2, ensure_ascii=False)
        (folder / f"{kind}.schema.json").write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
