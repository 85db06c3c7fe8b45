"""Common changes without a file: parameters of a form become the same change that a file would hold.

A parameter is a key of one operation; its type, limits and description come from that operation's model. What a form
or ``--conf`` gives is not trusted: expressions are over the row alone, without subqueries and functions of users.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from schema_change.core.changes.load import checksum_of
from schema_change.core.changes.models import Registry
from schema_change.core.changes.spec import Change
from schema_change.core.errors import ConfigurationError
from schema_change.core.names import Table, short_name
from schema_change.core.operations import catalogue
from schema_change.core.sqltext.untrusted import own_expression, own_index_key

_Values = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Field:
    """One parameter: the dotted key of the operation it fills in, or a JSON Schema of its own for ``build``."""

    key: str = ""
    schema: Mapping[str, Any] = field(default_factory=dict)
    expression: bool = False


@dataclass(frozen=True, slots=True)
class Procedure:
    """A form for one operation. ``build`` gives the operation's body what no single key can say."""

    name: str
    operation: str
    title: str
    fields: Mapping[str, Field]
    build: Callable[[_Values], Mapping[str, Any]] = lambda values: {}

    def schemas(self) -> dict[str, dict[str, Any]]:
        """Return the JSON Schema of each parameter, with ``default`` where one may be left out."""
        return {name: _schema(self.operation, f) for name, f in self.fields.items()} | _VERSIONS

    def change(self, values: _Values, *, run: str, conn_id: str, at: datetime) -> Change:
        """Return the change that the values describe; the same run gives the same change.

        ``run`` names the run and ``at`` is when it was asked for. Raises ConfigurationError naming the parameter that
        does not fit.
        """
        given = {name: value for name, value in values.items() if value not in (None, "", [], {})}
        for name, f in self.fields.items():
            if f.expression and name in given:
                given[name] = _of_the_row(name, given[name])
        body = _nested({f.key: given[name] for name, f in self.fields.items() if f.key and name in given})
        try:
            operation = catalogue()[self.operation].model_validate({**body, **self.build(given)})
            registry = _registry(given)
        except ValidationError as error:
            names = {f.key: name for name, f in self.fields.items()}
            raise ConfigurationError(
                "; ".join(_problem(e["loc"], e["msg"], names) for e in error.errors()),
                hint="correct the form, or write a change file (schema-change new)",
            ) from error
        subject = "_".join(filter(None, (_changed(given), str(given.get("column", "")))))
        change = Change(
            # Two procedures may be asked for in one second.
            version=f"{at.astimezone(UTC):%Y%m%d%H%M%S}_{hashlib.sha256(run.encode()).hexdigest()[:6]}",
            # It becomes the name of files and lines of logs.
            name=short_name(re.sub(r"\W+", "_", f"{self.name}_{subject}")),
            folder=Path(),
            description=given.get("description") or f"{self.title}: {subject.replace('_', ' ')}",
            conn_id=conn_id,
            operations=(operation,),
            registry=registry,
        )
        checksum = checksum_of(change, None)
        return replace(change, checksum=checksum, files_sha256=checksum)


def _schema(operation: str, f: Field) -> dict[str, Any]:
    if "type" in f.schema:
        return {**({"description": _described(operation, f.key)} if f.key else {}), **f.schema}
    model = _model_schema(operation)
    found = model
    required = True
    for part in f.key.split("."):
        required = required and part in found.get("required", ())
        found = _resolved(model, found["properties"][part])
    rules = {k: v for k, v in found.items() if k not in ("title", "default")}
    if not required:
        rules["default"] = found.get("default")
        # What an empty field of the form becomes is null.
        if rules["default"] in (None, []):
            rules["type"] = ["null", rules.get("type", "string")]
        if "enum" in rules and rules["default"] is None:
            rules["enum"] = [None, *rules["enum"]]
    return rules


