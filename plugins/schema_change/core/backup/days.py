"""Rows of the warehouse's daily views: a dump has none of theirs, and to ask the sources anew takes hours.

They are in files of their own, as COPY writes them. A restore loads them into tables of schema ``_wh_kept``, from which
the days are filled under their own definitions; then the schema is dropped.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import IsolationLevel, sql
from psycopg.abc import Buffer
from upath import UPath

from schema_change.core import sqlfiles
from schema_change.core.backup import files
from schema_change.core.backup.checksums import checksum_of
from schema_change.core.backup.manifest import BackupFile, DayRows
from schema_change.core.database import Connection, Target
from schema_change.core.errors import BackupError
from schema_change.core.execution.statements import message_of
from schema_change.core.names import Table

SCHEMA = "_wh_kept"
#: What a row begins with: names that no column of a template has.
_PLACE = (("_wh_schema", "text"), ("_wh_day", "date"))
#: Each day takes several locks until the end of a transaction.
_AT_ONCE = 50
_GZIP, _FASTEST = 31, 1


@dataclass(frozen=True, slots=True)
class Days:
    """Daily views of a template that hold rows and have the same columns (names and types), each with its date."""

    template: str
    columns: tuple[tuple[str, str], ...]
    views: tuple[tuple[Table, str], ...]


def days_with_rows(session: Connection, templates: Sequence[str] | None) -> tuple[Days, ...]:
    """Return the daily views of templates, of all with None; nothing where there is no toolkit."""
    installed = session.execute(sqlfiles.block("queries/warehouse", "is_installed")).fetchone()
    if installed is None or not installed[0]:
        return ()
    wanted = {"templates": None if templates is None else list(templates)}
    rows = session.execute(sqlfiles.block("queries/warehouse", "days_with_rows"), wanted).fetchall()
    return tuple(
        Days(
            template,
            tuple((name, type_) for name, type_ in columns),
            tuple((Table(schema, name), day) for schema, name, day in views),
        )
        for template, columns, views in rows
    )


def write_days(
    target: Target, snapshot: str, found: Sequence[Days], folder: UPath
) -> tuple[tuple[DayRows, ...], tuple[BackupFile, ...]]:
    """Copy the rows of days, as an exported snapshot has them, into files of the folder, with counts and checksums.

    A day that is refreshed just then has the rows from before it or behind it, and all of these.
    """
    kept: list[DayRows] = []
    written: list[BackupFile] = []
    with target.connect("backup:days") as session:
        session.isolation_level, session.read_only = IsolationLevel.REPEATABLE_READ, True
        for number, days in enumerate(found, 1):
            counts: list[tuple[int, str]] = []
            file = files.write_blocks(folder, f"days_{number}.gz", _packed(_rows(session, snapshot, days, counts)))
            written.append(file)
            kept.append(
                DayRows(
                    file=file.name,
                    template=days.template,
                    columns=days.columns,
                    days=tuple((view.schema, day) for view, day in days.views),
                    rows=sum(rows for rows, _ in counts),
                    checksum=str(sum(int(checksum) for _, checksum in counts)),
                )
            )
    return tuple(kept), tuple(written)


def _rows(session: Connection, snapshot: str, days: Days, counts: list[tuple[int, str]]) -> Iterator[Buffer]:
    """Yield the rows, and count them on the way: while a transaction has read a day, nobody replaces its rows."""
    names = _names(days.columns)
    for start in range(0, len(days.views), _AT_ONCE):
        query = sql.SQL(" UNION ALL ").join(
            _select(days, view, day) for view, day in days.views[start : start + _AT_ONCE]
        )
        with session.transaction():
            session.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(snapshot)))
            _pin(session)
            counts.append(checksum_of(session, sql.SQL("({}) AS days").format(query), names))
            with session.cursor() as cursor, cursor.copy(sql.SQL("COPY ({}) TO STDOUT").format(query)) as copy:
                yield from copy


def _select(days: Days, view: Table, day: str) -> sql.Composed:
    (schema_name, _), (day_name, _) = _PLACE
    return sql.SQL("SELECT {}::text AS {}, {}::date AS {}, {} FROM {}").format(
        sql.Literal(view.schema),
        sql.Identifier(schema_name),
        sql.Literal(day),
        sql.Identifier(day_name),
        sql.SQL(", ").join(sql.Identifier(name) for name, _ in days.columns),
        view.identifier,
    )


def _packed(rows: Iterator[Buffer]) -> Iterator[bytes]:
    """Yield rows as blocks of a gzip file."""
    packer = zlib.compressobj(_FASTEST, zlib.DEFLATED, _GZIP)
    block = bytearray()
    for row in rows:
        block += row
        if len(block) >= files.CHUNK_BYTES:
            yield packer.compress(block)
            block.clear()
    yield packer.compress(block)
    yield packer.flush()


def _names(columns: Sequence[tuple[str, str]]) -> list[str]:
    return [name for name, _ in (*_PLACE, *columns)]


def _pin(session: Connection) -> None:
    """Let values be written, and read, in one way everywhere."""
    session.execute(sqlfiles.block("queries/backup", "pin_input"))
    session.execute(sqlfiles.block("queries/backup", "pin_formats"))


def verify_days(database: Target, kept: Sequence[DayRows], folder: Path) -> None:
    """Load the rows and compare them with what was counted. Raises BackupError."""
    with _loaded(database, kept, folder):
        pass


def refill_days(database: Target, kept: Sequence[DayRows], folder: Path) -> list[str]:
    """Fill the days that hold no rows with those of a backup; return those that could not be, with the reason.

    No source is asked. A day that is not there is made. Raises BackupError, also for who is no superuser.
    """
    with _loaded(database, kept, folder), database.connect("restore") as session:
        return [
            failure
            for each in kept
            for start in range(0, len(each.days), _AT_ONCE)
            for failure in _refill(session, each, each.days[start : start + _AT_ONCE])
        ]


def _refill(session: Connection, kept: DayRows, days: Sequence[tuple[str, str]]) -> list[str]:
    values = {
        "kept": _table(kept).quoted,
        "template": kept.template,
        "schemas": [schema for schema, _ in days],
        "days": [day for _, day in days],
    }
    try:
        rows = session.execute(sqlfiles.block("queries/warehouse", "refill_days"), values).fetchall()
    except psycopg.errors.InsufficientPrivilege as error:
        raise BackupError(
            f"days cannot be filled without their sources: {message_of(error)}",
            hint="while they are filled, dblink gives the rows of the backup: that needs a superuser",
        ) from error
    return [f"{schema}: {kept.template} of {day:%F} is not filled: {error}" for schema, day, error in rows]


@contextmanager
def _loaded(database: Target, kept: Sequence[DayRows], folder: Path) -> Iterator[None]:
    """Load the rows into tables that are there for as long as the body runs."""
    if not kept:
        yield
        return
    schema = sql.Identifier(SCHEMA)
    with database.connect("restore") as session:
        # What a restore that was killed has left.
        session.execute(sql.SQL("DROP SCHEMA IF EXISTS {0} CASCADE; CREATE SCHEMA {0}").format(schema))
        try:
            for each in kept:
                _load(session, each, folder)
            yield
        finally:
            session.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(schema))


def _load(session: Connection, kept: DayRows, folder: Path) -> None:
    table = _table(kept).identifier
    # The types are format_type()'s own words.
    columns = (sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(t)) for name, t in (*_PLACE, *kept.columns))
    with session.transaction():
        _pin(session)
        session.execute(sql.SQL("CREATE UNLOGGED TABLE {} ({})").format(table, sql.SQL(", ").join(columns)))
        with (
            gzip.open(folder / kept.file) as source,
            session.cursor() as cursor,
            cursor.copy(sql.SQL("COPY {} FROM STDIN").format(table)) as copy,
        ):
            while block := source.read(files.CHUNK_BYTES):
                copy.write(block)
        place = sql.SQL(", ").join(sql.Identifier(name) for name, _ in _PLACE)
        session.execute(sql.SQL("CREATE INDEX ON {} ({})").format(table, place))
        found = checksum_of(session, table, _names(kept.columns))
    if found != (kept.rows, kept.checksum):
        raise BackupError(
            f"the days of {kept.template} differ from the backup: {found[0]} rows, {kept.rows} were written",
            hint="do not use this backup; take another one and compare client and server versions",
        )


def _table(kept: DayRows) -> Table:
    return Table(SCHEMA, Path(kept.file).stem)
