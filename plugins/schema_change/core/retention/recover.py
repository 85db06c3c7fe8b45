"""Bring dropped data back: what is missing is put in, what is newer is left alone and reported.

A recovery is claimed and fenced under the run that dropped the data, so that no change works on the table meanwhile.
It can be run again at any time and goes on from what is there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from schema_change.core import sqlfiles
from schema_change.core.backfill.engine import BackfillSettings, run_backfill, undo_fill
from schema_change.core.catalog.model import Catalog, Constraint, Relation
from schema_change.core.catalog.read import read_catalog
from schema_change.core.database import Connection, Target
from schema_change.core.errors import ExecutionError, JournalError
from schema_change.core.execution.locks import LockSafeExecutor, LockSettings
from schema_change.core.journal.fence import fenced
from schema_change.core.journal.journal import FINAL, Journal
from schema_change.core.model import Backfill, LockMode
from schema_change.core.names import Table
from schema_change.core.recipes import constraint as constraints
from schema_change.core.retention import statements
from schema_change.core.retention.kept import KeptData, find_kept
from schema_change.core.retention.snapshots import accept
from schema_change.core.stages.session import Note
from schema_change.core.wording import counted


@dataclass(frozen=True, slots=True)
class Conflict:
    """Rows that were left alone: why, how many, and the keys of some of them."""

    why: str
    rows: int
    sample: tuple[str, ...]

    def __str__(self) -> str:
        more = ", …" if self.rows > len(self.sample) else ""
        return f"{counted(self.rows, 'row')} left alone: {self.why} ({', '.join(self.sample)}{more})"


@dataclass(frozen=True, slots=True)
class Recovered:
    """What a recovery did. ``rows`` is None when a whole table was put back in its place."""

    what: str
    rows: int | None
    conflicts: tuple[Conflict, ...] = ()
    notices: tuple[str, ...] = ()

    def __str__(self) -> str:
        done = "is in its place again" if self.rows is None else f"{counted(self.rows, 'row')} brought back"
        left = sum(c.rows for c in self.conflicts)
        return f"{self.what}: {done}" + (f", {counted(left, 'conflict')}" if left else "")


@dataclass(frozen=True)
class _Job:
    """A recovery at work."""

    kept: KeptData
    work: Connection
    side: Connection
    executor: LockSafeExecutor
    journal: Journal
    lock_wait_s: float
    note: Note

    def transaction(self, found: tuple[str, ...], *tables: Table, recovered: bool = False) -> None:
        """Run statements under an exclusive lock on the tables; ``recovered`` marks the data in their transaction."""

        def record(connection: Connection, _attempts: int) -> None:
            if recovered:
                self.mark(connection)
            self.journal.event(
                "recovering", self.kept.what, tables=(self.kept.table,), statement=";\n".join(found) or None
            )

        self.executor.transaction(found, tables=tables, lock=LockMode.ACCESS_EXCLUSIVE, within=record)

    def mark(self, connection: Connection) -> None:
        """Record that the data is back."""
        connection.execute(sqlfiles.block("queries/retention", "mark_recovered"), {"id": self.kept.id})

    def walk(self, backfill: Backfill) -> int:
        """Run a batch along the kept rows from the start; return the rows it brought back."""
        row = self.work.execute(
            sqlfiles.block("queries/retention", "free_step"), {"run_id": self.kept.run_id}
        ).fetchone()
        if row is None or row[0] is None:
            raise JournalError(f"run {self.kept.run_id} has no steps in the journal", hint="export the data instead")
        settings = BackfillSettings(lock_wait_s=self.lock_wait_s)
        place = {"run_id": self.kept.run_id, "seq": row[0], "backfill": backfill, "settings": settings}
        undo_fill(self.work, self.side, **place)  # the checkpoint of an interrupted try: what it did is not pending
        rows = run_backfill(self.work, self.side, **place)
        undo_fill(self.work, self.side, **place)
        return rows

    def conflicts(self, *found: tuple[str, statements.Found]) -> tuple[Conflict, ...]:
        """Count and sample the rows that were left alone, each for a reason."""
        result = []
        for why, query in found:
            rows = int(self.side.execute(query.count).fetchone()[0])  # type: ignore[index]
            if rows:
                sample = tuple(row[0] for row in self.side.execute(query.sample))
                result.append(Conflict(why, rows, sample))
        return tuple(result)


def recover(target: Target, number: int, *, note: Note, actor: str = "", lock_wait_s: float = 600) -> Recovered:
    """Bring kept data back, by the id that ``retired`` shows; return what was done and what was left alone.

    A column is added again when it is not there, and its NULLs are filled; a table is moved back, or its missing rows
    are inserted when another one has its name; so are deleted rows. Raises ConfigurationError for an unknown id,
    JournalError when nothing can be brought back, OwnershipError while a run works on the table.
    """
    with _at_work(target, number, note, actor, lock_wait_s) as job:
        kept = job.kept
        catalog = read_catalog(job.side)
        if kept.kind == "column":
            result = _column(job, catalog)
        elif kept.kind == "table" and (not kept.there or catalog.get(kept.table) is None):
            result = _table(job, catalog)
        else:
            result = _rows(job, catalog)
        with job.work.transaction():
            job.mark(job.work)
            job.journal.event("recovered", "; ".join([str(result), *map(str, result.conflicts)]), tables=(kept.table,))
            accept(job.work, read_catalog(job.side), kept.table)
        return result


@contextlib.contextmanager
def _at_work(target: Target, number: int, note: Note, actor: str, lock_wait_s: float) -> Iterator[_Job]:
    """Own the table, under the run that dropped the data, while the recovery works."""
    with target.connect("recover") as work, target.connect("recover:side") as side:
        work.execute("SET search_path = public")
        # A role may have one; what is counted and compared here grows with the table, and holds nobody up.
        for session in (work, side):
            session.execute("SET statement_timeout = 0")
        kept = find_kept(side, number)
        _refuse_gone(kept)
        journal = Journal(work, kept.run_id, actor)
        with fenced(work, kept.run_id, wait_s=5):
            journal.claim((kept.table,))
            try:
                settings = LockSettings(wait_s=lock_wait_s)
                executor = LockSafeExecutor(work, side, settings, note)
                yield _Job(kept, work, side, executor, journal, lock_wait_s, note)
            finally:
                if not side.closed:
                    journal.on(side).release()


def _refuse_gone(kept: KeptData) -> None:
    if kept.run_status not in FINAL:
        raise JournalError(
            f"run {kept.run_id} of {kept.change}, which dropped {kept.what}, has not ended",
            hint="let it end, or reconcile it, first",
        )
    if kept.purged_at is not None or not (kept.there or (kept.kind == "table" and kept.recovered_at)):
        raise JournalError(
            f"{kept.what} was {kept.state}; nothing of it is kept any more", hint="restore a backup of that time"
        )


# -- a column ----------------------------------------------------------------------------------------------------------


def _column(job: _Job, catalog: Catalog) -> Recovered:
    kept = job.kept
    relation = _target_of(job, catalog)
    there = relation.column(kept.column_name)
    if there is None:
        job.transaction(statements.add_column(kept), kept.table)
        job.note(f"added {kept.table}.{kept.column_name} again")
    elif there.type != kept.definition["type"]:
        raise JournalError(
            f"{kept.table}.{kept.column_name} is {there.type} now, the values that are kept are "
            f"{kept.definition['type']}",
            hint="rename the new column first, or export the values and convert them by hand",
        )
    rows = job.walk(statements.fill_column(kept))
    conflicts = job.conflicts(
        ("the column has another value now", statements.other_values(kept)),
        ("there is no row of that key any more", statements.without_row(kept)),
    )
    return Recovered(kept.what, rows, conflicts, tuple(_of_column(kept, added=there is None)))


def _of_column(kept: KeptData, *, added: bool) -> Iterator[str]:
    was = kept.definition
    name = f"{kept.table}.{kept.column_name}"
    if not was["nullable"]:
        yield f"{name} was NOT NULL: set_not_null in a change gives that back, once every row has a value"
    if was["identity"] or was["generated"]:
        how = "an identity" if was["identity"] else f"generated as {was['generated']}"
        yield f"{name} was {how}: it is a plain column now"
    elif was["default"] and not (added and statements.keeps_default(kept)):
        yield f"{name} had the default {was['default']}: set_default in a change gives that back"
    yield f"indexes and constraints made of {name} are not brought back"


# -- a table -----------------------------------------------------------------------------------------------------------


def _table(job: _Job, catalog: Catalog) -> Recovered:
    kept = job.kept
    if kept.there:
        found = tuple(kept.definition["back"])
        tables = (*(Table(kept.kept.schema, name) for name in kept.definition["tables"]), kept.table)
        job.transaction(found, *tables, recovered=True)
        job.note(f"{kept.kept} is {kept.table} again")
    problems = [_foreign_key(job, catalog, key) for key in kept.definition["foreign_keys"]]
    return Recovered(kept.what, None, (), tuple(filter(None, problems)))


def _foreign_key(job: _Job, catalog: Catalog, key: dict[str, object]) -> str | None:
    """Put a foreign key back, NOT VALID first; return why it is not there, or not valid."""
    table, parent = (Table(*key[name]) for name in ("table", "references"))  # type: ignore[misc]
    constraint = Constraint(
        name=str(key["name"]),
        type="f",
        definition=str(key["definition"]),
        validated=bool(key["validated"]),
        comment=None if key["comment"] is None else str(key["comment"]),
    )
    what = f"foreign key {constraint.name} of {table} ({constraint.definition})"
    if catalog.get(parent) is None:
        return f"{what} is not brought back: {parent} does not exist any more"
    try:
        job.executor.autocommit(
            constraints.put_back(table, constraint), tables=(table, parent), lock=LockMode.ACCESS_EXCLUSIVE
        )
    except ExecutionError as error:
        return f"{what} is not brought back in full: {error.message}"
    return None


# -- rows --------------------------------------------------------------------------------------------------------------


def _rows(job: _Job, catalog: Catalog) -> Recovered:
    kept = job.kept
    relation = _target_of(job, catalog)
    found = job.side.execute(sqlfiles.block("queries/retention", "columns_of"), {"table": kept.kept.quoted}).fetchall()
    names = {name for name, generated in found if not generated}
    columns = tuple(c.name for c in relation.columns if c.name in names and not c.generated)
    notices = []
    if lost := sorted(names - {c.name for c in relation.columns}):
        notices.append(
            f"{kept.table} has no column {', '.join(lost)} any more; the kept values of it stay where they are"
        )
    if kept.kind == "table" and any(c.identity or "nextval(" in (c.default or "") for c in relation.columns):
        notices.append(
            f"sequences of {kept.table} stay where they are: look whether they are behind the rows brought back"
        )
    job.work.execute(statements.index_by_key(kept))
    rows = job.walk(statements.insert_rows(kept, relation, columns))
    conflicts = job.conflicts(
        ("there is another row of that key now", statements.other_rows(kept, columns)),
        ("something else has one of its unique values now", statements.without_row(kept)),
    )
    return Recovered(kept.what, rows, conflicts, tuple(notices))


def _target_of(job: _Job, catalog: Catalog) -> Relation:
    """Return the table the data goes to. Raises JournalError when there is none, or rows cannot be told apart."""
    kept = job.kept
    relation = catalog.get(kept.table)
    hint = f"export it: schema-change recover --id {kept.id} --csv FILE"
    if relation is None or relation.kind not in {"r", "p"}:
        is_now = "does not exist any more" if relation is None else "is no table any more"
        raise JournalError(f"{kept.table} {is_now}, so {kept.what} cannot be brought back", hint=hint)
    if not kept.key_columns:
        raise JournalError(f"{kept.what}: there was no key to tell rows apart by", hint=hint)
    if gone := [c for c in kept.key_columns if relation.column(c) is None]:
        raise JournalError(f"{kept.table} has no column {', '.join(gone)} any more, by which rows are found", hint=hint)
    return relation
