"""Build the operations of a change: the typed items of ``operations:``, then the scripts beside the file, if any."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from schema_change.core.changes.document import Document, KeyPath, dotted
from schema_change.core.changes.problems import Problem, described, problems_of, suggestion
from schema_change.core.errors import SchemaChangeError
from schema_change.core.operations import catalogue
from schema_change.core.operations.base import Operation

SCRIPTS = ("deploy.sql", "cutover.sql", "contract.sql", "revert.sql", "verify.sql")
_UNDOABLE, _FORWARD = SCRIPTS[:2], SCRIPTS[:3]
RAW = "sql"
"""The operation that runs the scripts."""

_LINE = re.compile(r"line (\d+): (.*)", re.DOTALL)


def read_operations(
    document: Document, folder: Path, scripts: Mapping[str, str], problems: list[Problem]
) -> tuple[Operation, ...]:
    """Return the operations that are sound and append what is wrong with the others to ``problems``."""
    items = document.data.get("operations", [])
    # Anything but a list is reported with the other keys of the file.
    typed = [
        _item(item, ("operations", index), document, problems)
        for index, item in enumerate(items if isinstance(items, list) else [])
    ]
    raw = _raw(document, folder, scripts, problems)
    if items == [] and not scripts:
        message = "the change does nothing: it has neither operations nor deploy.sql"
        hint = "add operations:, or deploy.sql and revert.sql beside the file"
        problems.append(Problem(document.file, message, document.line(("operations",)), "operations", hint))
    return tuple(operation for operation in (*typed, raw) if operation is not None)


def _item(item: Any, path: KeyPath, document: Document, problems: list[Problem]) -> Operation | None:
    kinds = list(catalogue())

    def wrong(message: str, hint: str, path: KeyPath = path) -> None:
        problems.append(Problem(document.file, message, document.line(path), dotted(path), hint))

    if not isinstance(item, dict) or not item:
        wrong(f"expected one operation with its keys below it, found {described(item)}", f"known: {', '.join(kinds)}")
        return None
    kind = next(iter(item))
    if len(item) > 1:
        others = [key for key in item if key != kind]
        hint = (
            f"indent {', '.join(others)} deeper than {kind}"
            if kind in kinds and not set(others) & set(kinds)
            else "start each operation with a '- ' of its own"
        )
        wrong(f"expected one operation, found {len(item)} keys: {', '.join(item)}", hint)
        return None
    if kind not in kinds:
        wrong("this operation is not known", suggestion(kind, kinds), (*path, kind))
        return None
    body = {} if item[kind] is None else item[kind]
    return _build(kind, body, (*path, kind), document, problems)


def _build(kind: str, body: Any, path: KeyPath, document: Document, problems: list[Problem]) -> Operation | None:
    model = catalogue()[kind]
    try:
        return model.model_validate(body)
    except ValidationError as error:
        problems += problems_of(error, model, document, path)
    except SchemaChangeError as error:
        problems.append(Problem(document.file, error.message, document.line(path), dotted(path) or None, error.hint))
    return None


def _raw(document: Document, folder: Path, scripts: Mapping[str, str], problems: list[Problem]) -> Operation | None:
    """Return the operation made of the scripts beside the file and of the section ``backfill:``."""
    before = len(problems)
    undoable = [name for name in _UNDOABLE if name in scripts]
    if undoable and "revert.sql" not in scripts:
        remedy = f"write {folder / 'revert.sql'}, which takes back what {' and '.join(undoable)} does"
        problems.append(Problem(str(folder / undoable[0]), "there is no revert.sql beside it", hint=remedy))
    for name, text in scripts.items():
        needs = {"revert.sql": _UNDOABLE, "verify.sql": _FORWARD}.get(name, SCRIPTS)
        if not any(script in scripts for script in needs):
            alone = Problem(str(folder / name), "there is no deploy.sql beside it", hint="add it, or remove this one")
            problems.append(alone)
        if not text.strip():
            problems.append(Problem(str(folder / name), "the script is empty", line=1, hint="write its statements"))
    backfill = document.data.get("backfill")
    if backfill is not None and "deploy.sql" not in scripts:
        hint = "use fill: in an operation such as add_column"
        message = "backfill goes with deploy.sql, which is not there"
        problems.append(Problem(document.file, message, document.line(("backfill",)), "backfill", hint))
    if not scripts or len(problems) > before:
        return None
    body: dict[str, Any] = {name.removesuffix(".sql"): text for name, text in scripts.items()}
    if backfill is not None:
        body["backfill"] = backfill
    found: list[Problem] = []
    # To the operation, the scripts are keys beside backfill.
    keys: dict[KeyPath, int] = {(name.removesuffix(".sql"),): 1 for name in scripts}
    operation = _build(RAW, body, (), Document(document.file, body, {**document.lines, **keys}), found)
    problems += [_in_script(problem, folder) for problem in found]
    return operation


def _in_script(problem: Problem, folder: Path) -> Problem:
    """Move a problem with a script's text from the change file to the script."""
    script = f"{problem.key}.sql"
    if script not in SCRIPTS:
        return problem
    # An SqlError starts with the line in the text it was given.
    match = _LINE.fullmatch(problem.message)
    line, message = (int(match[1]), match[2]) if match else (None, problem.message)
    return Problem(str(folder / script), message, line, hint=problem.hint)
