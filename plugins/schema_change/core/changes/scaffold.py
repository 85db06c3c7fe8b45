"""Start a change: a folder with a commented change.yaml, or with the scripts."""

from __future__ import annotations

import datetime as dt
import json
import re
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType, UnionType
from typing import Any

from pydantic import BaseModel, ValidationError

from schema_change.core.changes.document import parse
from schema_change.core.changes.models import ChangeFile
from schema_change.core.changes.operations import RAW
from schema_change.core.changes.problems import suggestion
from schema_change.core.changes.schema import SCHEMA_FILE
from schema_change.core.changes.spec import CHANGE_FILE, Version
from schema_change.core.errors import ChangeFileError, ConfigurationError
from schema_change.core.operations import catalogue

_DEFAULT_OPERATION = "add_column"
_PLACEHOLDER = "change_me"

_HEAD = """\
# yaml-language-server: $schema=../{schema}
description: {description}
conn_id: {conn_id}

# Raises the version of a table; the run stops when the database says another one. from: null for a new table.
# registry: {{table: {placeholder}, from: v1.0.0, to: v1.1.0}}
"""

_TAIL = """
# A Great Expectations suite, below the folder of expectations, which must pass afterwards.
# expectations: {placeholder}.yaml

# Whom to ask.
# contacts: {{owner: name@example.com}}
"""

_SCRIPTS = {
    "deploy.sql": "-- What the change does. Names without a schema mean public.\n",
    "revert.sql": "-- Takes back what deploy.sql did, also when only a part of it was done (IF EXISTS).\n",
    "verify.sql": "-- Fails when the change is not in place, for example: SELECT 1 / count(*) FROM pg_class WHERE …\n",
}


def new_change(
    root: Path, name: str, *, conn_id: str, now: dt.datetime, operation: str | None = None, raw: bool = False
) -> Path:
    """Create the folder of a change and return it; ``raw`` gives scripts instead of an operation.

    The JSON Schema is laid beside the changes, for editors. Raises ChangeFileError for a name that would not load,
    and ConfigurationError for what cannot be created; then nothing was written.
    """
    if operation is not None and raw:
        raise ConfigurationError("a raw change has scripts, no operation", hint="leave one of the two out")
    kind = operation or _DEFAULT_OPERATION
    kinds = [k for k in catalogue() if k != RAW]
    if not raw and kind not in kinds:
        raise ConfigurationError(f"the operation {kind!r} is not known", hint=suggestion(kind, kinds))
    _check_conn_id(conn_id)
    folder = _free_folder(root, name, now)
    text = _HEAD.format(
        schema=SCHEMA_FILE.name,
        description=_plain(name.replace("_", " ").capitalize()),
        conn_id=_plain(conn_id),
        placeholder=_PLACEHOLDER,
    )
    text += _raw_section() if raw else _operation_section(kind, kinds)
    text += _TAIL.format(placeholder=_PLACEHOLDER)
    try:
        folder.mkdir(parents=True)
        (folder / CHANGE_FILE).write_text(text, encoding="utf-8")
        for script, content in _SCRIPTS.items() if raw else ():
            (folder / script).write_text(content, encoding="utf-8")
        (root / SCHEMA_FILE.name).write_bytes(SCHEMA_FILE.read_bytes())
    except OSError as error:
        raise ConfigurationError(f"{folder} cannot be created: {error.strerror}") from error
    return folder


def _check_conn_id(conn_id: str) -> None:
    try:
        ChangeFile.model_validate({"description": "-", "conn_id": conn_id})
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise ConfigurationError(f"conn_id: {reason}", hint="name an Airflow connection") from None


def _free_folder(root: Path, name: str, now: dt.datetime) -> Path:
    """Return a folder with the time as version, or the first second after it that no other change has."""
    taken = {_version_of(entry) for entry in root.iterdir()} if root.is_dir() else set()
    while True:
        folder = root / f"{now:%Y%m%d%H%M%S}_{name}"
        try:
            version, _ = Version.split(folder)
        except ChangeFileError as error:
            better = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_0123456789")
            hint = f"for example {better[:80]}" if better else error.hint
            raise ChangeFileError(f"{name!r} cannot be the name of a change", file=str(folder), hint=hint) from None
        if version not in taken:
            return folder
        now += dt.timedelta(seconds=1)


def _version_of(folder: Path) -> Version | None:
    try:
        return Version.split(folder)[0]
    except ChangeFileError:
        return None


def _raw_section() -> str:
    return (
        "\n# deploy.sql, revert.sql and verify.sql beside this file are what runs. To fill a column in batches:\n"
        f"# backfill: {{table: public.{_PLACEHOLDER}, column: {_PLACEHOLDER}, expression: lower(name)}}\n"
    )


def _operation_section(kind: str, kinds: list[str]) -> str:
    model = catalogue()[kind]
    lines = ["", f"# Known operations: {', '.join(kinds)}", "operations:", f"  - {kind}:"]
    given = model.example
    return "\n".join([*lines, *_fields(model, " " * 6, given), *_others(model, " " * 6, given)]) + "\n"


def _fields(model: type[BaseModel], indent: str, given: Mapping[str, Any] = MappingProxyType({})) -> Iterator[str]:
    """Yield what has to be filled in: a line per required key, with what it means, or what ``given`` has for it."""
    for name, field in model.model_fields.items():
        key = field.alias or name
        about = f"   # {field.description}" if field.description else ""
        nested, many = _model_of(field.annotation)
        if key in given:
            yield f"{indent}{key}: {json.dumps(given[key], ensure_ascii=False)}{about}"
        elif not field.is_required():
            continue
        elif nested is None:
            yield f"{indent}{key}: {_example(key, field.annotation)}{about}"
        else:
            yield f"{indent}{key}:{about}"
            lines = list(_fields(nested, indent + ("    " if many else "  ")))
            yield f"{indent}  - {lines[0].strip()}" if many else lines[0]
            yield from lines[1:]


def _others(model: type[BaseModel], indent: str, given: Mapping[str, Any]) -> Iterator[str]:
    """Yield what may be added: a comment per optional key."""
    for name, field in model.model_fields.items():
        key = field.alias or name
        if not field.is_required() and key not in given:
            default = f" (default: {field.default})" if isinstance(field.default, bool | int | str) else ""
            yield f"{indent}# {key}: {field.description or ''}{default}"


def _model_of(annotation: Any) -> tuple[type[BaseModel] | None, bool]:
    """Return the model that a key holds, and whether it holds a list of them."""
    arguments = typing.get_args(annotation)
    many = typing.get_origin(annotation) in {list, tuple}
    inner = arguments[0] if many else annotation
    return (inner, many) if isinstance(inner, type) and issubclass(inner, BaseModel) else (None, many)


def _example(key: str, annotation: Any) -> str:
    """Return something of the right type to write over."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in {typing.Union, UnionType}:
        text = _example(key, next(a for a in arguments if a is not type(None)))
    elif origin is typing.Literal:
        text = str(arguments[0])
    elif origin in {list, tuple}:
        text = f"[{_PLACEHOLDER}]"
    elif origin is dict:
        text = f"{{{_PLACEHOLDER}: {_PLACEHOLDER}}}"
    elif annotation in {bool, int, float}:
        text = str(annotation()).lower()
    else:
        text = {"table": f"public.{_PLACEHOLDER}", "type": "integer"}.get(key, _PLACEHOLDER)
    return text


def _plain(text: str) -> str:
    """Return text as YAML, in quotes only where it would be read as something else."""
    return text if parse(f"key: {text}", "").data == {"key": text} else json.dumps(text)
