"""Checks of what we may do and what we do it with: privileges, client tools, storage, the scratch server."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from schema_change.core import sqlfiles
from schema_change.core.backup.scratch import SCRATCH_LIMIT_BYTES
from schema_change.core.binaries import client_for
from schema_change.core.database import Target, server_version
from schema_change.core.errors import ConfigurationError
from schema_change.core.names import Table, quote
from schema_change.core.prechecks.model import Answer, CheckContext, enumerate_some, names_of
from schema_change.core.prechecks.server import scratch_bytes
from schema_change.core.wording import sized

_CREATES = re.compile(r"^\s*CREATE\s+(?:UNIQUE\s+)?(?:INDEX|TABLE|MATERIALIZED|VIEW|SEQUENCE)\b", re.IGNORECASE)


def privileges(context: CheckContext) -> Answer:
    """Fail when a step of the plan, the journal or the backup would be refused."""
    [(role, superuser, _, sees_all, may_create)] = context.rows("access", "role")
    if superuser:
        return Answer("pass", f"{role} is a superuser")
    problems, remedies = _missing(context, quote(role), may_create=may_create)
    if problems:
        return Answer("fail", f"{role} {'; '.join(problems)}", "; ".join(remedies))
    if not sees_all:
        return Answer(
            "warn",
            f"{role} may do every step, but does not see what other users' sessions do",
            f"GRANT pg_monitor TO {quote(role)}",
        )
    return Answer("pass", f"{role} may do every step")


def _missing(context: CheckContext, role: str, *, may_create: bool) -> tuple[list[str], list[str]]:
    problems: list[str] = []
    remedies: list[str] = []
    changed = {t for s in context.plan.steps if s.statements or s.undo for t in s.tables}
    for schema, name, owner, superuser in context.rows("access", "not_owned", **names_of(sorted(changed))):
        table = Table(schema, name)
        problems.append(f"does not own {table}")
        # To be a superuser is more than the change needs.
        remedies.append(
            f"ALTER TABLE {table.quoted} OWNER TO {role}" if superuser else f"GRANT {quote(owner)} TO {role}"
        )
    schemas = sorted({t.schema for s in context.plan.steps if any(map(_CREATES.match, s.statements)) for t in s.tables})
    for (schema,) in context.rows("access", "schemas_without_create", schemas=schemas):
        problems.append(f"may not create anything in schema {schema}")
        remedies.append(f"GRANT CREATE ON SCHEMA {quote(schema)} TO {role}")
    unreadable = [Table(*row) for row in context.rows("access", "unreadable", **names_of(_read_tables(context)))]
    if unreadable:
        problems.append(f"may not read {enumerate_some(unreadable)}, which the change or its backup reads")
        remedies.append(f"GRANT pg_read_all_data TO {role}")
    installed = context.rows("access", "registry_writable")  # is_installed() needs a privilege itself
    if not installed and not may_create:
        problems.append("may not create schema schema_change")
        remedies.append(f"GRANT CREATE ON DATABASE {quote(context.target.database)} TO {role}")
    if not all(row[0] for row in installed):
        problems.append("may not write schema_change, which another role made")
        remedies.append("connect as the role that owns schema_change, or grant that role")
    return problems, remedies


def _read_tables(context: CheckContext) -> Iterable[Table]:
    """Return what is read: the plan's tables or, for pg_dump, everything."""
    if context.options.skip_backup:
        return sorted({*context.plan.written, *context.plan.read})
    return sorted(context.catalog.relations)


def row_security(context: CheckContext) -> Answer:
    """Fail when row-level security would hide rows from a backfill, a check or the backup."""
    tables = sorted({*context.plan.written, *context.plan.read, *context.tables})
    rows = context.rows("access", "row_security", **names_of(tables))
    if not rows:
        return Answer("pass", "no row is hidden from us")
    hidden = [Table(schema, name) for schema, name, _ in rows]
    return Answer(
        "fail",
        f"row-level security hides rows from us on {enumerate_some(hidden)}",
        "connect as a role with BYPASSRLS"
        + ("" if all(forced for *_, forced in rows) else ", or as the owner of the tables"),
    )


