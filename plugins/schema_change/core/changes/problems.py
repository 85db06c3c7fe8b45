"""Say what is wrong with a change file: pydantic's errors as file, line, key, expectation and nearest word."""

from __future__ import annotations

import difflib
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from schema_change.core.changes.document import Document, KeyPath, dotted
from schema_change.core.errors import ChangeFileError, SchemaChangeError

_EXPECTED = {
    "string": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "list": "a list, whose lines start with '- '",
    "tuple": "a list, whose lines start with '- '",
    "dict": "keys with values",
    "model": "keys with values",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in one place."""

    file: str
    message: str
    line: int | None = None
    key: str | None = None
    hint: str | None = None

    def error(self) -> ChangeFileError:
        """Return the problem as an exception."""
        return ChangeFileError(self.message, file=self.file, line=self.line, key=self.key, hint=self.hint)


def error_of(problems: Sequence[Problem]) -> ChangeFileError:
    """Return one error that tells all problems, first line first."""
    first, *others = sorted(problems, key=lambda p: (p.file, p.line or 0))
    if not others:
        return first.error()
    rest = "".join(f"\n{problem.error()}" for problem in others)
    return ChangeFileError(
        f"{first.message}{f' (→ {first.hint})' if first.hint else ''}{rest}",
        file=first.file,
        line=first.line,
        key=first.key,
        hint=f"repair all {len(problems)} problems",
    )


def nearest(word: str, words: Iterable[str]) -> str | None:
    """Return the known word that is most like this one, if any is like it."""
    found = difflib.get_close_matches(word.lower(), sorted(words), n=1, cutoff=0.6)
    return found[0] if found else None


def suggestion(word: str, words: Sequence[str]) -> str:
    """Return the remedy for an unknown word: the nearest one, or all of them."""
    near = nearest(word, words)
    return f"did you mean {near}?" if near else f"known: {', '.join(words) or 'none'}"


def problems_of(
    error: ValidationError, model: type[BaseModel], document: Document, base: KeyPath = ()
) -> list[Problem]:
    """Translate pydantic's errors about the part of a document below ``base``."""
    found: dict[KeyPath, Problem] = {}
    misspelt: set[KeyPath] = set()
    details = sorted(error.errors(include_url=False), key=lambda d: d["type"] == "missing")
    for detail in details:
        path, keys = _locate(detail, model, document, base)
        if detail["type"] == "extra_forbidden":
            if near := nearest(str(path[-1]), keys):
                misspelt.add((*path[:-1], near))
        elif detail["type"] == "missing" and path in misspelt:
            continue
        problem = _problem(detail, path, keys, document)
        if (before := found.get(path)) is not None:
            expected = problem.message.split(", found ", 1)[0].removeprefix("expected ")
            problem = replace(before, message=before.message.replace(", found ", f" or {expected}, found ", 1))
        found[path] = problem
    return [problem for path, problem in found.items() if not _other_branch(path, found, document)]


def _other_branch(path: KeyPath, found: Iterable[KeyPath], document: Document) -> bool:
    """Tell whether an error only says that keys with values are not the plain word that could be there instead."""
    return isinstance(_value(document, path), dict) and any(
        len(other) > len(path) and other[: len(path)] == path for other in found
    )


def _locate(
    detail: ErrorDetails, model: type[BaseModel], document: Document, base: KeyPath
) -> tuple[KeyPath, dict[str, str | None]]:
    """Return the path in the document, and the keys known beside it with their descriptions.

    pydantic's location also names the branch of a union; such a part is no key of the file and is left out.
    """
    path, models = base, [model]
    known: dict[str, str | None] = {}
    absent = detail["type"] in {"missing", "extra_forbidden"}
    for index, part in enumerate(detail["loc"], 1):
        fields = [(field.alias or name, field) for each in models for name, field in each.model_fields.items()]
        if (*path, part) in document.lines or (absent and index == len(detail["loc"])):
            path = (*path, part)
            known = {name: field.description for name, field in fields}
            if isinstance(part, str):
                models = [m for name, field in fields if name == part for m in _models(field.annotation)]
    return path, known


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in typing.get_args(annotation) for model in _models(argument)]


def _value(document: Document, path: KeyPath) -> Any:
    value: Any = document.data
    for part in path:
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            return None
    return value


def _problem(detail: ErrorDetails, path: KeyPath, keys: Mapping[str, str | None], document: Document) -> Problem:
    kind, value, context = detail["type"], detail["input"], detail.get("ctx", {})
    hint: str | None = None
    expected: str | None
    if kind == "missing":
        about = keys.get(str(path[-1]))
        message = f"this key is required: {about}" if about else "this key is required"
    elif kind == "extra_forbidden":
        message, hint = "this key is not known", suggestion(str(path[-1]), list(keys))
    elif kind in {"literal_error", "enum"}:
        expected = str(context["expected"])
        message = f"expected {expected}, found {described(value)}"
        near = nearest(str(value), expected.replace("'", "").replace(" or ", ", ").split(", "))
        hint = f"did you mean {near}?" if near and near != value else None
    elif kind in {"value_error", "assertion_error"}:
        reason = context["error"]
        message, hint = (reason.message, reason.hint) if isinstance(reason, SchemaChangeError) else (str(reason), None)
    elif kind in {"too_short", "string_too_short"}:
        message = "must not be empty"
    elif (expected := _EXPECTED.get(kind.split("_", 1)[0])) is not None:
        message = f"expected {expected}, found {described(value)}"
        if kind == "string_type" and isinstance(value, int | float):
            hint = "put it in quotes"
    else:
        message = detail["msg"].replace("Input should be", "expected", 1)
    return Problem(document.file, message, document.line(path), dotted(path) or None, hint)


def described(value: Any) -> str:
    """Return a value as an error shows it."""
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case int() | float():
            return f"the number {value}"
        case str():
            return repr(value if len(value) <= 60 else value[:57] + "…")
        case list():
            return "a list"
        case _:
            return "keys with values"
