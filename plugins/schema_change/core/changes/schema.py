"""Write the JSON Schema of change.yaml, from the pydantic models and the catalogue of operations.

``python -m schema_change.core.changes.schema`` writes it anew; a test tells when that was forgotten.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from schema_change.core.changes.models import ChangeFile
from schema_change.core.changes.operations import RAW
from schema_change.core.operations import catalogue

SCHEMA_FILE = Path(__file__).with_name("change.schema.json")
_REF = "#/$defs/{model}"


def change_schema() -> dict[str, Any]:
    """Return the JSON Schema, with an operation per file of the catalogue."""
    operations = catalogue()
    models: list[type[BaseModel]] = [ChangeFile, *operations.values()]
    refs, schema = models_json_schema([(model, "validation") for model in models], ref_template=_REF)
    definitions: dict[str, Any] = schema["$defs"]
    top = definitions.pop(ChangeFile.__name__)
    # One object with a property per kind, not oneOf: editors then complete the kind and explain a wrong key.
    top["properties"]["operations"]["items"] = {
        "type": "object",
        "minProperties": 1,
        "maxProperties": 1,
        "additionalProperties": False,
        "properties": {kind: refs[model, "validation"] for kind, model in operations.items()},
    }
    if RAW in operations:
        raw = definitions[refs[operations[RAW], "validation"]["$ref"].rsplit("/", 1)[1]]
        top["properties"]["backfill"] |= raw["properties"]["backfill"]
    for definition in (top, *definitions.values()):
        _untitled(definition)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "change.yaml of airflow-provider-schema-change",
        **top,
        "$defs": definitions,
    }


def _untitled(definition: dict[str, Any]) -> None:
    """Drop the titles that pydantic makes from the keys; they repeat the keys in an editor's pop-up."""
    definition.pop("title", None)
    for key in definition.get("properties", {}).values():
        key.pop("title", None)


def schema_text() -> str:
    """Return the schema as the shipped file holds it."""
    return json.dumps(change_schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    SCHEMA_FILE.write_text(schema_text(), encoding="utf-8")
