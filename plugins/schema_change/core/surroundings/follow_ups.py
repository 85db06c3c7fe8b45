"""Checks that run some time after a change landed: written down by contract, carried out once when they are due."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
from psycopg.types.json import Jsonb
from pydantic import ValidationError

from schema_change.core import sqlfiles
from schema_change.core.database import Connection, Target
from schema_change.core.journal import registry
from schema_change.core.journal.journal import Journal
from schema_change.core.names import Table
from schema_change.core.surroundings.models import FollowUp, IndexUsage, Surroundings
from schema_change.core.wording import counted

_SHOWN_ROWS = 5


@dataclass(frozen=True, slots=True)
class FollowedUp:
    """What a check found: ``passed``, ``failed``, or ``error`` when it could not be carried out."""

    run_id: UUID
    change_id: str
    name: str
    status: str
    message: str

    def __str__(self) -> str:
        return f"{self.change_id}, {self.name}: {self.status}: {self.message}"


def schedule(journal: Journal) -> None:
    """Write down the checks of a run that lands now, in the current transaction."""
    for follow_up in Surroundings.of(journal.run.change).follow_ups:
        usage = follow_up.index_usage
        journal.connection.execute(
            _sql("insert_follow_up"),
            {
                "run_id": journal.run_id,
                "name": follow_up.name,
                "definition": Jsonb(follow_up.model_dump(mode="json", exclude_defaults=True)),
                "baseline": _scans(journal.connection, usage) if usage else None,
                "hours": follow_up.after_hours,
            },
        )


def carry_out(target: Target, actor: str = "") -> list[FollowedUp]:
    """Carry out every check that is due; each is done once, also when two of these run at the same time."""
    results: list[FollowedUp] = []
    with target.connect("follow-up") as connection:
        if not registry.is_installed(connection):
            return results
        registry.install(connection)  # one of an earlier release may lack the table
        while (result := _next(connection, actor)) is not None:
            results.append(result)
    return results


def planned(target: Target) -> tuple[int, datetime | None]:
    """Return how many checks are still to come, and when the next one is due; ask after :func:`carry_out`."""
    with target.connect("follow-up") as connection:
        if not registry.is_installed(connection):
            return 0, None
        row = connection.execute(_sql("planned_follow_ups")).fetchone()
    assert row is not None  # noqa: S101 - an aggregate gives one row
    return row[0], row[1]


def _next(connection: Connection, actor: str) -> FollowedUp | None:
    with connection.transaction():
        row = connection.execute(_sql("next_follow_up")).fetchone()
        if row is None:
            return None
        run_id, change_id, name, definition, baseline = row
        status, message = _checked(connection, definition, baseline)
        words = {"run_id": run_id, "name": name, "status": status, "message": message}
        connection.execute(_sql("finish_follow_up"), words)
        Journal(connection, run_id, actor).event("follow_up", f"{status}: {message}", about=("follow_up", name))
    return FollowedUp(run_id, change_id, name, status, message)


def _checked(connection: Connection, definition: Mapping[str, Any], baseline: int | None) -> tuple[str, str]:
    try:
        follow_up = FollowUp.model_validate(definition)
    except ValidationError as error:  # written by another release; it must not keep those behind it from their turn
        return "error", f"what was written down cannot be read: {error.errors()[0]['msg']}"
    return _check(connection, follow_up, baseline)


def _check(connection: Connection, follow_up: FollowUp, baseline: int | None) -> tuple[str, str]:
    try:
        with connection.transaction(force_rollback=True):
            if follow_up.index_usage is not None:
                return _index_usage(connection, follow_up.index_usage, baseline or 0)
            return _no_rows(connection, follow_up.no_rows or "")
    except psycopg.Error as error:
        if connection.closed:
            raise
        return "error", (error.diag.message_primary or str(error)).strip()


def _index_usage(connection: Connection, usage: IndexUsage, baseline: int) -> tuple[str, str]:
    now = _scans(connection, usage)
    if now is None:
        return "error", f"there is no index {usage.index}"
    scans = now - baseline if now >= baseline else now  # the statistics were reset meanwhile
    used = f"{usage.index} was used {counted(scans, 'time')} since the change landed"
    return ("passed", used) if scans >= usage.min_scans else ("failed", f"{used}; expected at least {usage.min_scans}")


def _scans(connection: Connection, usage: IndexUsage) -> int | None:
    index = Table.parse(usage.index)
    row = connection.execute(_sql("index_scans"), {"schema": index.schema, "index": index.name}).fetchone()
    return None if row is None or row[0] is None else int(row[0])


def _no_rows(connection: Connection, query: str) -> tuple[str, str]:
    connection.execute(_sql("read_only"))
    connection.execute(_sql("query_settings"))
    with connection.cursor("follow_up") as cursor:
        rows: list[Any] = cursor.execute(query.encode()).fetchmany(_SHOWN_ROWS)
    if not rows:
        return "passed", "no such row"
    return "failed", f"found {', '.join(map(str, rows))}{' and maybe more' if len(rows) == _SHOWN_ROWS else ''}"


def _sql(name: str) -> psycopg.sql.SQL:
    return sqlfiles.block("queries/surroundings", name)