def _described(operation: str, key: str) -> str:
    """Return the description of a key, or of the model that holds it."""
    found = _model_schema(operation)
    for part in key.split("."):
        found = _resolved(_model_schema(operation), found["properties"][part])
    return str(found["description"])


@cache
def _model_schema(operation: str) -> dict[str, Any]:
    return catalogue()[operation].model_json_schema()


def _resolved(model: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a property's schema without references, and without the null of an optional one."""
    found = dict(schema)
    options = [s for s in found.pop("anyOf", ()) if s.get("type") != "null"]
    if len(options) == 1:
        found = {**options[0], **found}
    if "$ref" in found:
        definition = model["$defs"][found.pop("$ref").rsplit("/", 1)[1]]
        found = {**definition, **found}
    return found


def _nested(values: _Values) -> dict[str, Any]:
    body: dict[str, Any] = {}
    for key, value in values.items():
        *above, last = key.split(".")
        place = body
        for part in above:
            place = place.setdefault(part, {})
        place[last] = value
    return body


def _of_the_row(name: str, value: Any) -> Any:
    """Return an expression, or the items of an index, with PostgreSQL's own functions and nothing else.

    It runs with the rights of the connection, so it could show the person at the form what is not theirs to see.
    Raises ConfigurationError for what reads other tables, or calls what users have made.
    """
    try:
        if isinstance(value, str):
            value, beyond = own_expression(value)
        else:
            beyond = [what for item in value for what in own_index_key(str(item))]
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"{name}: {error}", hint="write one SQL expression over the row") from error
    if beyond:
        raise ConfigurationError(
            f"{name}: {', '.join(beyond)}, which a form may not ask for",
            hint="write a change file, which is reviewed (schema-change new)",
        )
    return value


def _changed(given: _Values) -> str:
    """Return the name of the table, or of the template of the warehouse, that the form is about."""
    return str(given["template"]) if "template" in given else Table.parse(given["table"]).name


def _registry(given: _Values) -> Any:
    if "version_to" not in given:
        return None
    said = {"table": _changed(given), "from": given.get("version_from"), "to": given["version_to"]}
    return Registry.model_validate(said).value()


def _problem(place: tuple[str | int, ...], message: str, names: Mapping[str, str]) -> str:
    key = ".".join(str(part) for part in place if isinstance(part, str))
    known = {"to": "version_to", "from": "version_from", **names}
    return f"{known.get(key, key) or 'the parameters'}: {message}"


_VERSIONS: dict[str, dict[str, Any]] = {
    "version_from": {
        "type": ["null", "string"],
        "default": None,
        "description": "Version of the table before, such as v1.0.0",
    },
    "version_to": {"type": ["null", "string"], "default": None, "description": "Version of the table afterwards"},
    "description": {
        "type": ["null", "string"],
        "default": None,
        "description": "What the change is for",
        "maxLength": 500,
    },
}


def _nulls(values: _Values) -> Mapping[str, Any]:
    choice = values.get("nulls", "fail")
    if (choice == "fill") != ("fill" in values):
        raise ConfigurationError("nulls: fill needs fill, the value, and nothing else does", hint="correct the form")
    return {"nulls": {"fill": values["fill"]} if choice == "fill" else choice}


def _split_columns(values: _Values) -> Mapping[str, Any]:
    columns = [{"name": name, "from": name} for name in values.get("columns", ())]
    return {"into": {"table": values.get("into", ""), "key": values.get("key", ()), "columns": columns}}


def _names(description: str, **more: Any) -> Field:
    return Field(schema={"type": "array", "items": {"type": "string"}, "description": description, **more})


