"""Suites: the checks of one table, generated from operations or read from the user's YAML."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, cast

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import ErrorDetails

from schema_change.core.errors import ChangeFileError
from schema_change.core.model import Expectation
from schema_change.core.names import Table
from schema_change.core.validation.quiet import load_builder

Key = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Suite:
    """The checks of one table. A ``conn_id`` limits a suite of the data-quality run to that connection."""

    name: str
    table: Table
    checks: tuple[Expectation, ...]
    conn_id: str | None = None


def suite_from_operations(change_id: str, expectations: Sequence[Expectation]) -> tuple[Suite, ...]:
    """Return one suite per table, named ``<change id>:<table>``.

    The same check wanted twice is made once; different checks with one check_id get a number behind it.
    """
    tables: dict[Table, dict[str, Expectation]] = {}
    for wanted in expectations:
        checks = tables.setdefault(wanted.table, {})
        check, number = wanted, 1
        while (known := checks.get(check.check_id, check)) != check:
            number += 1
            check = dataclasses.replace(wanted, check_id=f"{wanted.check_id}#{number}")
        checks[known.check_id] = known
    return tuple(
        Suite(f"{change_id}:{table}", table, tuple(checks.values())) for table, checks in sorted(tables.items())
    )


def load_suite(path: Path) -> tuple[Suite, ...]:
    """Read a file of suites: one YAML document (``---``) per suite.

    Types and kwargs are checked by Great Expectations itself, whose import costs seconds. Raises ChangeFileError with
    file, line, key and the nearest valid word; a suite is never accepted in part.
    """
    return _unique(path, [_read_document(path, *document) for document in _documents(path)])


class _Meta(BaseModel):
    model_config = ConfigDict(extra="forbid")
    check_id: str = Field(min_length=1)


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid")
    type: str
    kwargs: dict[str, Any] = Field(default_factory=dict)
    severity: Literal["critical", "warning", "info"] = "critical"
    notes: str = ""
    meta: _Meta | None = None


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str = Field(min_length=1)
    table: str
    conn_id: str | None = None
    expectations: list[_Entry] = Field(min_length=1)

    @field_validator("table")
    @classmethod
    def _is_a_table(cls, value: str) -> str:
        return str(Table.parse(value))


def _documents(path: Path) -> Iterator[tuple[Any, dict[Key, int]]]:
    """Yield each YAML document as plain data, with the line of every key."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ChangeFileError(f"cannot be read: {error.strerror}", file=str(path)) from error
    loader = yaml.SafeLoader(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            lines: dict[Key, int] = {}
            if node is not None:
                _note_lines(path, node, (), lines)
                yield cast("Any", loader).construct_document(node), lines
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise ChangeFileError(f"is not YAML: {error.problem}", file=str(path), line=line) from error
    finally:
        loader.dispose()


def _note_lines(path: Path, node: yaml.Node, key: Key, lines: dict[Key, int]) -> None:
    lines.setdefault(key, node.start_mark.line + 1)
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _note_lines(path, item, (*key, index), lines)
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            child = (*key, str(name.value))
            line = name.start_mark.line + 1
            if child in lines:
                # YAML itself lets the last one win, which would drop the first without a word.
                raise ChangeFileError(
                    f"is there twice, first on line {lines[child]}", file=str(path), line=line, key=_dotted(child)
                )
            lines[child] = line
            _note_lines(path, value, child, lines)


def _read_document(path: Path, data: Any, lines: dict[Key, int]) -> tuple[Suite, dict[Key, int]]:
    try:
        document = _Document.model_validate(data)
    except ValidationError as error:
        raise _file_error(path, error.errors()[0], lines) from error
    table = Table.parse(document.table)
    checks: dict[str, Expectation] = {}
    for index, entry in enumerate(document.expectations):
        check = Expectation(
            table, entry.type, entry.kwargs, _check_id(entry), entry.severity, " ".join(entry.notes.split())
        )
        _check_words(path, check, ("expectations", index), lines)
        if check.check_id in checks:
            raise ChangeFileError(
                f"check_id {check.check_id!r} is used twice in this suite",
                file=str(path),
                line=lines.get(("expectations", index)),
                key=f"expectations.{index}",
                hint="give each check a meta.check_id of its own",
            )
        checks[check.check_id] = check
    return Suite(document.name, table, tuple(checks.values()), document.conn_id), lines


def _check_id(entry: _Entry) -> str:
    """Return the check's own id, else one that stays the same as long as type and column do."""
    if entry.meta:
        return entry.meta.check_id
    about = [entry.kwargs.get(k) for k in ("column", "column_A", "column_B", "column_list", "columns")]
    names = [",".join(map(str, a)) if isinstance(a, list | dict) else str(a) for a in about if a]
    return ":".join([entry.type, *names])


def _check_words(path: Path, check: Expectation, key: Key, lines: dict[Key, int]) -> None:
    """Let Great Expectations build the check, so that a wrong type or kwarg is found now."""
    problem = load_builder().problem(check)
    if problem is not None:
        at = (*key, *problem.key)
        raise ChangeFileError(
            problem.message, file=str(path), line=_line(at, lines), key=_dotted(at), hint=problem.hint
        )


def _unique(path: Path, read: list[tuple[Suite, dict[Key, int]]]) -> tuple[Suite, ...]:
    if not read:
        raise ChangeFileError("has no suite", file=str(path), hint="write name, table and expectations")
    seen: set[str] = set()
    for suite, lines in read:
        if suite.name in seen:
            raise ChangeFileError(
                f"two suites are named {suite.name!r}",
                file=str(path),
                line=lines.get(("name",)),
                key="name",
                hint="results are kept by suite and check: give each suite a name of its own",
            )
        seen.add(suite.name)
    return tuple(suite for suite, _ in read)


def _file_error(path: Path, error: ErrorDetails, lines: dict[Key, int]) -> ChangeFileError:
    key = tuple(error["loc"])
    words: list[str] = []
    message = error["msg"]
    if error["type"] == "extra_forbidden":
        model = _Document if len(key) == 1 else _Meta if "meta" in key[:-1] else _Entry
        message, words = "is not a key here", list(model.model_fields)
    elif error["type"] == "literal_error":
        message, words = f"{error['input']!r} is not one of critical, warning, info", ["critical", "warning", "info"]
    elif error["type"] == "too_short":
        message = "is empty; a suite without checks would always pass"
    wrong = str(error["input"] if error["type"] == "literal_error" else key[-1] if key else "")
    return ChangeFileError(
        message, file=str(path), line=_line(key, lines), key=_dotted(key), hint=nearest(wrong, words) if words else None
    )


def nearest(word: str, words: Sequence[str]) -> str:
    """Say which valid word was probably meant, or all of them."""
    close = get_close_matches(word, words, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"valid here: {', '.join(sorted(words))}"


def _line(key: Key, lines: dict[Key, int]) -> int | None:
    while key and key not in lines:
        key = key[:-1]
    return lines.get(key)


def _dotted(key: Key) -> str:
    return ".".join(map(str, key))
