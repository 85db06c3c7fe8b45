"""Install, upgrade and verify schema ``_wh``, the toolkit of the template warehouse (``include/sql/warehouse``)."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg
from psycopg import sql

from schema_change.core import sqlfiles
from schema_change.core.database import Connection
from schema_change.core.errors import ConfigurationError, ExecutionError
from schema_change.core.execution.statements import message_of

#: What the files make. Counts up with every release that changes one of them.
VERSION = 1

_Functions = dict[str, str]


@dataclass(frozen=True, slots=True)
class Installed:
    """What of the toolkit is in a database. ``differences`` are functions that are missing, or not ours any more."""

    version: int | None
    differences: tuple[str, ...]

    @property
    def is_complete(self) -> bool:
        """Tell whether everything is there as this release makes it."""
        return self.version == VERSION and not self.differences


def install(connection: Connection) -> bool:
    """Make or upgrade the toolkit in one transaction; tell whether anything was to be done.

    Raises ConfigurationError for a warehouse with functions of its own, which is used as it is, and for one that a
    newer release has upgraded; ExecutionError when a statement is refused.
    """
    if verify(connection).is_complete:
        return False
    with connection.transaction():
        _run_files(connection)
        connection.execute(_block("record_version"), {"version": VERSION})
    return True


def verify(connection: Connection) -> Installed:
    """Compare what is installed with what this release makes; nothing is changed. See :func:`install` for errors."""
    version = _version(connection)
    if version is None and (others := _functions(connection)):
        raise ConfigurationError(
            f"schema _wh has functions that are not the toolkit's, such as {min(others)}",
            hint="it is a warehouse of its own: the warehouse DAGs use what it has; nothing is to be installed",
        )
    if version is not None and version > VERSION:
        raise ConfigurationError(
            f"the toolkit in this database is version {version}, newer than this release knows ({VERSION})",
            hint="upgrade airflow-provider-schema-change here",
        )
    if version is None:
        return Installed(None, ())
    found = _functions(connection)
    with connection.transaction(force_rollback=True):
        _run_files(connection)
        made = _functions(connection)
    missing = (f"{name} is missing" for name in made if name not in found)
    changed = (f"{name} is not as it was installed" for name in made if name in found and found[name] != made[name])
    return Installed(version, tuple(sorted([*missing, *changed])))


def _run_files(connection: Connection) -> None:
    connection.execute(_block("lock"))
    for file in sorted((sqlfiles.root() / "warehouse").glob("[0-9]*.sql")):
        try:
            connection.execute(sql.SQL(file.read_text(encoding="utf-8")))
        except psycopg.Error as error:
            raise ExecutionError(
                f"warehouse/{file.name}: {message_of(error)} (SQLSTATE {error.sqlstate})",
                hint="nothing was changed; roles, dblink and schema _wh need a superuser, or what the message names",
            ) from error


def _version(connection: Connection) -> int | None:
    row = connection.execute(_block("is_installed")).fetchone()
    if row is None or row[0] is None:
        return None
    return int(connection.execute(_block("version")).fetchone()[0])  # type: ignore[index] # an aggregate


def _functions(connection: Connection) -> _Functions:
    return dict(connection.execute(_block("functions")).fetchall())


def _block(name: str) -> sql.SQL:
    return sqlfiles.block("warehouse/toolkit", name)
