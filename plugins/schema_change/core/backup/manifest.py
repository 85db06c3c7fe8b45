"""The manifest of a backup: written last, so a folder without one holds no backup."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Self

from upath import UPath

from schema_change.core.backup.checksums import TableChecksum
from schema_change.core.errors import BackupError
from schema_change.core.names import Table
from schema_change.core.wording import counted

MANIFEST = "manifest.json"
FORMAT = 1


@dataclass(frozen=True, slots=True)
class BackupFile:
    """One file of a backup; ``name`` is relative to the manifest's folder."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class DayRows:
    """The file with the rows of daily views of a template, of all that have these columns (names and types).

    ``days`` are the views, each a schema and a date; a row begins with its view's.
    """

    file: str
    template: str
    columns: tuple[tuple[str, str], ...]
    days: tuple[tuple[str, str], ...]
    rows: int
    checksum: str

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read what ``dataclasses.asdict`` gave."""
        pairs = {key: tuple((name, other) for name, other in data[key]) for key in ("columns", "days")}
        return cls(**{**data, **pairs})


@dataclass(frozen=True, slots=True)
class ForeignServer:
    """The name of a foreign server and of its wrapper; options and user mappings hold secrets and are left out."""

    name: str
    wrapper: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup holds and when it was taken.

    ``tables`` are the tables whose rows are in it, as they were at ``taken_at`` (the snapshot's time), ``data_bytes``
    their size on disk, with that of ``days``. ``scope`` is ``tables`` or ``database``; the schema is always that of the
    whole database.
    ``locale`` is how the database encodes and sorts, in the words of CREATE DATABASE. ``matviews`` are the populated
    materialized views in an order to refresh them: a backup holds no rows of theirs, but of the warehouse's ``days``.
    ``roles`` own or were granted something. ``left_out`` names the objects that the backup does not have.
    ``restore_point`` is None where the user may not create one.
    """

    run_id: str
    conn_id: str
    database: str
    scope: Literal["tables", "database"]
    taken_at: datetime
    server_version: int
    client_major: int
    lsn: str
    restore_point: str | None
    files: tuple[BackupFile, ...]
    tables: tuple[TableChecksum, ...]
    data_bytes: int
    locale: Mapping[str, str | None]
    matviews: tuple[Table, ...]
    days: tuple[DayRows, ...]
    foreign_servers: tuple[ForeignServer, ...]
    roles: tuple[str, ...]
    left_out: tuple[str, ...]
    format: int = FORMAT

    @property
    def columns(self) -> dict[Table, tuple[str, ...]]:
        """Return the columns that were dumped and checksummed, by table."""
        return {t.table: t.columns for t in self.tables}

    @property
    def rows(self) -> int:
        """Return the rows of all tables."""
        return sum(t.rows for t in self.tables)

    @property
    def contents(self) -> str:
        """Say what a backup holds the rows of, for people."""
        views = sum(len(d.days) for d in self.days)
        days = f", {counted(sum(d.rows for d in self.days), 'row')} of {counted(views, 'daily view')}" if views else ""
        return f"{counted(self.rows, 'row')} of {counted(len(self.tables), 'table')}{days}"

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {
            **dataclasses.asdict(self),
            "locale": dict(self.locale),
            "taken_at": self.taken_at.isoformat(),
            "tables": [t.to_json() for t in self.tables],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_json` wrote. Raises BackupError for another format."""
        if data.get("format") != FORMAT:
            raise BackupError(
                f"the manifest has format {data.get('format')}, this release reads {FORMAT}",
                hint="restore with the release that took the backup",
            )
        return cls(
            **{
                **data,
                "taken_at": datetime.fromisoformat(data["taken_at"]),
                "files": tuple(BackupFile(**f) for f in data["files"]),
                "tables": tuple(map(TableChecksum.from_json, data["tables"])),
                "matviews": tuple(Table(**t) for t in data["matviews"]),
                "days": tuple(map(DayRows.from_json, data["days"])),
                "foreign_servers": tuple(ForeignServer(**s) for s in data["foreign_servers"]),
                "roles": tuple(data["roles"]),
                "left_out": tuple(data["left_out"]),
            }
        )


def write_manifest(folder: UPath, manifest: Manifest) -> None:
    """Write the commit marker of a backup."""
    text = json.dumps(manifest.to_json(), indent=2, ensure_ascii=False)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")


def read_manifest(folder: UPath) -> Manifest:
    """Read the manifest of a backup. Raises BackupError when the folder holds no complete backup."""
    try:
        data = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BackupError(f"{folder} holds no complete backup", hint="take the backup again") from error
    except ValueError as error:
        raise BackupError(f"{folder / MANIFEST} is damaged: {error}", hint="use another backup") from error
    return Manifest.from_json(data)
