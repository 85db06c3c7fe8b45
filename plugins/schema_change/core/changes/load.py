"""Load changes from their folders, in order, each chained to the one before it on its connection.

**Order.** By :class:`~schema_change.core.changes.spec.Version`: numbered changes first, then dated ones.

**Chain.** ``checksum = sha256(canonical change with its scripts + checksum of the change before it)``. ``contacts``,
``window`` and what lies around a change (hooks, health, …) are left out: they do not say what is done to the database,
and may be corrected later. The suite of expectations is left out as well, because it goes on being maintained;
``files_sha256`` covers the bytes of all of it, so that a run sees when one of them changed under it.

**A broken change hides no other.** The changes after it on the same connection (on every connection, when the broken
file does not say which) still load, so that runs in progress find their change, but with ``blocked_by`` set: their
checksum cannot be known, and :meth:`~schema_change.core.changes.spec.Change.ensure_startable` refuses a new run.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from pydantic import ValidationError

from schema_change.core.changes.document import Document, parse
from schema_change.core.changes.files import decoded, read_bytes, read_files, sha256_of
from schema_change.core.changes.models import ChangeFile
from schema_change.core.changes.operations import read_operations
from schema_change.core.changes.problems import Problem, error_of, nearest, problems_of, suggestion
from schema_change.core.changes.spec import CHANGE_FILE, Change, Version
from schema_change.core.errors import ChangeFileError, ConfigurationError
from schema_change.core.surroundings.models import Surroundings

_CONN_ID = re.compile(r"^conn_id:[ \t]*[\"']?([\w.-]+)", re.MULTILINE)
_NOT_IN_CHECKSUM = frozenset({"contacts", "window", *Surroundings.model_fields})


@dataclass(frozen=True)
class Changes:
    """All changes below a folder: those that loaded, in order, and what is wrong with the others."""

    root: Path
    changes: tuple[Change, ...]
    broken: Mapping[Path, ChangeFileError]

    def get(self, change_id: str) -> Change:
        """Return a change by its folder's name; raise its own error when it is broken."""
        for change in self.changes:
            if change.id == change_id:
                return change
        for folder, error in self.broken.items():
            if folder.name == change_id:
                raise error
        raise ConfigurationError(
            f"there is no change {change_id!r} in {self.root}",
            hint=suggestion(change_id, [change.id for change in self.changes][-10:]),
        )


def load_change(folder: Path, parent: Change | None = None, expectations_root: Path | None = None) -> Change:
    """Load one change; ``parent`` is the one before it on the same connection.

    ``expectations_root`` is ``include/expectations`` beside ``include/sql/changes`` unless given.
    Raises ChangeFileError that tells every problem of the file.
    """
    change = _read(folder, Version.split(folder)[0], expectations_root)
    if parent is not None and parent.conn_id != change.conn_id:
        raise ValueError(f"{parent.id} is a change of {parent.conn_id}, {change.id} of {change.conn_id}")
    return _chained(change, parent.checksum if parent else None, parent.blocked_by if parent else None)


def load_changes(root: Path, expectations_root: Path | None = None) -> Changes:
    """Load every change below a folder. A broken one is reported in ``broken`` and hides no other.

    Folders whose names start with a dot or an underscore, and files, are left alone. A version that is there twice
    breaks both changes. Raises ConfigurationError when the folder itself is not there.
    """
    broken: dict[Path, ChangeFileError] = {}
    parents: dict[str, Change] = {}
    blockers: dict[str | None, str] = {}
    changes: list[Change] = []
    for version, folder in _in_order(root, broken):
        try:
            if folder in broken:
                raise broken[folder]
            change = _read(folder, version, expectations_root)
        except ChangeFileError as error:
            broken[folder] = error
            blockers.setdefault(_conn_id_of_broken(folder), folder.name)
            continue
        parent = parents.get(change.conn_id)
        blocked_by = blockers.get(change.conn_id) or blockers.get(None)
        parents[change.conn_id] = _chained(change, parent.checksum if parent else None, blocked_by)
        changes.append(parents[change.conn_id])
    return Changes(root, tuple(changes), broken)


