"""What a whole restore carries over from the live database, and the rename that puts the copy in its place."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from schema_change.core import sqlfiles
from schema_change.core.backup import programs
from schema_change.core.backup.load import Loader
from schema_change.core.backup.manifest import Manifest
from schema_change.core.binaries import client_for
from schema_change.core.database import Connection, Target
from schema_change.core.errors import BackupError
from schema_change.core.names import Table
from schema_change.core.recipes.rows import HOME

#: Seconds for which a session that was closed just now may still be seen by the server.
_LEAVING_S = 2.0
#: What a manifest lists as left out and the live database still has.
CARRIED = ("options of foreign server ", "user mapping of ")


def maintenance(target: Target) -> Target:
    """Return another database of the server: one that is renamed cannot be connected to."""
    return target.with_database("template1" if target.database == "postgres" else "postgres")


def refuse_sessions(admin: Connection, database: str, *, spared: Connection | None = None) -> None:
    """Raise BackupError, naming them, when sessions (other than the spared one) are on a database and stay there."""
    deadline = time.monotonic() + _LEAVING_S
    while rows := admin.execute(sqlfiles.block("queries/backup", "other_sessions"), _on(database, spared)).fetchall():
        if time.monotonic() < deadline:
            time.sleep(0.05)
            continue
        who = ", ".join(f"{row[1]} (pid {row[0]}, {row[2] or 'no application name'})" for row in rows[:10])
        raise BackupError(
            f"{len(rows)} sessions are on {database}, which cannot be renamed then: {who}",
            hint="stop the applications first, or allow their sessions to be terminated",
        )


def _on(database: str, spared: Connection | None) -> dict[str, Any]:
    return {"name": database, "spared": [spared.info.backend_pid] if spared and not spared.closed else []}


def carry_foreign_access(live: Target, copy: Target) -> list[str]:
    """Give foreign servers their options, owners, grants and user mappings; return what could not be given.

    The secrets go from session to session and nowhere else.
    """
    with live.connect("restore", read_only=True) as session:
        servers = session.execute(sqlfiles.block("queries/backup", "foreign_access")).fetchall()
    notices: list[str] = []
    with copy.connect("restore") as session:
        for (server,) in servers:
            try:
                session.execute(sql.SQL(";\n").join(_server(server)))
            except psycopg.Error as error:
                # Not the message: it could quote a statement with a secret in it.
                notices.append(f"foreign server {server['name']} must be set up again (SQLSTATE {error.sqlstate})")
    return notices


def _server(found: Mapping[str, Any]) -> Iterator[sql.Composed]:
    server = sql.Identifier(found["name"])
    if found["version"] is not None:
        yield sql.SQL("ALTER SERVER {} VERSION {}").format(server, sql.Literal(found["version"]))
    if found["options"]:
        yield sql.SQL("ALTER SERVER {} OPTIONS ({})").format(server, _options(found["options"], sql.SQL("ADD ")))
    for grant in found["grants"]:
        option = sql.SQL(" WITH GRANT OPTION" if grant["grantable"] else "")
        yield sql.SQL("GRANT USAGE ON FOREIGN SERVER {} TO {}{}").format(server, _grantee(grant["grantee"]), option)
    for mapping in found["mappings"]:
        options = mapping["options"]
        given = sql.SQL(" OPTIONS ({})").format(_options(options, sql.SQL(""))) if options else sql.SQL("")
        yield sql.SQL("CREATE USER MAPPING FOR {} SERVER {}{}").format(_grantee(mapping["user"]), server, given)
    yield sql.SQL("ALTER SERVER {} OWNER TO {}").format(server, sql.Identifier(found["owner"]))


def _grantee(role: str | None) -> sql.Composable:
    return sql.SQL("PUBLIC") if role is None else sql.Identifier(role)


def _options(options: Mapping[str, str], verb: sql.SQL) -> sql.Composed:
    return sql.SQL(", ").join(
        sql.SQL("{}{} {}").format(verb, sql.Identifier(name), sql.Literal(value)) for name, value in options.items()
    )


def refresh(copy: Target, manifest: Manifest) -> list[str]:
    """Populate the materialized views that held rows and have none; return those that could not be, with the reason."""
    notices: list[str] = []
    with copy.connect("restore") as session:
        # A view's functions may rely on the database's own search_path.
        session.execute("RESET search_path")
        rows = session.execute(sqlfiles.block("queries/backup", "matviews")).fetchall()
        filled = {Table(schema, name) for schema, name, is_populated in rows if is_populated}
        for view in (v for v in manifest.matviews if v not in filled):
            try:
                session.execute(sql.SQL("REFRESH MATERIALIZED VIEW {}").format(view.identifier))
            except psycopg.Error as error:
                notices.append(f"materialized view {view} is not populated: {str(error).strip()}")
    return notices


def swap(admin: Connection, target: Target, new: str, kept: str, *, terminate: bool) -> list[str]:
    """Carry our schemas to the copy and rename both databases, with no journal entry lost in between.

    Returns what of the dropped data that is kept could not be carried.
    The journal is locked while it is copied, until the rename holds the database: from then on nobody can connect, and
    whoever waits to write to the journal gets an error instead of a lost entry. A crash at any point leaves the
    databases under their old names or under their new ones.
    """
    live = target.connect("restore")
    with maintenance(target).connect("restore") as watcher, ThreadPoolExecutor(1) as pool:
        try:
            live.execute("BEGIN")
            notices = _carry_registry(live, target, target.with_database(new))
            if not terminate:
                refuse_sessions(watcher, target.database, spared=live)
            renaming = pool.submit(_rename, admin, target.database, new, kept)
            while not renaming.done():
                _make_way(watcher, live, target.database, terminate=terminate)
                wait([renaming], timeout=0.05)
            renaming.result()
        finally:
            live.close()
    return notices


def _rename(admin: Connection, old: str, new: str, kept: str) -> None:
    # RENAME locks the database against new sessions, then waits up to five seconds for the others to leave.
    rename = sql.SQL("ALTER DATABASE {} RENAME TO {}")
    with admin.transaction():
        admin.execute(rename.format(sql.Identifier(old), sql.Identifier(kept)))
        admin.execute(rename.format(sql.Identifier(new), sql.Identifier(old)))


def _make_way(watcher: Connection, live: Connection, database: str, *, terminate: bool) -> None:
    """End the other sessions, and ours once nobody can connect any more."""
    closed = watcher.execute(sqlfiles.block("queries/backup", "is_locked"), {"name": database}).fetchone()
    if terminate:
        watcher.execute(sqlfiles.block("queries/backup", "terminate_sessions"), _on(database, live))
    if closed and closed[0]:
        live.close()


def _carry_registry(live: Connection, target: Target, copy: Target) -> list[str]:
    """Restore our schemas into the copy; their tables stay locked against writes until ``live`` closes.

    What is kept of dropped tables can be made of things that the copy, which is older, does not have: it then stays in
    the old database, which is said.
    """
    tables = live.execute(sqlfiles.block("queries/backup", "our_tables")).fetchall()
    if not tables:
        return []
    names = sql.SQL(", ").join(sql.Identifier(row[0], row[1]) for row in tables)
    live.execute(sql.SQL("LOCK TABLE {} IN SHARE MODE").format(names))
    client = client_for(live.info.server_version)
    with tempfile.TemporaryDirectory(prefix="schema_change_") as folder, target.client_environment() as environment:
        loader = Loader(copy, client, environment, owners=True)

        def carry(schema: str, *flags: str) -> None:
            file = Path(folder) / f"{schema}.dump"
            selection = ["--format=custom", "--no-password", f"--schema={schema}", f"--file={file}"]
            programs.run([client.tool("pg_dump"), *selection], environment)
            loader.restore(file, *flags)

        carry("schema_change")
        found = live.execute(sqlfiles.block("queries/retention", "is_there")).fetchone()
        if not found or not found[0]:
            return []
        try:
            # All or nothing: half a table would look like the whole.
            carry(HOME, "--single-transaction")
        except BackupError as error:
            with copy.connect("restore") as session:
                session.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(HOME)))
                session.execute(sqlfiles.block("queries/retention", "nothing_is_kept"))
            return [f"dropped data that is kept in schema {HOME} could not be carried over: {error.message}"]
    return []
