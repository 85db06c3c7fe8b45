"""Find the database a command works on: ``--target``, or the same ``AIRFLOW_CONN_…`` setting that Airflow reads."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import psycopg
from psycopg import conninfo, pq

from schema_change.core.database import Target
from schema_change.core.errors import ConfigurationError

_SECRETS = frozenset({"password", "sslpassword"})
_CONN_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_TYPES = frozenset({"postgres", "postgresql"})


def is_conn_id(text: str) -> bool:
    """Tell whether a target was given as the id of a connection."""
    return _CONN_ID.fullmatch(text) is not None


def resolve(conn_id: str, given: str | None) -> Target:
    """Return the target named ``conn_id``.

    ``given`` is ``service=<name>``, a connection URL without a password, or another connection id; without it the
    connection id itself is looked up in the environment. Raises ConfigurationError.
    """
    if given is not None and not is_conn_id(given):
        return Target(conn_id, _from_argument(given)).resolved()
    return Target(conn_id, _from_environment(given or conn_id)).resolved()


def _from_argument(text: str) -> dict[str, Any]:
    """Read a connection string. It is in no error: it may hold a password all the same."""
    try:
        parameters = conninfo.conninfo_to_dict(text)
    except psycopg.ProgrammingError:
        raise ConfigurationError(
            "the target is neither a connection string nor a URL",
            hint="write service=<name>, postgresql://user@host/database, or the id of a connection",
        ) from None
    if _SECRETS & set(parameters):
        raise ConfigurationError(
            "a password on the command line can be read by everybody on this machine",
            hint="leave it out and set PGPASSWORD, use a passfile, or set AIRFLOW_CONN_<ID> and name no target",
        )
    return parameters


def _from_environment(conn_id: str) -> dict[str, Any]:
    variable = f"AIRFLOW_CONN_{conn_id.upper()}"
    text = os.environ.get(variable, "").strip()
    if not text:
        raise ConfigurationError(
            f"no target: {variable} is not set",
            hint="set it (a URL or JSON, as for Airflow), or give --target service=<name> or --target postgresql://…",
        )
    try:
        found = _of_json(json.loads(text)) if text.startswith("{") else _of_url(text)
    except (KeyError, ValueError, TypeError, AttributeError):
        raise ConfigurationError(
            f"{variable} cannot be read as a connection", hint="write a URL or JSON, as for Airflow"
        ) from None
    kind = found.pop("conn_type")
    if kind not in _TYPES:
        raise ConfigurationError(f"{variable} is of type {kind}", hint="a target needs the type postgres")
    return {name: value for name, value in found.items() if value not in (None, "")}


def _of_json(data: Mapping[str, Any]) -> dict[str, Any]:
    extra = data.get("extra") or {}
    return _parameters(
        conn_type=data["conn_type"],
        extra=json.loads(extra) if isinstance(extra, str) else extra,
        host=data.get("host"),
        port=data.get("port"),
        user=data.get("login"),
        password=data.get("password"),
        dbname=data.get("schema"),
    )


def _of_url(text: str) -> dict[str, Any]:
    url = urlsplit(text)
    extra: dict[str, Any] = dict(parse_qsl(url.query, keep_blank_values=True))
    if "__extra__" in extra:
        extra = json.loads(extra["__extra__"])
    # The host keeps its case, which urlsplit's does not: it can be the folder of a socket.
    host = url.netloc.rpartition("@")[2]
    host = host.partition("]")[0].removeprefix("[") if host.startswith("[") else host.partition(":")[0]
    return _parameters(
        conn_type=url.scheme,
        extra=extra,
        host=unquote(host),
        port=url.port,
        user=unquote(url.username or ""),
        password=unquote(url.password or ""),
        dbname=unquote(url.path.removeprefix("/")),
    )


def _parameters(*, conn_type: str, extra: Mapping[str, Any], **parameters: Any) -> dict[str, Any]:
    """Return libpq's parameters; of the extras those that are such, as Airflow's hook does."""
    words = {option.keyword.decode() for option in pq.Conninfo.get_defaults()}
    return {"conn_type": conn_type, **{k: v for k, v in extra.items() if k in words}, **parameters}
