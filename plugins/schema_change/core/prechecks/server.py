"""Checks of the server: may it be written, does it know what is needed, is there room."""

from __future__ import annotations

import os
import re
from pathlib import Path

from schema_change.core.catalog.read import OLDEST
from schema_change.core.database import server_version
from schema_change.core.errors import ConfigurationError
from schema_change.core.names import quote
from schema_change.core.prechecks.model import Answer, CheckContext, age
from schema_change.core.wording import sized

_NEWEST_TESTED = 18
_LAG_BYTES = 64 << 20
_LAG_S = 30.0
_EXTENSION = re.compile(r"\bCREATE\s+EXTENSION\s+(?:IF\s+NOT\s+EXISTS\s+)?\"?([\w-]+)", re.IGNORECASE)


def writable(context: CheckContext) -> Answer:
    """Fail on a standby, and where somebody made read-only the default."""
    [(standby, read_only)] = context.rows("server", "writable")
    if standby:
        return Answer("fail", "the server is a standby", "point the connection at the primary")
    if read_only:
        return Answer(
            "fail",
            "transactions are read-only by default here, so somebody does not want this database written",
            "ALTER DATABASE … (or ROLE …, or SYSTEM) RESET default_transaction_read_only",
        )
    return Answer("pass", "primary, read-write")


def version(context: CheckContext) -> Answer:
    """Fail on a server that is too old, warn about one newer than any tested."""
    number = server_version(context.connection)
    major = number // 10000
    text = f"PostgreSQL {major}.{number % 10000}"
    if major < OLDEST:
        return Answer("fail", f"{text} is too old", f"upgrade the server to {OLDEST} or newer")
    if major > _NEWEST_TESTED:
        return Answer(
            "warn", f"{text} is newer than {_NEWEST_TESTED}, the newest tested", "rehearse before you trust it"
        )
    return Answer("pass", text)


def pooler(context: CheckContext) -> Answer:
    """Fail behind a pooler in transaction mode: our locks and settings live in the session."""
    try:
        context.target.refuse_pooler(context.connection)
    except ConfigurationError as error:
        return Answer("fail", error.message, error.hint or "")
    return Answer("pass", "sessions are our own")


def extensions(context: CheckContext) -> Answer:
    """Fail when an extension that the change requires is not installed and the change does not install it."""
    needed = context.change.extensions
    if not needed:
        return Answer("skipped", "the change requires none")
    statements = " ".join(s for step in context.plan.steps for s in step.statements)
    there = {e.rsplit(" ", 1)[0] for e in context.catalog.extensions} | set(_EXTENSION.findall(statements))
    missing = [e for e in needed if e not in there]
    if not missing:
        return Answer("pass", ", ".join(needed))
    available = {row[0] for row in context.rows("server", "available_extensions", names=missing)}
    if absent := [e for e in missing if e not in available]:
        return Answer(
            "fail",
            f"not available on this server: {', '.join(absent)}",
            "install the package that brings it on the server's machine",
        )
    remedy = "; ".join(f"CREATE EXTENSION {quote(e)}" for e in missing)
    return Answer("fail", f"not installed in this database: {', '.join(missing)}", remedy)


def replication(context: CheckContext) -> Answer:
    """Warn about standbys that lag and slots that nobody reads: a backfill writes much WAL."""
    standbys = context.rows("server", "standbys")
    slots = context.rows("server", "inactive_slots")
    late = [
        f"standby {name} is {sized(lag or 0)}, {age(seconds or 0)} behind"
        for name, state, lag, seconds in standbys
        if state is not None and ((lag or 0) > _LAG_BYTES or (seconds or 0) > _LAG_S)
    ]
    idle = [f"slot {name} is not read and holds back {sized(held)} of WAL ({status})" for name, held, status in slots]
    if late or idle:
        return Answer(
            "warn",
            "; ".join(late + idle),
            "let the standby catch up; drop a slot nobody needs: SELECT pg_drop_replication_slot('…')",
        )
    if any(state is None for _, state, *_ in standbys):
        return Answer("unknown", "the standbys' lag is hidden from this role", "GRANT pg_monitor to it")
    return Answer("pass", f"{len(standbys)} standbys, none behind" if standbys else "no standby, no idle slot")


def disk_space(context: CheckContext) -> Answer:
    """Fail when the change needs more than is free; known only on the server's own machine."""
    [(folder, pid, port)] = context.rows("server", "data_directory")
    if not _is_here(pid, port):
        return Answer("unknown", "the server runs on another machine", "look at its free space yourself")
    try:
        stat = os.statvfs(folder)
    except OSError as error:
        return Answer("unknown", f"{folder} cannot be looked at: {error.strerror}")
    free = stat.f_bavail * stat.f_frsize
    needed = _bytes_needed(context)
    message = f"{sized(free)} free, about {sized(needed)} needed"
    if free < needed:
        return Answer("fail", message, f"make room on the file system of {folder}")
    if free < 2 * needed:
        return Answer("warn", f"{message}; that is tight", f"make room on the file system of {folder}")
    return Answer("pass", message)


def _is_here(pid: int, client_port: int | None) -> bool:
    """Tell whether our own backend is a process of this machine: its title names our end of the connection."""
    try:
        title = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return False
    end = "[local]" if client_port in (None, -1) else f"({client_port})"
    return title.startswith("postgres") and end in title


def _bytes_needed(context: CheckContext) -> int:
    """Estimate: a second copy of what is rewritten and its WAL, indexes as large as their table, a scratch copy."""
    relations = context.catalog.relations
    rewritten = sum(relations[t].bytes for t in context.backfilled if t in relations)
    built = sum(r.bytes for r in context.relations if any(s.long and r.table in s.tables for s in context.plan.steps))
    scratch = scratch_bytes(context) if context.scratch is None and not context.options.skip_backup else 0
    return 2 * rewritten + built + scratch


def scratch_bytes(context: CheckContext) -> int:
    """Return the size of the tables whose rows are restored for the rehearsal."""
    relations = context.catalog.relations
    if context.options.backup_scope == "database":
        return sum(r.bytes for r in relations.values())
    tables = {*context.plan.written, *context.plan.read}
    for table in list(tables):
        found = relations.get(table)
        tables |= {c.references for c in found.constraints if c.references} if found else set()
    return sum(relations[t].bytes for t in tables if t in relations)
