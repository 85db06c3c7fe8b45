"""Load a backup into an empty database with pg_restore, in parallel, and compare it with the manifest."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from psycopg import sql
from psycopg.conninfo import make_conninfo

from schema_change.core import sqlfiles
from schema_change.core.backup import programs
from schema_change.core.backup.checksums import checksums, differences
from schema_change.core.backup.dump import DUMP, LARGE_OBJECTS
from schema_change.core.backup.manifest import Manifest
from schema_change.core.binaries import Installation, client_for
from schema_change.core.database import Target
from schema_change.core.errors import BackupError
from schema_change.core.wording import counted

_PUBLIC = re.compile(r"^\d+; \d+ \d+ SCHEMA - public (?P<owner>.+)$")
#: A scratch copy does without them, a whole restore refreshes them once foreign servers are set up.
_REFRESH = re.compile(r"^\d+; \d+ \d+ MATERIALIZED VIEW DATA ")
_RIGHTS = re.compile(r"^\d+; \d+ \d+ (DEFAULT )?ACL ")
_FIRST = re.compile(r"^\d+; \d+ \d+ (SCHEMA|EXTENSION) - ")
#: Nothing is lost when a crash loses the last commits of a database nobody uses yet.
_OPTIONS = "-c synchronous_commit=off -c statement_timeout=0 -c lock_timeout=0"


@dataclass(frozen=True, slots=True)
class Loader:
    """pg_restore of one backup into one database.

    Without ``owners`` everything belongs to the connecting user and nothing is granted to anybody.
    """

    database: Target
    client: Installation
    environment: Mapping[str, str]
    owners: bool

    def restore(self, file: Path, *flags: str) -> None:
        """Restore a part of a dump; the first error ends it. Raises BackupError."""
        rights = [] if self.owners else ["--no-owner", "--no-privileges"]
        target = f"--dbname={make_conninfo('', dbname=self.database.database)}"
        tool = self.client.tool("pg_restore")
        programs.run([tool, "--exit-on-error", "--no-password", *rights, *flags, target, str(file)], self.environment)

    def contents(self, file: Path) -> list[str]:
        """Return the table of contents of a dump, one entry per line."""
        listing = programs.run([self.client.tool("pg_restore"), "--list", str(file)], self.environment).decode()
        return [line for line in listing.splitlines() if line and not line.startswith(";")]


def load(database: Target, manifest: Manifest, folder: Path, *, owners: bool, note: Callable[[str], None]) -> None:
    """Fill an empty database from a local folder of verified files; compare rows and checksums with the manifest.

    Foreign servers are created without options when the database has none of that name. Rows go in before keys and
    triggers exist, so no trigger fires and no order of tables matters. Raises BackupError.
    """
    with database.connect("restore") as session:
        server = session.info.server_version
    if server // 10000 < manifest.server_version // 10000:
        raise BackupError(
            f"a backup of PostgreSQL {manifest.server_version // 10000} is not restored on version {server // 10000}",
            hint=f"use a server of version {manifest.server_version // 10000} or newer",
        )
    client = client_for(max(server, manifest.client_major * 10000))
    if client.major > server // 10000:
        note(f"pg_restore {client.major} is newer than the server; if it fails, install version {server // 10000}")
    with database.client_environment() as environment, tempfile.TemporaryDirectory(prefix="schema_change_") as scratch:
        loader = Loader(database, client, {**environment, "PGOPTIONS": _OPTIONS}, owners)
        dump = folder / DUMP
        entries = loader.contents(dump)
        _settle_public(database, entries, owners=owners)
        rest = [e for e in entries if not _PUBLIC.match(e) and not _REFRESH.match(e)]
        if manifest.foreign_servers:
            loader.restore(dump, "--use-list", _list(scratch, "first", [e for e in rest if _FIRST.match(e)]))
            _stub_servers(database, manifest)
            rest = [e for e in rest if not _FIRST.match(e)]
        bulk = [e for e in rest if not _RIGHTS.match(e)]
        loader.restore(dump, f"--jobs={programs.jobs()}", "--use-list", _list(scratch, "bulk", bulk))
        # One after the other: who grants on by a grant option needs those that come before, also on the schema.
        if rights := [e for e in rest if _RIGHTS.match(e)]:
            loader.restore(dump, "--use-list", _list(scratch, "rights", rights))
        if any(file.name == LARGE_OBJECTS for file in manifest.files):
            loader.restore(folder / LARGE_OBJECTS)
    note(f"{database.database}: {counted(manifest.rows, 'row')} restored")
    with database.connect("restore") as session:
        found = checksums(session, [t.table for t in manifest.tables], manifest.columns)
        if unequal := differences(manifest.tables, found):
            raise BackupError(
                f"the restored copy {database.database} differs from the backup: {'; '.join(unequal)}",
                hint="do not use this backup; take another one and compare client and server versions",
            )
    tables = counted(len(found), "table")
    note(f"{database.database}: the rows and checksums of {tables} are those of the backup")


def _list(folder: str, name: str, entries: list[str]) -> str:
    path = Path(folder) / name
    path.write_text("\n".join(entries) + "\n", encoding="utf-8")
    return str(path)


def _settle_public(database: Target, entries: list[str], *, owners: bool) -> None:
    """Keep the new database's own schema public: grants in a dump are relative to it. Drop it where it was dropped."""
    owner = next((match["owner"] for e in entries if (match := _PUBLIC.match(e))), None)
    with database.connect("restore") as session:
        if owner is None:
            session.execute("DROP SCHEMA public")
        elif owners and owner != "pg_database_owner":
            session.execute(sql.SQL("ALTER SCHEMA public OWNER TO {}").format(sql.Identifier(owner)))


def _stub_servers(database: Target, manifest: Manifest) -> None:
    with database.connect("restore") as session:
        names = [s.wrapper for s in manifest.foreign_servers]
        missing = session.execute(sqlfiles.block("queries/backup", "missing_wrappers"), {"names": names}).fetchall()
        statements = [sql.SQL("CREATE FOREIGN DATA WRAPPER {}").format(sql.Identifier(row[0])) for row in missing] + [
            sql.SQL("CREATE SERVER IF NOT EXISTS {} FOREIGN DATA WRAPPER {}").format(
                sql.Identifier(s.name), sql.Identifier(s.wrapper)
            )
            for s in manifest.foreign_servers
        ]
        session.execute(sql.SQL(";\n").join(statements))
