"""Read and write the journal of one run. The journal, not Airflow, remembers what was done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from operator import attrgetter
from typing import Any, TypeVar
from uuid import UUID

import psycopg
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from schema_change.core import sqlfiles
from schema_change.core.database import Connection
from schema_change.core.errors import JournalError, OwnershipError
from schema_change.core.journal.known import Known
from schema_change.core.model import Plan, Retired, Step, to_json
from schema_change.core.names import Table

_Row = TypeVar("_Row")

FINAL = frozenset({"applied", "rolled_back", "restored", "stopped"})


def _sql(name: str) -> psycopg.sql.SQL:
    return sqlfiles.block("queries/journal", name)


@dataclass(frozen=True, slots=True)
class RunRow:
    """A row of ``schema_change.run``."""

    run_id: UUID
    change_version: str
    change_name: str
    description: str
    checksum: str
    parent_checksum: str | None
    files_sha256: str
    conn_id: str
    requested_by: str
    requested_from: str
    options: dict[str, Any]
    change: dict[str, Any]
    status: str
    risk: str
    plan: dict[str, Any]
    catalog_before: dict[str, Any] | None
    fingerprint_before: str | None
    fingerprint_after: str | None
    checksums_before: dict[str, Any] | None
    backup: dict[str, Any] | None
    error: str | None
    started_at: datetime
    finished_at: datetime | None

    @property
    def change_id(self) -> str:
        """Return the change's id, ``<version>_<name>``."""
        return f"{self.change_version}_{self.change_name}"


@dataclass(frozen=True, slots=True)
class StepRow:
    """A row of ``schema_change.step``."""

    seq: int
    step: dict[str, Any]
    status: str
    rows: int | None
    lock_attempts: int
    error: str | None
    started_at: datetime | None
    finished_at: datetime | None
    undone_at: datetime | None

    @property
    def planned(self) -> Step:
        """Return the step as it was planned."""
        return Step.from_json(self.step)


@dataclass(frozen=True, slots=True)
class StageRow:
    """A row of ``schema_change.stage``."""

    stage: str
    status: str
    tries: int
    result: dict[str, Any]
    started_at: datetime
    finished_at: datetime | None

    @property
    def is_waiting(self) -> bool:
        """Tell whether it has begun and is to go on."""
        return self.status == "started" and "until" in self.result


@dataclass(frozen=True, slots=True)
class EventRow:
    """A row of ``schema_change.event``."""

    at: datetime
    actor: str
    kind: str
    object_type: str
    object_name: str
    message: str
    sql_statement: str | None
    seq: int | None


def get_run(connection: Connection, run_id: UUID) -> RunRow | None:
    """Return a run, or None."""
    with connection.cursor(row_factory=class_row(RunRow)) as cursor:
        return cursor.execute(_sql("get_run"), {"run_id": run_id}).fetchone()


def find_run(connection: Connection, run_id: UUID) -> RunRow | None:
    """Return a run, or None, also where there is no registry; ``connection`` is outside a transaction."""
    try:
        return get_run(connection, run_id)
    except psycopg.errors.UndefinedTable:
        return None


def list_runs(connection: Connection, limit: int = 50) -> list[RunRow]:
    """Return the latest runs, newest first."""
    with connection.cursor(row_factory=class_row(RunRow)) as cursor:
        return cursor.execute(_sql("list_runs"), {"limit": limit}).fetchall()


def unfinished_runs(connection: Connection) -> list[UUID]:
    """Return the runs that have not reached a final status, oldest first."""
    return [row[0] for row in connection.execute(_sql("unfinished_runs"))]


def applied_since(connection: Connection, since: datetime) -> list[UUID]:
    """Return the runs that landed after a moment, oldest first."""
    return [row[0] for row in connection.execute(_sql("applied_since"), {"since": since})]


