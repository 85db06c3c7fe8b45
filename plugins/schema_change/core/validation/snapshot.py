"""One snapshot for all queries of a run, and the engine options that make Great Expectations read from it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
import psycopg2
import psycopg2.extensions
import sqlalchemy as sa
from psycopg import sql
from sqlalchemy import event

from schema_change.core import sqlfiles
from schema_change.core.database import Target
from schema_change.core.names import Table

#: Names the driver; what connects is ``creator``, so that no URL ever holds a password.
URL = "postgresql+psycopg2://user@target/database"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An exported snapshot, and the primary key of every table of the run that exists (empty when it has none)."""

    id: str
    keys: Mapping[Table, tuple[str, ...]]


@contextlib.contextmanager
def exported(target: Target, tables: Sequence[Table]) -> Iterator[Snapshot]:
    """Hold a read-only transaction whose snapshot other sessions can take, for as long as the block runs."""
    with target.connect("validate", read_only=True) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        with connection.transaction():
            row = connection.execute(sqlfiles.block("queries/quality", "export_snapshot")).fetchone()
            keys = connection.execute(
                sqlfiles.block("queries/quality", "primary_keys"),
                {"schemas": [t.schema for t in tables], "names": [t.name for t in tables]},
            ).fetchall()
            yield Snapshot(str(row[0]) if row else "", {Table(k[0], k[1]): tuple(k[2]) for k in keys})


def creator(target: Target, statement_timeout_s: int) -> Callable[[], psycopg2.extensions.connection]:
    """Return a function that opens a read-only session of psycopg2 with the guards of a validation.

    ``search_path`` stays the role's own: the operators of an extension's types (citext, PostGIS) are found by it alone.
    """
    guards = {
        "statement_timeout": f"{statement_timeout_s}s",
        "lock_timeout": "5s",
        "idle_in_transaction_session_timeout": "0",
        "client_connection_check_interval": "2s",
        "standard_conforming_strings": "on",
    }
    statement = sqlfiles.block("queries/quality", "set_guards").as_string(None)
    parameters = {"connect_timeout": 10, "keepalives_idle": 30, **target.parameters}
    parameters["application_name"] = "schema_change:validate"

    def connect() -> psycopg2.extensions.connection:
        connection: psycopg2.extensions.connection = psycopg2.connect(**parameters)
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute(statement, {"names": list(guards), "settings": list(guards.values())})
            connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
        except psycopg2.Error:
            connection.close()
            raise
        return connection

    return connect


class Watch:
    """Keep an engine inside the snapshot, send no failed statement twice, and count what is sent.

    Great Expectations computes a failing metric three times, so that a time-out of ten minutes costs half an hour.
    """

    def __init__(self, engine: sa.Engine, snapshot: Snapshot) -> None:
        self.sent = 0
        self._failed: dict[tuple[str, str], BaseException] = {}
        self._statement = sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(snapshot.id)).as_string(None)
        event.listen(engine, "begin", self._begin)
        event.listen(engine, "before_cursor_execute", self._before)
        event.listen(engine, "handle_error", self._failure)

    def _begin(self, connection: sa.Connection) -> None:
        connection.exec_driver_sql(self._statement)

    def _before(self, _connection: sa.Connection, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if earlier := self._failed.get((statement, repr(parameters))):
            raise earlier
        self.sent += statement != self._statement

    def _failure(self, context: sa.engine.ExceptionContext) -> None:
        raised = context.sqlalchemy_exception or context.original_exception
        if context.statement:
            self._failed.setdefault((context.statement, repr(context.parameters)), raised)
