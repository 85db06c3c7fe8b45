"""UNIQUE and PRIMARY KEY from an index that was built concurrently; the constraint itself is then only catalog."""

from __future__ import annotations

import re

from pglast.parser import ParseError
from psycopg import sql

from schema_change.core.catalog.model import Constraint, Index, Relation
from schema_change.core.model import DataCheck, LockMode, Phase, Step
from schema_change.core.names import Table
from schema_change.core.recipes import constraint as constraints
from schema_change.core.recipes import probe, raw, text
from schema_change.core.sqltext import grammar

_DEFINITION = re.compile(r'CREATE UNIQUE INDEX (?:"(?:[^"]|"")+"|[^" ]+) ON (?P<rest>.*)', re.DOTALL)


def definition(
    table: Table, name: str, columns: tuple[str, ...], *, include: tuple[str, ...] = (), distinct: bool = True
) -> str:
    """Return the CREATE UNIQUE INDEX CONCURRENTLY on plain columns; without ``distinct`` NULLs equal each other."""
    return text(
        sql.SQL("CREATE UNIQUE INDEX CONCURRENTLY {} ON {} ({}){}{}").format(
            sql.Identifier(name),
            table.identifier,
            _listed(columns),
            sql.SQL(" INCLUDE ({})").format(_listed(include)) if include else sql.SQL(""),
            sql.SQL("" if distinct else " NULLS NOT DISTINCT"),
        )
    )


def copy_of(index: Index, name: str) -> str | None:
    """Return the statement that builds the same index concurrently under another name; None when it is none of ours."""
    match = _DEFINITION.fullmatch(index.definition)
    if match is None:
        return None
    return text(sql.SQL("CREATE UNIQUE INDEX CONCURRENTLY {} ON {}").format(sql.Identifier(name), raw(match["rest"])))


def attach(table: Table, name: str, kind: str, index: str, *, deferrable: str = "") -> str:
    """Return the statement that makes a constraint of an index, which gets the constraint's name."""
    return text(
        sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {} USING INDEX {}{}").format(
            table.identifier, sql.Identifier(name), sql.SQL(kind), sql.Identifier(index), sql.SQL(deferrable)
        )
    )


def deferrable(constraint: Constraint) -> str:
    """Return how a constraint may be deferred, as it stands at the end of its definition."""
    for suffix in (" DEFERRABLE INITIALLY DEFERRED", " DEFERRABLE"):
        if constraint.definition.endswith(suffix):
            return suffix
    return ""


def attach_step(table: Table, name: str, kind: str, *, phase: Phase) -> Step:
    """Return the step that makes a constraint of the index of the same name. Its undo drops both."""
    return Step(
        phase=phase,
        title=f"make {name} a {kind} constraint of {table}",
        tables=(table,),
        statements=(attach(table, name, kind, name),),
        lock=LockMode.ACCESS_EXCLUSIVE,
        probe=probe("constraint_exists", table=table.quoted, constraint=name),
        undo=(constraints.drop(table, name),),
        undo_lock=LockMode.ACCESS_EXCLUSIVE,
    )


def duplicates(table: Table, columns: tuple[str, ...], *, distinct: bool = True) -> DataCheck:
    """Return the pre-check that counts the rows which share a key; with ``distinct``, a key with a NULL is no key."""
    return _shared(table, table.identifier, columns, distinct=distinct)


def duplicates_to_be(new: Relation, rows: sql.Composable, columns: tuple[str, ...]) -> tuple[DataCheck, ...]:
    """Return the pre-checks that rows fit the unique indexes of a table which is still to be made.

    ``rows`` is the query of the rows it will get, with these columns; an index on anything else is not looked at.
    """
    source = sql.SQL("({}) AS schema_change_rows").format(rows)
    return tuple(
        _shared(new.table, source, index.columns)
        for index in new.indexes
        if not index.primary and is_plain_and_unique(index) and set(index.columns) <= set(columns)
    )


def is_plain_and_unique(index: Index) -> bool:
    """Tell whether an index is unique over plain columns and all rows."""
    if not (index.unique and index.valid):
        return False
    try:
        node = grammar.parse(index.definition)[0].stmt
    except ParseError:
        return False
    return node.whereClause is None and all(key.name for key in node.indexParams)


def _shared(table: Table, rows: sql.Composable, columns: tuple[str, ...], *, distinct: bool = True) -> DataCheck:
    key = _listed(columns)
    complete = sql.SQL(" AND ").join(sql.SQL("{} IS NOT NULL").format(sql.Identifier(c)) for c in columns)
    groups = sql.SQL("SELECT {key}, count(*) AS rows FROM {table} WHERE {which} GROUP BY {key} HAVING count(*) > 1")
    shared = groups.format(key=key, table=rows, which=complete if distinct else sql.SQL("true"))
    return DataCheck(
        name=f"rows of {table} that share ({', '.join(columns)})",
        count=text(sql.SQL("SELECT coalesce(sum(d.rows), 0)::bigint FROM ({}) AS d").format(shared)),
        sample=text(sql.SQL("{} ORDER BY {} LIMIT 10").format(shared, key)),
        remedy="merge or delete the duplicates first; the last value shown is how many rows share the key",
    )


def _listed(columns: tuple[str, ...]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, columns))
