"""Create a database that encodes, sorts and is set up like another one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg import sql

from schema_change.core import sqlfiles
from schema_change.core.database import Connection
from schema_change.core.errors import BackupError

#: Settings that are lists: their stored value is a list of quoted names, not one literal.
_LISTS = {"search_path", "temp_tablespaces", "local_preload_libraries", "session_preload_libraries"}
_PROVIDERS = {"c": "libc", "i": "icu", "b": "builtin"}
_OPTIONS = {
    "encoding": sql.SQL("ENCODING"),
    "lc_collate": sql.SQL("LC_COLLATE"),
    "lc_ctype": sql.SQL("LC_CTYPE"),
    "locale_provider": sql.SQL("LOCALE_PROVIDER"),
    "icu_locale": sql.SQL("ICU_LOCALE"),
    "icu_rules": sql.SQL("ICU_RULES"),
    "builtin_locale": sql.SQL("BUILTIN_LOCALE"),
}
_PRIVILEGES = {"CREATE": sql.SQL("CREATE"), "CONNECT": sql.SQL("CONNECT"), "TEMPORARY": sql.SQL("TEMPORARY")}
_ITEM = re.compile(r'"((?:[^"]|"")*)"|([^,\s][^,]*)')


def properties(connection: Connection, name: str) -> dict[str, Any]:
    """Return a row of pg_database with owner, encoding, tablespace, comment, grants and settings as names."""
    row = connection.execute(sqlfiles.block("queries/backup", "database_properties"), {"name": name}).fetchone()
    if row is None:
        raise BackupError(f"database {name} does not exist", hint="check the connection's database")
    return dict(row[0])


def locale_of(connection: Connection, name: str) -> dict[str, str | None]:
    """Return the options of CREATE DATABASE that give the same encoding and sort order."""
    found = properties(connection, name)
    provider = _PROVIDERS[found["datlocprovider"]]
    locale = found.get("datlocale") or found.get("daticulocale")
    return {
        "encoding": found["encoding"],
        "lc_collate": found["datcollate"],
        "lc_ctype": found["datctype"],
        "locale_provider": provider,
        "icu_locale": locale if provider == "icu" else None,
        "icu_rules": found.get("daticurules"),
        "builtin_locale": locale if provider == "builtin" else None,
    }


def create(connection: Connection, name: str, locale: Mapping[str, str | None], comment: str) -> None:
    """Create an empty database. Raises BackupError when the user may not, or the server lacks the locale."""
    allowed = connection.execute(sqlfiles.block("queries/backup", "may_create_databases")).fetchone()
    if not allowed or not allowed[0]:
        who = allowed[2] if allowed else "this user"
        raise BackupError(
            f"{who} may not create databases on {connection.info.host}:{connection.info.port}",
            hint=f"ALTER ROLE {who} CREATEDB, or configure a scratch connection whose user may",
        )
    options = [sql.SQL("{} = {}").format(_OPTIONS[key], sql.Literal(value)) for key, value in locale.items() if value]
    statement = sql.SQL("CREATE DATABASE {} TEMPLATE template0 {}")
    try:
        connection.execute(statement.format(sql.Identifier(name), sql.SQL(" ").join(options)))
    except psycopg.Error as error:
        raise BackupError(
            f"cannot create database {name}: {str(error).strip()}",
            hint="the server needs the same locale, room on disk, and nobody using template0",
        ) from error
    describe(connection, name, comment)


def describe(connection: Connection, name: str, comment: str) -> None:
    """Say on a database what it is."""
    connection.execute(sql.SQL("COMMENT ON DATABASE {} IS {}").format(sql.Identifier(name), sql.Literal(comment)))


def carry_properties(connection: Connection, found: Mapping[str, Any], name: str) -> None:
    """Give a database the owner, tablespace, comment, connection limit, grants and settings found on another."""
    database = sql.Identifier(name)
    owner, tablespace = sql.Identifier(found["owner"]), found["tablespace"]
    if tablespace != "pg_default":
        move = sql.SQL("ALTER DATABASE {} SET TABLESPACE {}")
        connection.execute(move.format(database, sql.Identifier(tablespace)))
    statements = [
        sql.SQL("ALTER DATABASE {} OWNER TO {}").format(database, owner),
        sql.SQL("ALTER DATABASE {} CONNECTION LIMIT {}").format(database, sql.Literal(found["datconnlimit"])),
        sql.SQL("COMMENT ON DATABASE {} IS {}").format(database, sql.Literal(found["comment"])),
        *_grants(database, found["grants"]),
        *(_setting(database, s["role"], s["setting"]) for s in found["settings"]),
    ]
    connection.execute(sql.SQL(";\n").join(statements))


def _grants(database: sql.Identifier, grants: list[dict[str, Any]] | None) -> list[sql.Composed]:
    if grants is None:
        return []
    statements = [sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(database)]
    for grant in grants:
        grantee = sql.SQL("PUBLIC") if grant["grantee"] is None else sql.Identifier(grant["grantee"])
        option = sql.SQL(" WITH GRANT OPTION" if grant["grantable"] else "")
        privilege = _PRIVILEGES[grant["privilege"]]
        statements.append(sql.SQL("GRANT {} ON DATABASE {} TO {}{}").format(privilege, database, grantee, option))
    return statements


def _setting(database: sql.Identifier, role: str | None, setting: str) -> sql.Composed:
    name, _, value = setting.partition("=")
    whom = sql.SQL("DATABASE {}").format(database)
    if role is not None:
        whom = sql.SQL("ROLE {} IN DATABASE {}").format(sql.Identifier(role), database)
    values = list_items(value) if name.lower() in _LISTS else [value]
    return sql.SQL("ALTER {} SET {} TO {}").format(
        whom, sql.Identifier(*name.split(".")), sql.SQL(", ").join(map(sql.Literal, values or [""]))
    )


def list_items(value: str) -> list[str]:
    """Split a list setting such as ``"$user", public`` into its items, unquoted."""
    return [m[1].replace('""', '"') if m[2] is None else m[2].strip() for m in _ITEM.finditer(value)]
