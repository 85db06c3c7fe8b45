"""Targets and connections: the only place that opens a session on a database."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psycopg
from psycopg import conninfo, pq
from psycopg.rows import TupleRow

from schema_change.core.errors import ConfigurationError

Connection = psycopg.Connection[TupleRow]

#: What every session carries. A killed client must not leave its statement running: the server looks every 2 s.
#: Sent as statements, not as start-up options, which poolers refuse.
_GUARDS = {
    "client_connection_check_interval": "2s",
    "lock_timeout": "3s",
    "idle_in_transaction_session_timeout": "0",
    "search_path": "",
    # The text of SQL means what our parser reads in it, and names look as we compare them, whatever the database sets.
    "standard_conforming_strings": "on",
    "quote_all_identifiers": "off",
}


@dataclass(frozen=True)
class Target:
    """A database to change: a name to show, and libpq parameters, which are never shown.

    ``conn_id`` is the name used in change files, in Airflow and in the journal.
    """

    conn_id: str
    parameters: Mapping[str, Any] = field(repr=False)

    @classmethod
    def from_dsn(cls, conn_id: str, dsn: str) -> Target:
        """Read a libpq connection string or URL."""
        return cls(conn_id, conninfo.conninfo_to_dict(dsn))

    @property
    def database(self) -> str:
        """Return the name of the database."""
        return str(self.parameters.get("dbname") or self.parameters.get("user") or "")

    def with_database(self, database: str) -> Target:
        """Return the same server and user with another database."""
        return replace(self, parameters={**self.parameters, "dbname": database})

    def resolved(self) -> Target:
        """Return the target with what libpq would take from PG… variables or a service file written out."""
        if "service" in self.parameters or os.environ.get("PGSERVICE"):
            with self.connect("resolve") as connection:
                found: dict[str, Any] = dict(connection.info.get_parameters())
                if connection.info.password:
                    found["password"] = connection.info.password
            own = {"service", "servicefile", "application_name", "connect_timeout", "keepalives_idle"}
            return replace(self, parameters={k: v for k, v in found.items() if k not in own})
        defaults = {
            option.keyword.decode(): option.val.decode()
            for option in pq.Conninfo.get_defaults()
            if option.envvar and option.val and os.environ.get(option.envvar.decode())
        }
        return replace(self, parameters={**defaults, **self.parameters})

    def connect(self, purpose: str, *, read_only: bool = False) -> Connection:
        """Open an autocommit session with the guards every session of ours carries.

        ``purpose`` ends up in ``application_name``. Raises ConfigurationError when the server cannot be reached.
        """
        guards = {**_GUARDS, "default_transaction_read_only": "on" if read_only else "off"}
        parameters = {
            "connect_timeout": 10,
            "keepalives_idle": 30,
            **self.parameters,
            "application_name": f"schema_change:{purpose}"[:63],
        }
        try:
            connection = psycopg.connect(**parameters, autocommit=True)
            connection.execute(
                "SELECT set_config(name, setting, false) FROM unnest(%s::text[], %s::text[]) AS g(name, setting)",
                [list(guards), list(guards.values())],
            )
        except psycopg.OperationalError as error:
            failure = ConfigurationError(
                f"cannot connect to {self.conn_id} (database {self.database}): {str(error).strip()}",
                hint="check the connection's host, port, user, password and that the server accepts connections",
            )
            failure.retryable = True  # a server that restarts looks like this
            raise failure from error
        return connection

    def refuse_pooler(self, connection: Connection) -> None:
        """Raise ConfigurationError when a pooler in transaction mode stands between us and the server.

        Session locks, SET and temporary state do not survive such a pooler. A pooler sends a process id of its own,
        also to ``connection``; then each of two sessions must keep a server process to itself, whoever is asked in
        between.
        """
        if _server_process(connection) == connection.info.backend_pid:
            return
        with self.connect("pooler-check") as first, self.connect("pooler-check") as second:
            # One is asked twice in a row: a pool that hands out two server processes in turns gives itself away.
            asked = {(session, _server_process(session)) for session in (first, second, second) * 3}
            if len(asked) != 2 or len({process for _, process in asked}) != 2:
                raise ConfigurationError(
                    f"{self.conn_id} is reached through a pooler in transaction mode",
                    hint="point the connection at the server itself, or at a pool in session mode",
                )

    @contextlib.contextmanager
    def client_environment(self) -> Iterator[dict[str, str]]:
        """Yield an environment for libpq's command-line tools; the password is in a private file, not in argv."""
        names = {
            "host": "PGHOST",
            "port": "PGPORT",
            "user": "PGUSER",
            "dbname": "PGDATABASE",
            "sslmode": "PGSSLMODE",
            "sslrootcert": "PGSSLROOTCERT",
            "sslcert": "PGSSLCERT",
            "sslkey": "PGSSLKEY",
            "passfile": "PGPASSFILE",
        }
        # A service would win over PGDATABASE, and a scratch database be mistaken for the target: see resolved().
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
        environment |= {env: str(self.parameters[key]) for key, env in names.items() if self.parameters.get(key)}
        environment["PGAPPNAME"] = "schema_change:client"
        with tempfile.TemporaryDirectory(prefix="schema_change_") as folder:
            if password := self.parameters.get("password"):
                passfile = Path(folder) / "pgpass"
                passfile.touch(mode=0o600)
                escaped = str(password).replace("\\", "\\\\").replace(":", "\\:")
                passfile.write_text(f"*:*:*:*:{escaped}\n", encoding="utf-8")
                environment["PGPASSFILE"] = str(passfile)
            yield environment


def _server_process(connection: Connection) -> int:
    # A statement prepared behind such a pooler is not there the next time.
    row = connection.execute("SELECT pg_backend_pid()", prepare=False).fetchone()
    assert row is not None  # noqa: S101 - a SELECT without FROM gives one row
    return int(row[0])


def server_version(connection: Connection) -> int:
    """Return the server's version as one number, such as 180006."""
    return connection.info.server_version


@contextlib.contextmanager
def pipelined(connection: Connection) -> Iterator[None]:
    """Run a transaction in pipeline mode: it begins with its first statement and is committed with its last one.

    ``Connection.transaction`` in a pipeline would wait for the answer to each of both. A statement whose answer is
    wanted before the end is fetched from, or runs in a pipeline of its own inside this one.
    """
    try:
        with connection.pipeline():
            connection.execute("BEGIN")
            yield
            connection.execute("COMMIT")
    except BaseException:
        if not connection.closed:
            connection.rollback()
        raise


def terminate_quietly(connection: Connection) -> None:
    """Cancel what a session runs and close it; used when a task is killed."""
    with contextlib.suppress(psycopg.Error):
        connection.cancel_safe(timeout=5)
    connection.close()
