"""Checks against what earlier runs recorded: versions, checksums, fingerprints, ownership."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from psycopg import sql

from schema_change.core import sqlfiles
from schema_change.core.catalog.diff import diff
from schema_change.core.changes.load import load_changes
from schema_change.core.changes.spec import Change
from schema_change.core.database import Connection
from schema_change.core.errors import SchemaChangeError
from schema_change.core.journal import registry
from schema_change.core.names import Table
from schema_change.core.prechecks.model import Answer, CheckContext, enumerate_some, names_of

_REGISTER = sql.SQL("INSERT INTO schema_change.schema_registry (table_name, version) VALUES ({table}, {version})")
_ACCEPT = sql.SQL("UPDATE schema_change.run SET fingerprint_after = NULL WHERE run_id = {run}")
_NOT_INSTALLED = Answer("pass", "no run has been here yet")


def registry_version(context: CheckContext) -> Answer:
    """Fail when the table's registered version is not the one the change starts from."""
    wanted = context.change.registry
    if wanted is None:
        return Answer("skipped", "the change versions no table")
    installed = registry.is_installed(context.connection)
    query = sqlfiles.block("queries/journal", "current_version")
    row = context.connection.execute(query, {"table_name": wanted.table}).fetchone() if installed else None
    current = row[0] if row else None
    if current == wanted.from_version:
        return Answer("pass", f"{wanted.table} is at {current or 'no version yet'}")
    if current is None:
        assert wanted.from_version is not None  # noqa: S101 - the two differ
        statement = _REGISTER.format(table=wanted.table, version=wanted.from_version).as_string(None)
        if not installed and context.options.dry_run:
            return Answer("warn", f"nothing is registered in this database yet, {wanted.table} neither", statement)
        return Answer(
            "fail",
            f"{wanted.table} is not registered, but the change starts from {wanted.from_version}",
            f"if the table is at that version: {statement}; if the table is new, write from: null",
        )
    start = wanted.from_version or "a table without version"
    if current == wanted.to_version:
        return Answer("fail", f"{wanted.table} is at {current} already", "nothing is left to do for this change")
    return Answer(
        "fail",
        f"{wanted.table} is at {current}, but the change starts from {start}",
        "apply the changes in between first, or correct from: in the change file",
    )


def checksum_chain(context: CheckContext) -> Answer:
    """Fail when the change was applied already, or the one before it was not, or was edited afterwards."""
    change = context.change
    applied = _applied(context)
    if change.version in applied:
        if applied[change.version] == change.checksum:
            return Answer("fail", f"{change.id} was applied to this database already", "write a new change")
        return Answer(
            "fail",
            f"{change.id} was applied to this database already, and it or one before it was edited afterwards",
            "put the files back as they were (git log), and write a new change for what is new",
        )
    if change.parent_checksum is None or change.parent_checksum in applied.values():
        return Answer("pass", "the changes before it are applied, unedited")
    return _broken_link(change, applied)


def _applied(context: CheckContext) -> dict[str, str]:
    """Return the checksum of each applied change by version."""
    if not registry.is_installed(context.connection):
        return {}
    rows = context.connection.execute(sqlfiles.block("queries/journal", "applied_changes")).fetchall()
    return {version: checksum for version, _, checksum, _ in rows}


def _broken_link(change: Change, applied: Mapping[str, str]) -> Answer:
    """Name the first change before this one that is not applied, or was edited, when the folders can tell."""
    try:
        found = load_changes(change.folder.parent).changes
    except (SchemaChangeError, OSError):
        found = ()
    by_checksum = {c.checksum: c for c in found}
    chain: list[Change] = []
    checksum = change.parent_checksum
    while checksum is not None and (before := by_checksum.get(checksum)) is not None:
        chain.append(before)
        checksum = before.parent_checksum
    for before in reversed(chain):
        if before.version not in applied:
            return Answer(
                "fail", f"{before.id}, which comes before it, is not applied here", f"apply {before.id} first"
            )
        if applied[before.version] != before.checksum:
            return Answer(
                "fail",
                f"{before.id} was edited after it was applied here",
                "put its files back as they were (git log), and write a new change for what is new",
            )
    return Answer(
        "fail",
        "the change before it is not applied here, or was edited afterwards",
        "schema-change status shows what is applied; apply what is missing first",
    )