_TABLE, _COLUMN = Field("table"), Field("column")
_TEMPLATE = {"template": Field("template"), "column": _COLUMN}
_SOURCES = {
    key: Field(key) for key in ("strategy", "tenants", "canary", "source_down", "skip_at_most", "source_pause_s")
}
PROCEDURES: dict[str, Procedure] = {
    p.name: p
    for p in (
        Procedure(
            "add_column",
            "add_column",
            "Add a column",
            {
                "table": _TABLE,
                "column": Field("column.name"),
                "type": Field("column.type"),
                "nullable": Field("column.nullable"),
                "default": Field("column.default", expression=True),
                "comment": Field("column.comment"),
                "fill": Field("fill", expression=True),
                "new_rows": Field("new_rows"),
            },
        ),
        Procedure(
            "change_column_type",
            "change_type",
            "Change the type of a column",
            {
                "table": _TABLE,
                "column": _COLUMN,
                "type": Field("type"),
                "using": Field("using", expression=True),
                "down": Field("down", expression=True),
                "strategy": Field("strategy"),
                "lossy": Field("lossy"),
            },
        ),
        Procedure(
            "set_not_null",
            "set_not_null",
            "Set NOT NULL",
            {
                "table": _TABLE,
                "column": _COLUMN,
                "nulls": Field(
                    schema={
                        "type": "string",
                        "enum": ["fail", "fill", "delete"],
                        "default": "fail",
                        "description": "What to do with rows that hold NULL; deleted rows are kept aside",
                    }
                ),
                "fill": Field(
                    schema={
                        "type": ["null", "string"],
                        "default": None,
                        "description": "SQL expression over the row that gives the value",
                    },
                    expression=True,
                ),
            },
            _nulls,
        ),
        Procedure(
            "add_index",
            "create_index",
            "Add an index",
            {
                "table": _TABLE,
                "columns": Field("columns", expression=True),
                "name": Field("name"),
                "unique": Field("unique"),
                "method": Field("method"),
                "include": Field("include"),
                "where": Field("where", expression=True),
            },
        ),
        Procedure(
            "add_foreign_key",
            "add_foreign_key",
            "Add a foreign key",
            {
                "table": _TABLE,
                "columns": _names("Columns that refer to the other table", minItems=1),
                "references": Field("references.table", {"type": "string"}),
                "references_columns": Field("references.columns"),
                "name": Field("name"),
                "on_delete": Field("on_delete"),
                "on_update": Field("on_update"),
                "orphans": Field(
                    "orphans",
                    {
                        "type": "string",
                        "enum": ["fail", "delete", "set_null"],
                        "default": "fail",
                        "description": "What to do with rows that refer to nothing; deleted rows are kept aside",
                    },
                ),
            },
            lambda values: {"columns": values.get("columns", ())},
        ),
        Procedure(
            "split_table",
            "split_table",
            "Split a table",
            {
                "table": _TABLE,
                "into": Field(schema={"type": "string", "description": "New table, as schema.table"}),
                "key": _names("Columns that become its primary key", minItems=1),
                "columns": _names("Columns that move into it", minItems=1),
                "foreign_key": Field("foreign_key"),
            },
            _split_columns,
        ),
        Procedure(
            "drop_column",
            "drop_column",
            "Drop a column",
            {
                "table": _TABLE,
                "column": _COLUMN,
                "down": Field("down", expression=True),
                "also_drops": Field("also_drops"),
                "keep_days": Field("keep_days"),
            },
        ),
        Procedure(
            "warehouse_add_column",
            "warehouse_add_column",
            "Add a column to a template of the warehouse",
            {
                **_TEMPLATE,
                "type": Field("type"),
                "expression": Field("expression", expression=True),
                "default": Field("default", expression=True),
                "index": Field("index"),
                "history_from": Field("history_from"),
                **_SOURCES,
            },
        ),
        Procedure(
            "warehouse_modify_column",
            "warehouse_modify_column",
            "Change the type of a column of a template of the warehouse",
            {**_TEMPLATE, "type": Field("type"), "using": Field("using", expression=True), **_SOURCES},
        ),
        Procedure(
            "warehouse_remove_column",
            "warehouse_remove_column",
            "Remove a column from a template of the warehouse",
            {**_TEMPLATE, "keep_days": Field("keep_days"), **_SOURCES},
        ),
    )
}
