"""Turn an Airflow connection into a target of the core."""

from __future__ import annotations

from functools import cache
from typing import Any

from airflow.providers.postgres.hooks.postgres import PostgresHook
from airflow.sdk.exceptions import AirflowNotFoundException
from psycopg import pq

from schema_change.core.database import Target
from schema_change.core.errors import ConfigurationError


class SchemaChangeHook(PostgresHook):
    """The postgres provider's hook, for the sessions of :class:`~schema_change.core.database.Target`.

    The connection is an ordinary ``postgres`` one; its schema field is the database, its extras are libpq parameters.
    """

    hook_name = "Schema change"

    def target(self) -> Target:
        """Return the target. Raises ConfigurationError when there is no such connection, or it is not PostgreSQL's."""
        conn_id = str(self.get_conn_id())
        try:
            connection = self.get_connection(conn_id)
        except AirflowNotFoundException as error:
            raise ConfigurationError(
                f"Airflow has no connection {conn_id}",
                hint=f"create it: airflow connections add {conn_id} --conn-type postgres --conn-host … --conn-schema …",
            ) from error
        if connection.conn_type not in ("postgres", "postgresql"):
            raise ConfigurationError(
                f"connection {conn_id} is of type {connection.conn_type}", hint="a target needs the type postgres"
            )
        login, password, port = connection.login, connection.password, connection.port
        extra = connection.extra_dejson
        if extra.get("iam"):
            login, password, port = self.get_iam_token(connection)
        parameters: dict[str, Any] = {name: value for name, value in extra.items() if name in _libpq_words()}
        parameters |= {
            "host": connection.host,
            "port": port,
            "user": login,
            "password": password,
            "dbname": self.database or connection.schema,
        }
        given = {name: value for name, value in parameters.items() if value not in (None, "")}
        return Target(conn_id, given).resolved()


def target_of(conn_id: str) -> Target:
    """Return the target behind a connection id."""
    return SchemaChangeHook(postgres_conn_id=conn_id).target()


@cache
def _libpq_words() -> frozenset[str]:
    return frozenset(option.keyword.decode() for option in pq.Conninfo.get_defaults())
