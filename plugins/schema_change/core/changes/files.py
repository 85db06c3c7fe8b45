"""Read the files of a change once: bytes for the hash, text for the rest."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from schema_change.core.changes.operations import SCRIPTS
from schema_change.core.changes.problems import nearest
from schema_change.core.changes.spec import CHANGE_FILE
from schema_change.core.errors import ChangeFileError

_OTHER_NAMES = {
    "up.sql": "deploy.sql",
    "apply.sql": "deploy.sql",
    "expand.sql": "deploy.sql",
    "migrate.sql": "deploy.sql",
    "switch.sql": "cutover.sql",
    "down.sql": "revert.sql",
    "undo.sql": "revert.sql",
    "rollback.sql": "revert.sql",
    "check.sql": "verify.sql",
    "test.sql": "verify.sql",
}


def read_files(folder: Path) -> dict[str, bytes]:
    """Return the bytes of change.yaml and the scripts by name.

    Raises ChangeFileError when change.yaml is missing, or when a script has a name under which it would never run.
    """
    try:
        names = {entry.name for entry in os.scandir(folder)}
    except OSError as error:
        raise ChangeFileError(f"cannot be read: {error.strerror}", file=str(folder)) from error
    if CHANGE_FILE not in names:
        near = next((n for n in sorted(names) if n.lower() in {"change.yaml", "change.yml", "changes.yaml"}), None)
        hint = (
            f"rename {near} to {CHANGE_FILE}" if near else "every change has one, also one of deploy.sql and revert.sql"
        )
        raise ChangeFileError(f"there is no {CHANGE_FILE}", file=str(folder), hint=hint)
    for name in sorted(names - set(SCRIPTS)):
        if name.lower().endswith(".sql"):
            known = _OTHER_NAMES.get(name.lower()) or nearest(name, SCRIPTS)
            hint = f"rename it to {known}" if known else f"move it into one of {', '.join(SCRIPTS)}"
            raise ChangeFileError("this script would never run", file=str(folder / name), hint=hint)
    return {name: read_bytes(folder / name) for name in (CHANGE_FILE, *SCRIPTS) if name in names}


def read_bytes(file: Path) -> bytes:
    """Return a file's bytes. Raises ChangeFileError."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise ChangeFileError(f"cannot be read: {error.strerror}", file=str(file)) from error


def decoded(content: bytes, file: Path) -> str:
    """Return text whose lines end as on Unix, whatever git made of them. Raises ChangeFileError with the line."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ChangeFileError("not UTF-8", file=str(file), line=line, hint="save the file as UTF-8") from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise ChangeFileError("a NUL character is not allowed", file=str(file), line=line)
    return text.replace("\r\n", "\n")


def sha256_of(files: Mapping[str, bytes]) -> str:
    """Return one hash of names and contents."""
    digest = hashlib.sha256()
    for name, content in sorted(files.items()):
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()