class Journal:
    """The journal of one run, on one session.

    Every method runs in the session's current transaction, so an entry commits together with the work it describes
    when it is written inside that work's transaction. Who holds the run's fence may keep what is ``known`` of it.
    """

    def __init__(self, connection: Connection, run_id: UUID, actor: str = "", known: Known | None = None) -> None:
        self.connection = connection
        self.run_id = run_id
        self.actor = actor
        self._known = known or Known()

    def on(self, connection: Connection) -> Journal:
        """Return the same journal on another session."""
        return Journal(connection, self.run_id, self.actor, self._known)

    def _execute(self, name: str, **parameters: Any) -> psycopg.Cursor[Any]:
        return self.connection.execute(_sql(name), {"run_id": self.run_id, **parameters})

    def _rows(self, row: type[_Row], name: str, **parameters: Any) -> list[_Row]:
        with self.connection.cursor(row_factory=class_row(row)) as cursor:
            return cursor.execute(_sql(name), {"run_id": self.run_id, **parameters}).fetchall()

    # -- the run --------------------------------------------------------------------------------------------------

    def record_plan(self, plan: Plan, **columns: Any) -> None:
        """Store the run with its plan and steps; planning again is allowed until something was changed.

        Raises JournalError when the run has already begun: its stored plan is what runs.
        """
        data = to_json(plan)
        self._known.forget()
        columns |= {
            "plan": Jsonb({k: v for k, v in data.items() if k != "steps"}),
            "risk": plan.risk.value,
            "fingerprint_before": plan.fingerprint,
        }
        with self.connection.pipeline(), self.connection.transaction():
            if not (stored := self._rows(RunRow, "insert_run", **columns)):
                raise JournalError(
                    f"run {self.run_id} has begun; it cannot be planned again",
                    hint="clear the failed task and those after it, not the plan task",
                )
            self._execute("forget_earlier_plan")
            steps = sorted(self._rows(StepRow, "insert_steps", steps=Jsonb(data["steps"])), key=attrgetter("seq"))
        self._known.keep("run", stored[0])
        self._known.keep("steps", steps)
        self._known.keep("stages", {})

    def find(self) -> RunRow | None:
        """Return the run's row; None when it was never planned, or there is no registry."""
        return self._known.get("run", lambda: find_run(self.connection, self.run_id))

    @property
    def run(self) -> RunRow:
        """Return the run's row. Raises JournalError when it was never planned."""
        found = self._known.get("run", lambda: get_run(self.connection, self.run_id))
        if found is None:
            raise JournalError(f"run {self.run_id} is not in the journal", hint="the plan task must run first")
        return found

    def plan(self) -> Plan:
        """Return the stored plan with its steps."""
        return self._known.get(
            "plan", lambda: Plan.from_json({**self.run.plan, "steps": [row.step for row in self.steps()]})
        )

    def set_status(self, status: str, error: str | None = None) -> None:
        """Move the run to a status; a final one sets its end. Raises JournalError when another run of it is at work."""
        try:
            changed = self._execute("set_status", status=status, error=error).fetchone()
        except psycopg.errors.UniqueViolation as violation:
            raise JournalError(
                "another run of this change has landed or is at work in this database",
                hint="see schema-change status; this run has changed nothing yet",
            ) from violation
        if changed is not None:
            found = dict(zip(("status", "error", "finished_at"), changed, strict=True))
            self._known.amend("run", lambda run: run and replace(run, **found))

    def set_fingerprint_after(self, fingerprint: str, catalog: Mapping[str, Any] | None = None) -> None:
        """Record the fingerprint the change left behind and, so that drift can be named, the snapshot it is of."""
        self._execute(
            "set_fingerprint_after", fingerprint=fingerprint, catalog=Jsonb(catalog) if catalog is not None else None
        )
        self._known.forget("run")

    def set_backup(self, backup: dict[str, Any], checksums: dict[str, Any]) -> None:
        """Record where the backup is, and the counts and checksums taken with it."""
        self._execute("set_backup", backup=Jsonb(backup), checksums=Jsonb(checksums))
        self._known.forget("run")

    # -- stages, steps, events ------------------------------------------------------------------------------------

    def start_stage(self, stage: str, started_at: datetime | None = None, *, joins: bool = False) -> None:
        """Record that a stage begins, or began at a given time; a new try counts up. A further shard ``joins`` it."""
        self._write_stages("start_stage", stage=stage, started_at=started_at, joins=joins)

    def pass_stages(self, results: Mapping[str, Mapping[str, Any]]) -> None:
        """Record the stages that had nothing to do, with what they returned."""
        self._write_stages("pass_stages", stages=list(results), results=list(map(Jsonb, results.values())))

    def finish_stage(self, stage: str, status: str, result: dict[str, Any]) -> None:
        """Record how a stage ended: ``done``, ``skipped`` or ``failed``."""
        self._write_stages("finish_stage", stage=stage, status=status, result=Jsonb(result))

    def wait_stage(self, stage: str, result: dict[str, Any]) -> None:
        """Record that a stage goes on later; it has begun, and has not ended."""
        words = {"run_id": self.run_id, "stage": stage, "result": Jsonb(result)}
        self.connection.execute(sqlfiles.block("queries/surroundings", "wait_stage"), words)
        self._known.forget("stages")

    def stages(self) -> dict[str, StageRow]:
        """Return what the stages did so far, by name."""
        return self._known.get("stages", lambda: {row.stage: row for row in self._rows(StageRow, "get_stages")})

    def _write_stages(self, name: str, **parameters: Any) -> None:
        written = {row.stage: row for row in self._rows(StageRow, name, **parameters)}
        self._known.amend("stages", lambda stages: {**stages, **written})

    def steps(self) -> list[StepRow]:
        """Return the steps in order."""
        return self._known.get("steps", lambda: self._rows(StepRow, "get_steps"))

    def set_step(
        self, seq: int, status: str, *, rows: int | None = None, lock_attempts: int = 0, error: str | None = None
    ) -> None:
        """Move a step to a status."""
        self._execute("set_step", seq=seq, status=status, rows=rows, lock_attempts=lock_attempts, error=error)
        self._known.forget("steps")

    def lock_step(self, seq: int) -> str:
        """Keep other sessions from moving a step until the transaction ends; return its status."""
        return str(self._execute("lock_step", seq=seq).fetchone()[0])  # type: ignore[index]

    def step_failed(self, seq: int, error: str) -> None:
        """Record why a step failed; its status stays, so that a new try goes on from it."""
        self._execute("step_error", seq=seq, error=error)
        self._known.forget("steps")

    def event(
        self,
        kind: str,
        message: str = "",
        *,
        seq: int | None = None,
        tables: Sequence[Table] = (),
        statement: str | None = None,
        about: tuple[str, str] | None = None,
    ) -> None:
        """Append to the audit trail; ``about`` is the type and name of what it concerns when that is no table."""
        object_type, object_name = about or ("table" if tables else "", ", ".join(map(str, tables)))
        self._execute(
            "insert_event",
            seq=seq,
            actor=self.actor,
            kind=kind,
            object_type=object_type,
            object_name=object_name,
            message=message,
            sql_statement=statement,
        )

    def events(self) -> list[EventRow]:
        """Return the audit trail of this run, to which others may add, such as who pauses it."""
        return self._rows(EventRow, "get_events")

    # -- the version of a table -----------------------------------------------------------------------------------

    def record_version(self, table: str, version: str, definition: dict[str, Any] | None, description: str) -> None:
        """Add a row to ``schema_registry``; it becomes the table's current version."""
        self._execute(
            "insert_version",
            table_name=table,
            version=version,
            definition=Jsonb(definition) if definition is not None else None,
            description=description,
        )

    def forget_versions(self) -> None:
        """Take back the versions this run recorded; used when a backup is put back."""
        self._execute("delete_versions")

    # -- ownership ------------------------------------------------------------------------------------------------

    def claim(self, tables: Sequence[Table]) -> None:
        """Own the tables until the run ends. Raises OwnershipError naming the run that owns one already."""
        owned = self._known.get("owned", frozenset[Table])
        if owned.issuperset(tables):
            return
        names = {"schemas": [t.schema for t in tables], "names": [t.name for t in tables]}
        with self.connection.pipeline(), self.connection.transaction():
            self._execute("claim_tables", **names)
            others = self._execute("owners", **names).fetchall()
            if others:
                schema, name, run_id, since, requested_from, change = others[0]
                raise OwnershipError(
                    f"{Table(schema, name)} is owned by run {run_id} of {change} ({requested_from})"
                    f" since {since:%Y-%m-%d %H:%M}",
                    hint=f"wait for that run; if it is dead: schema-change reconcile --run {run_id}",
                )
        self._known.amend("owned", lambda owned: owned.union(tables))

    def others(self) -> dict[Table, UUID]:
        """Return the tables that other runs own."""
        return {Table(schema, name): run_id for schema, name, run_id in self._execute("other_owners")}

    def record_retired(self, retired: Sequence[Retired]) -> None:
        """Record the dropped data that is kept, and until when."""
        for kept in retired:
            self._execute(
                "insert_retired",
                kind=kept.kind,
                schema=kept.table.schema,
                table=kept.table.name,
                column=kept.column,
                kept=kept.kept.name,
                key=list(kept.key),
                definition=Jsonb(kept.definition),
                days=kept.keep_days,
            )

    def release(self) -> None:
        """Give the tables back."""
        self._execute("release_tables")
        self._known.forget("owned")
