"""Install and upgrade schema ``schema_change`` in a target, by numbered migrations of its own."""

from __future__ import annotations

import logging
import re
from functools import cache
from pathlib import Path
from weakref import WeakSet

from psycopg import sql
from psycopg.pq import TransactionStatus

from schema_change.core import sqlfiles
from schema_change.core.database import Connection
from schema_change.core.errors import ConfigurationError

log = logging.getLogger(__name__)

_FILE = re.compile(r"(\d{3})_([a-z0-9_]+)\.sql")
_SEEN: WeakSet[Connection] = WeakSet()
_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('schema_change.registry', 0))"


@cache
def migrations() -> dict[int, Path]:
    """Return the registry's migrations by version, in order."""
    files = sorted((sqlfiles.root() / "registry").glob("*.sql"))
    return {int(match.group(1)): f for f in files if (match := _FILE.fullmatch(f.name))}


def is_installed(connection: Connection) -> bool:
    """Tell whether the registry exists in this database; once a session has seen it, it is there."""
    if connection not in _SEEN:
        row = connection.execute(sqlfiles.block("queries/journal", "is_installed")).fetchone()
        if not (row and row[0]):
            return False
        # Not from inside a transaction, which could still take it back.
        if connection.info.transaction_status == TransactionStatus.IDLE:
            _SEEN.add(connection)
    return True


def install(connection: Connection) -> list[int]:
    """Create or upgrade the registry in one transaction; return the versions applied now.

    Raises ConfigurationError when a newer release of the product has already upgraded it.
    """
    if is_installed(connection) and not _pending(connection):
        return []
    with connection.transaction():
        connection.execute(_LOCK)
        connection.execute(sqlfiles.block("queries/journal", "create_home"))
        pending = _pending(connection)
        for version in pending:
            file = migrations()[version]
            connection.execute(sql.SQL(file.read_text(encoding="utf-8")))
            connection.execute(
                sqlfiles.block("queries/journal", "record_version"), {"version": version, "name": file.stem}
            )
    log.info("registry schema_change is now at version %s", max(migrations()))
    return pending


def _pending(connection: Connection) -> list[int]:
    rows = connection.execute(sqlfiles.block("queries/journal", "installed_versions")).fetchall()
    installed = {int(row[0]) for row in rows}
    if unknown := installed - set(migrations()):
        raise ConfigurationError(
            f"the registry in this database is at version {max(unknown)}, newer than this release knows",
            hint="upgrade airflow-provider-schema-change here",
        )
    return [version for version in migrations() if version not in installed]
