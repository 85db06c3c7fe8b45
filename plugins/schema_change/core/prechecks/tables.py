"""Checks of the tables the plan changes, and of the plan itself."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from pglast import ast
from pglast.parser import ParseError, scan
from psycopg import sql

from schema_change.core.model import Backfill, LockMode
from schema_change.core.names import MAX_IDENTIFIER_BYTES, Table, quote
from schema_change.core.prechecks.model import Answer, CheckContext, enumerate_some
from schema_change.core.sqltext import grammar
from schema_change.core.sqltext.locks import relation as relation_of
from schema_change.core.wording import counted, sized

_LARGE_BYTES = 10 << 30
_LOCKED_BYTES = 1 << 30
_FIRES_ON = {
    event: re.compile(rf" (?:BEFORE|AFTER) (?:\w+(?: OF .+?)? OR )*{event}\b")
    for event in ("INSERT", "UPDATE", "DELETE")
}
_WRITES = {ast.InsertStmt: "INSERT", ast.UpdateStmt: "UPDATE", ast.DeleteStmt: "DELETE"}


def table_size(context: CheckContext) -> Answer:
    """Warn when much is rewritten, or the work under a lock that stops writes grows with the table."""
    known = context.catalog.relations
    warnings = []
    rewritten = sum(known[t].bytes for t in context.backfilled if t in known)
    if rewritten > _LARGE_BYTES:
        warnings.append(f"the backfill rewrites about {sized(rewritten)}, which leaves as much dead space behind")
    for step in context.plan.steps:
        locked = sum(known[t].bytes for t in step.tables if t in known)
        if step.long and step.lock >= LockMode.SHARE and locked > _LOCKED_BYTES:
            warnings.append(f"{step.title} blocks {step.lock.blocks} while it works on {sized(locked)}")
    if warnings:
        return Answer("warn", "; ".join(warnings), "choose a quiet hour; see the throttle and window of the change")
    total = f"{sized(sum(r.bytes for r in context.relations))} in {counted(len(context.relations), 'table')}"
    return Answer("pass", f"{total}, {sized(rewritten)} to rewrite")


def dependants(context: CheckContext) -> Answer:
    """List what uses the tables; warn about publications, which do not carry schema changes."""
    found = {r.table: r.dependants for r in context.relations if r.dependants}
    if not found:
        return Answer("pass", "nothing else uses the tables")
    text = "; ".join(f"{table}: {enumerate_some(names)}" for table, names in found.items())
    if any(name.startswith("publication ") for names in found.values() for name in names):
        return Answer(
            "warn",
            f"{text}. A publication does not carry schema changes",
            "make the change on the subscribers first, or a new column stops replication",
        )
    return Answer("pass", text)


def invalid_indexes(context: CheckContext) -> Answer:
    """Warn about indexes that an interrupted build left: they cost writes and help no query."""
    found = [quote(r.table.schema) + "." + quote(i.name) for r in context.relations for i in r.indexes if not i.valid]
    if not found:
        return Answer("pass", "every index is valid")
    return Answer(
        "warn",
        f"not valid: {enumerate_some(found)}",
        "; ".join(f"REINDEX INDEX CONCURRENTLY {name}" for name in found[:5]) + ", or DROP INDEX CONCURRENTLY",
    )


def table_kinds(context: CheckContext) -> Answer:
    """Fail for foreign tables, whose rows are elsewhere; warn about unlogged ones, which a crash empties."""
    foreign = [r.table for r in context.relations if r.kind == "f"]
    if foreign:
        return Answer(
            "fail",
            f"foreign tables: {enumerate_some(foreign)}; their rows are in another database",
            "run the change there",
        )
    unlogged = [r.table for r in context.relations if r.persistence != "p"]
    if unlogged:
        remedy = "; ".join(f"ALTER TABLE {t.quoted} SET LOGGED" for t in unlogged[:5])
        return Answer("warn", f"unlogged, so a crash empties them: {enumerate_some(unlogged)}", remedy)
    return Answer("pass", "all are logged tables of this database")


def triggers(context: CheckContext) -> Answer:
    """Warn about triggers that every row of a backfill will fire."""
    fills = [step.backfill for step in context.plan.steps if step.backfill is not None]
    writes = dict.fromkeys(write for fill in fills for write in _writes(fill))
    found = dict.fromkeys(
        f"{trigger.name} on {table}"
        for table, event in writes
        if (relation := context.catalog.get(table)) is not None
        for trigger in relation.triggers
        if trigger.enabled != "D" and _FIRES_ON[event].search(trigger.definition)
    )
    if not found:
        return Answer("pass", "the backfill fires no trigger")
    return Answer(
        "warn",
        f"the backfill's writes fire {enumerate_some(found)}",
        "make sure that is wanted: timestamps change, audit rows are written, messages are sent",
    )


def _writes(fill: Backfill) -> Iterator[tuple[Table, str]]:
    """Yield what a backfill does to which tables."""
    if fill.batch is None:
        yield fill.table, "UPDATE"
        return
    for node in grammar.walk(grammar.parse(f"{fill.batch.head}true{fill.batch.tail}")[0]):
        if type(node) in _WRITES:
            yield relation_of(node.relation, fill.table.schema), _WRITES[type(node)]


def identifiers(context: CheckContext) -> Answer:
    """Fail for names that PostgreSQL would silently cut to 63 bytes."""
    long = {
        name
        for step in context.plan.steps
        for statement in (*step.statements, *step.undo)
        for name in _names(statement)
        if len(name.encode()) > MAX_IDENTIFIER_BYTES
    }
    if not long:
        return Answer("pass", f"no name is longer than {MAX_IDENTIFIER_BYTES} bytes")
    return Answer(
        "fail",
        f"longer than {MAX_IDENTIFIER_BYTES} bytes, so PostgreSQL would cut it: {enumerate_some(sorted(long))}",
        "choose a shorter name",
    )


def _names(statement: str) -> set[str]:
    try:
        tokens = scan(statement)
    except ParseError:
        return set()  # the linter reports what does not parse
    texts = (statement[t.start : t.end + 1] for t in tokens if t.name == "IDENT")
    return {t[1:-1].replace('""', '"') if t.startswith('"') else t for t in texts}


def lint(context: CheckContext) -> Answer:
    """Fail for findings of level error that the change does not waive."""
    open_findings = [f for f in context.plan.findings if f.waived is None]
    errors = [f for f in open_findings if f.level == "error"]
    shown = errors or open_findings
    if not shown:
        waived = len(context.plan.findings)
        return Answer("pass", f"no finding{f', {waived} waived in the change file' if waived else ''}")
    return Answer(
        "fail" if errors else "warn",
        "; ".join(f"{f.rule}: {f.message}" for f in shown),
        "; ".join(dict.fromkeys(f.remedy for f in shown if f.remedy)),
    )


def data_fit(context: CheckContext) -> Answer:
    """Fail when rows would not fit the new shape; count them and show some."""
    if not context.plan.data_checks:
        return Answer("skipped", "the change makes no demand on existing rows")
    problems: list[str] = []
    remedies: list[str] = []
    for check in context.plan.data_checks:
        [(count,)] = _query(context, check.count)
        if count:
            sample = ", ".join(_shown(row) for row in _query(context, check.sample)[:10])
            problems.append(f"{check.name}: {counted(count, 'row')}, such as {sample}")
            remedies.append(check.remedy)
    if problems:
        return Answer("fail", "; ".join(problems), "; ".join(dict.fromkeys(remedies)))
    return Answer("pass", f"every row fits ({', '.join(c.name for c in context.plan.data_checks)})")


def _query(context: CheckContext, text: str) -> list[tuple[Any, ...]]:
    return context.connection.execute(sql.SQL(text)).fetchall()


def _shown(row: Sequence[Any]) -> str:
    return str(row[0]) if len(row) == 1 else "(" + ", ".join(map(str, row)) + ")"
