from __future__ import annotations

from typing import Any

import jsonschema
import pytest

from schema_change.core.changes.document import parse
from schema_change.core.changes.schema import SCHEMA_FILE, change_schema, schema_text
from schema_change.core.operations import catalogue

GOOD = """\
description: Hours below -10 °C per station and quarter
conn_id: weather
registry: {table: quarterly_temperature_features, from: null, to: v1.1.0}
operations:
  - add_column:
      table: public.quarterly_temperature_features
      column: {name: extreme_cold_hours, type: integer}
window: {from: 22:00, to: 04:00}
"""


def errors(text: str) -> list[list[Any]]:
    validator = jsonschema.Draft202012Validator(change_schema())
    return [list(error.absolute_path) for error in validator.iter_errors(parse(text, "f").data)]


def test_the_shipped_schema_is_up_to_date() -> None:
    assert SCHEMA_FILE.read_text(encoding="utf-8") == schema_text(), (
        "run python -m schema_change.core.changes.schema to write it anew"
    )


def test_the_schema_is_one_and_accepts_what_loads() -> None:
    jsonschema.Draft202012Validator.check_schema(change_schema())
    assert errors(GOOD) == []


@pytest.mark.parametrize(
    ("old", "new", "path"),
    [
        ("conn_id", "con_id", []),
        ("add_column", "add_colum", ["operations", 0]),
        ("table: public", "tabel: public", ["operations", 0, "add_column"]),
        ("v1.1.0", "1.1", ["registry"]),
        ("22:00", "22", ["window"]),
    ],
)
def test_the_schema_refuses_what_does_not_load(old: str, new: str, path: list[Any]) -> None:
    assert path in errors(GOOD.replace(old, new))


def test_an_editor_can_explain_every_operation_and_key() -> None:
    schema = change_schema()
    for name, definition in schema["$defs"].items():
        assert definition.get("description"), f"{name} has no docstring"
    offered = schema["properties"]["operations"]["items"]["properties"]
    assert set(offered) == set(catalogue())
    for key, value in schema["properties"].items():
        assert value.get("description") or "anyOf" in value, f"{key} has no description"