def earlier_scopes(connection: Connection) -> set[Table]:
    """Return the tables whose state an earlier run recorded, with which drift compares."""
    if not registry.is_installed(connection):
        return set()
    return {Table(*row) for row in connection.execute(sqlfiles.block("checks/history", "scopes"))}


def drift(context: CheckContext) -> Answer:
    """Fail when a table of this plan is not as the last run left it; warn when another table is not."""
    if not registry.is_installed(context.connection):
        return _NOT_INSTALLED
    inside: list[str] = []
    outside: list[str] = []
    runs = []
    covered: set[Table] = set()
    for run_id, change, scope, fingerprint in context.rows("history", "fingerprints"):
        tables = {Table(**t) for t in scope}
        if tables and tables <= covered:
            continue  # what a later run left is compared
        if context.catalog.restricted(tables).fingerprint != fingerprint and (
            found := _differences(context, run_id, tables, covered)
        ):
            ours, others = found
            inside += [f"{line} (since {change})" for line in ours]
            outside += [f"{line} (since {change})" for line in others]
            runs.append(run_id)
        covered |= tables
        if not tables:
            break
    if not inside and not outside:
        return Answer("pass", "the database is as the last run left it")
    accept = "; ".join(_ACCEPT.format(run=str(run_id)).as_string(None) for run_id in runs)
    return Answer(
        "fail" if inside else "warn",
        f"changed outside of a run: {enumerate_some(inside or outside)}",
        f"undo it, or write it down as a change; to accept it as it is: {accept}",
    )


def _differences(
    context: CheckContext, run_id: object, tables: set[Table], covered: set[Table]
) -> tuple[list[str], list[str]] | None:
    """Return the lines within and outside of this plan's scope; None when a later run explains the difference.

    What depends on a table is left out: a view that somebody adds is no change of the table.
    """
    [(after,)] = context.rows("history", "catalog_after", run_id=run_id)
    if after is None:
        mine = not tables or not context.plan.scope or bool(tables & set(context.plan.scope))
        line = [f"the catalog of {enumerate_some(sorted(tables)) or 'the database'}"]
        return None if tables & covered else (line, []) if mine else ([], line)
    live = context.catalog.restricted(tables).to_json()
    if live["server_version"] != after.get("server_version"):
        return None  # fingerprints are comparable within one major version only
    skip = {str(t) for t in covered}
    before, now = ({k: _plain(v) for k, v in side.items() if k not in skip} for side in (after, live))
    if not context.plan.scope:
        return diff(before, now), []
    ours = {str(t) for t in context.plan.scope}
    inside = diff({k: v for k, v in before.items() if k in ours}, {k: v for k, v in now.items() if k in ours})
    others = diff({k: v for k, v in before.items() if k not in ours}, {k: v for k, v in now.items() if k not in ours})
    return inside, others


def _plain(value: Any) -> Any:
    return {k: v for k, v in value.items() if k != "dependants"} if isinstance(value, dict) else value


def ownership(context: CheckContext) -> Answer:
    """Fail when another run owns one of the tables."""
    if not registry.is_installed(context.connection):
        return _NOT_INSTALLED
    query = sqlfiles.block("queries/journal", "owners")
    parameters = {**names_of(context.tables), "run_id": context.run_id}
    rows = context.connection.execute(query, parameters).fetchall()
    if not rows:
        return Answer("pass", "no other run owns a table of this plan")
    texts = [
        f"{Table(schema, name)} is owned by run {run_id} of {change} since {since:%F %T}"
        for schema, name, run_id, since, _, change in rows
    ]
    runs = sorted({str(row[2]) for row in rows})
    return Answer(
        "fail",
        "; ".join(texts),
        "wait for that run; if it is dead: " + "; ".join(f"schema-change reconcile --run {run}" for run in runs),
    )