def _in_order(root: Path, broken: dict[Path, ChangeFileError]) -> list[tuple[Version, Path]]:
    """Return the folders by version; note those whose name is no version, or the version of two."""
    try:
        with os.scandir(root) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir() and entry.name[0] not in "._")
    except OSError as error:
        raise ConfigurationError(
            f"the folder of changes {root} cannot be read: {error.strerror}", hint="create it, or configure another"
        ) from error
    found: list[tuple[Version, Path]] = []
    for name in names:
        try:
            found.append((Version.split(root / name)[0], root / name))
        except ChangeFileError as error:
            broken[root / name] = error
    found.sort()
    for (version, folder), (other_version, other) in pairwise(found):
        if version == other_version:
            for one, two in ((folder, other), (other, folder)):
                broken[one] = ChangeFileError(
                    f"has the same version as {two.name}", file=str(one), hint="rename the one that was never applied"
                )
    return found


def _conn_id_of_broken(folder: Path) -> str | None:
    try:
        text = (folder / CHANGE_FILE).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    match = _CONN_ID.search(text)
    return match[1] if match else None


def _chained(change: Change, parent_checksum: str | None, blocked_by: str | None) -> Change:
    """Return the change with its checksum; behind a broken change it is one that no database ever recorded."""
    parent = f"unknown: {blocked_by} is broken" if blocked_by else parent_checksum
    return replace(change, checksum=checksum_of(change, parent), parent_checksum=parent, blocked_by=blocked_by)


def checksum_of(change: Change, parent: str | None) -> str:
    """Return the checksum of a change behind the one with the checksum ``parent``."""
    said = {key: value for key, value in change.canonical().items() if key not in _NOT_IN_CHECKSUM}
    text = json.dumps([said, parent], sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _read(folder: Path, version: Version, expectations_root: Path | None) -> Change:
    """Read and check the files of one change; it is not chained yet."""
    files = read_files(folder)
    text = {name: decoded(content, folder / name) for name, content in files.items()}
    document = parse(text.pop(CHANGE_FILE), str(folder / CHANGE_FILE))
    problems: list[Problem] = []
    spec = _spec(document, problems)
    operations = read_operations(document, folder, text, problems)
    if spec and spec.expectations:
        # include/sql/changes/<folder> has its suites in include/expectations
        root = expectations_root or folder.absolute().parent.parent.parent / "expectations"
        files[f"expectations/{spec.expectations}"] = _suite(root, spec.expectations, document, problems)
    if spec is None or problems:
        raise error_of(problems)
    return Change(
        version=version.text,
        name=folder.name.removeprefix(f"{version.text}_"),
        folder=folder,
        description=spec.description,
        conn_id=spec.conn_id,
        registry=spec.registry.value() if spec.registry else None,
        operations=operations,
        expectations=spec.expectations,
        waivers=spec.waivers,
        window=spec.window.value() if spec.window else None,
        contacts=spec.contacts,
        extensions=tuple(spec.extensions),
        surroundings=spec.surroundings(),
        files_sha256=sha256_of(files),
    )


def _spec(document: Document, problems: list[Problem]) -> ChangeFile | None:
    try:
        return ChangeFile.model_validate(document.data)
    except ValidationError as error:
        problems += problems_of(error, ChangeFile, document)
        return None


def _suite(root: Path, name: str, document: Document, problems: list[Problem]) -> bytes:
    """Return the bytes of the suite of expectations."""
    if (root / name).is_file():
        return read_bytes(root / name)
    known = [str(file.relative_to(root)) for file in root.rglob("*.y*ml")]
    near = nearest(name, known)
    hint = f"did you mean {near}?" if near else f"create {root / name}"
    problems.append(
        Problem(document.file, f"there is no suite {name}", document.line(("expectations",)), "expectations", hint)
    )
    return b""
