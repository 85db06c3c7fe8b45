"""What a DAG says about itself in the UI."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from schema_change.core.changes.procedures import Procedure
from schema_change.core.changes.spec import Change
from schema_change.core.planning.around import timetable
from schema_change.core.templates import escape_markdown

#: What the UI shows of one file; the rest is in the repository.
_SHOWN = 20_000
_LANGUAGES = {".yaml": "yaml", ".sql": "sql"}


def change_doc(change: Change) -> str:
    """Return a change's description, its place, its operations and its files as Markdown."""
    return "\n".join([f"**{escape_markdown(change.description)}**", "", *_facts(change), "", *_files(change.folder)])


def procedure_doc(procedure: Procedure) -> str:
    """Return what a procedure does and its parameters as Markdown."""
    schemas = procedure.schemas().items()
    lines = [f"- `{name}`: {schema.get('description', '')}" for name, schema in schemas]
    about = (
        f"Makes one change with the operation `{procedure.operation}`, in the same tasks as a change from a file: it "
        "is planned, approved, rehearsed, applied and validated, or rolled back. "
        "Expressions are over the row alone; what needs more is written as a change file."
    )
    return "\n".join([about, "", *lines])


def broken_doc(name: str, error: Exception) -> str:
    """Return why a change could not be loaded, as Markdown."""
    # Quoted lines wrap, a code block would be cut off; the folder's place on the server says nothing to a reader.
    lines = re.sub(rf"\S*/{re.escape(name)}/", "", str(error)).splitlines()
    return "\n\n".join(
        [
            f"**{name} could not be loaded.** Correct it; its DAG replaces this one at the next parse.",
            *(f"> {escape_markdown(line)}" for line in lines if line.strip()),
        ]
    )


def fence(text: str, language: str = "") -> str:
    """Return text as a code block, whatever backticks are in it."""
    marks = "```"
    while marks in text:
        marks += "`"
    return f"{marks}{language}\n{text.rstrip()}\n{marks}"


def _facts(change: Change) -> Iterator[str]:
    yield f"- target: {change.conn_id}"
    if registry := change.registry:
        versions = f"{registry.from_version or 'new'} → {registry.to_version}"
        yield f"- version of {escape_markdown(registry.table)}: {versions}"
    yield f"- operations: {', '.join(operation.kind for operation in change.operations)}"
    for when, what in timetable(change):
        yield f"- {when}: {escape_markdown(what)}"
    if change.expectations:
        yield f"- expectations: {escape_markdown(change.expectations)}"
    for role, person in change.contacts.items():
        yield f"- contact ({escape_markdown(role)}): {escape_markdown(person)}"
    if change.blocked_by:
        yield f"- **cannot be started: {escape_markdown(change.blocked_by)}, which comes before it, is broken**"


def _files(folder: Path) -> Iterator[str]:
    for file in sorted(folder.iterdir(), key=lambda f: (f.suffix != ".yaml", f.name)):
        if file.suffix in _LANGUAGES:
            text = file.read_text(encoding="utf-8", errors="replace")
            yield f"`{file.name}`\n\n{fence(text[:_SHOWN], _LANGUAGES[file.suffix])}\n"