def backup_client(context: CheckContext) -> Answer:
    """Fail without client tools for this server; a newer pg_dump's output may not restore on it."""
    if context.options.skip_backup:
        return Answer("skipped", "no backup was asked for")
    version = server_version(context.connection)
    try:
        found = client_for(version)
    except ConfigurationError as error:
        return Answer("fail", error.message, error.hint or "")
    if found.major == version // 10000:
        return Answer("pass", f"pg_dump {found.major} for server {found.major}")
    return Answer(
        "warn",
        f"pg_dump {found.major} for server {version // 10000}: its dump may not restore there",
        f"install postgresql-client-{version // 10000}",
    )


def storage(context: CheckContext) -> Answer:
    """Fail when the folder of artifacts cannot be written."""
    if context.options.dry_run:
        return Answer("skipped", "a dry run stores nothing")
    probe = context.artifacts / f".probe-{context.run_id}"
    try:
        context.artifacts.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"schema_change")
        written = probe.read_bytes()
        probe.unlink()
    except Exception as error:  # noqa: BLE001 - every storage has errors of its own
        reason = str(error).strip() or type(error).__name__
        return Answer("fail", f"{context.artifacts} cannot be written: {reason}", "check the path and its credentials")
    if written != b"schema_change":
        return Answer("fail", f"{context.artifacts} does not give back what was written", "check the storage")
    return Answer("pass", f"{context.artifacts} can be written")


def scratch(context: CheckContext) -> Answer:
    """Fail when the backup could not be verified and rehearsed: no server, no room, no right to create a database."""
    if context.options.skip_backup:
        return Answer("skipped", "without a backup nothing is restored")
    return _own_server(context) if context.scratch is None else _other_server(context, context.scratch)


def _other_server(context: CheckContext, server: Target) -> Answer:
    try:
        with server.connect("pre-check", read_only=True) as session:
            row = session.execute(sqlfiles.block("checks/access", "role")).fetchone()
            theirs = server_version(session) // 10000
            [(extensions,)] = context.rows("access", "extensions")
            beyond = session.execute(
                sqlfiles.block("checks/access", "for_superusers"), {"names": extensions}
            ).fetchall()
    except ConfigurationError as error:
        return Answer("fail", error.message, error.hint or "")
    name = server.conn_id
    if row is None or not row[2]:
        return Answer("fail", f"the role of {name} may not create databases", "ALTER ROLE … CREATEDB there")
    if beyond and not row[1]:
        return _cannot_install(f"the role of {name}", beyond)
    ours = server_version(context.connection) // 10000
    if theirs < ours:
        return Answer("fail", f"{name} is PostgreSQL {theirs}, older than {ours}", "use a server of the same version")
    if theirs > ours:
        return Answer("warn", f"{name} is PostgreSQL {theirs}: locks and plans may differ from {ours}")
    return Answer("pass", f"restored and rehearsed on {name}")


def _own_server(context: CheckContext) -> Answer:
    needed = scratch_bytes(context)
    if needed > SCRATCH_LIMIT_BYTES:
        return Answer(
            "fail",
            f"{sized(needed)} would be restored on the target's own server; the limit is {sized(SCRATCH_LIMIT_BYTES)}",
            "configure a scratch connection to another server",
        )
    [(role, superuser, createdb, *_)] = context.rows("access", "role")
    [(extensions,)] = context.rows("access", "extensions")
    if not superuser and (beyond := context.rows("access", "for_superusers", names=extensions)):
        return _cannot_install(role, beyond)
    if not createdb:
        return Answer(
            "fail",
            f"{role} may not create the scratch database in which the backup is verified",
            f"ALTER ROLE {quote(role)} CREATEDB, or configure a scratch connection",
        )
    return Answer("pass", f"{sized(needed)} are restored and rehearsed on the target's own server")


def _cannot_install(role: str, extensions: Iterable[tuple[Any, ...]]) -> Answer:
    names = ", ".join(name for (name,) in extensions)
    return Answer(
        "fail",
        f"{role} may not install {names} in the scratch copy: only a superuser may",
        "configure a scratch connection: a superuser of a server that has nothing else on it",
    )
