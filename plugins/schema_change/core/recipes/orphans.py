"""Rows that refer to nothing: found, and set to NULL or given a placeholder to refer to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from psycopg import sql

from schema_change.core.catalog.model import Catalog, Relation
from schema_change.core.errors import PlanError
from schema_change.core.model import Batch, DataCheck, Phase, Retired, Step
from schema_change.core.names import Table
from schema_change.core.recipes import keep_column, probe, raw, text
from schema_change.core.recipes.rows import (
    KEEP_DAYS,
    Cleaning,
    column_list,
    create_kept,
    drain,
    drop_kept,
    last_pass,
    walk,
)
from schema_change.core.sqltext.expression import Expression
from schema_change.core.sqltext.foreign_keys import ForeignKey, foreign_keys_to

_AND, _COMMA = sql.SQL(" AND "), sql.SQL(", ")
_PARENT, _KEPT, _CHILD = "schema_change_parent", "schema_change_kept", "schema_change_child"


@dataclass(frozen=True, slots=True)
class Reference:
    """What a foreign key demands: ``columns`` of ``relation`` exist as ``parent_columns`` of ``parent``."""

    relation: Relation
    columns: tuple[str, ...]
    parent: Relation
    parent_columns: tuple[str, ...]

    @property
    def orphaned(self) -> str:
        """Return the predicate of the rows without a parent: no column is NULL, and no row of the parent matches."""
        table = self.relation.table.name
        complete = (sql.SQL("{} IS NOT NULL").format(sql.Identifier(table, c)) for c in self.columns)
        match = _same(_PARENT, self.parent_columns, table, self.columns)
        missing = sql.SQL("NOT EXISTS (SELECT FROM {} AS {} WHERE {})").format(
            self.parent.table.identifier, sql.Identifier(_PARENT), match
        )
        return text(_AND.join((*complete, missing)))

    def check(self, remedy: str) -> DataCheck:
        """Return the pre-check that counts the orphans."""
        where = sql.SQL("FROM {} WHERE {}").format(self.relation.table.identifier, raw(self.orphaned))
        shown = _COMMA.join(map(sql.Identifier, dict.fromkeys((*self.relation.key, *self.columns))))
        return DataCheck(
            name=f"rows of {self.relation.table} without their row in {self.parent.table}",
            count=text(sql.SQL("SELECT count(*) {}").format(where)),
            sample=text(sql.SQL("SELECT {} {} LIMIT 10").format(shown, where)),
            remedy=remedy,
        )

    def partly_null(self) -> DataCheck:
        """Return the pre-check of MATCH FULL: a reference is NULL as a whole, or not at all."""
        nulls = sql.SQL("num_nulls({})").format(_COMMA.join(map(sql.Identifier, self.columns)))
        where = sql.SQL("FROM {} WHERE {} BETWEEN 1 AND {}").format(
            self.relation.table.identifier, nulls, sql.Literal(len(self.columns) - 1)
        )
        shown = _COMMA.join(map(sql.Identifier, dict.fromkeys((*self.relation.key, *self.columns))))
        return DataCheck(
            name=f"rows of {self.relation.table} whose ({', '.join(self.columns)}) is partly NULL",
            count=text(sql.SQL("SELECT count(*) {}").format(where)),
            sample=text(sql.SQL("SELECT {} {} LIMIT 10").format(shown, where)),
            remedy="complete them or set all the columns to NULL, or leave out match: full",
        )


def set_null(reference: Reference, kept: Table, purpose: str, *, whole: bool) -> Cleaning:
    """Return what sets the columns of orphans to NULL and keeps their values in ``kept``, by key.

    With ``whole`` (MATCH FULL) every column must become NULL, else those that may be. An undo gives a row its
    values back when they are still NULL. Raises PlanError when the columns are NOT NULL or rows have no key.
    """
    relation = reference.relation
    table = relation.table
    emptied = _nullable(reference, whole=whole)
    if not relation.key:
        raise PlanError(
            f"{table} has no key, so a rollback could not tell which rows were set to NULL",
            hint="add a primary key first, or choose orphans: delete",
        )
    names = _COMMA.join(map(sql.Identifier, (*relation.key, *emptied)))
    head = sql.SQL("WITH found AS (SELECT {own} FROM {table} WHERE ").format(
        own=_qualified(table.name, (*relation.key, *emptied)), table=table.identifier
    )
    tail = sql.SQL(
        " FOR UPDATE OF {name}), emptied AS (UPDATE {table} SET {nulls} FROM found WHERE {same} RETURNING found.*)"
        " INSERT INTO {kept} ({names}) SELECT {names} FROM emptied ON CONFLICT ({key}) DO UPDATE SET {newer}"
    ).format(
        name=sql.Identifier(table.name),
        table=table.identifier,
        nulls=_COMMA.join(sql.SQL("{} = NULL").format(sql.Identifier(c)) for c in emptied),
        same=_same(table.name, relation.key, "found", relation.key),
        kept=kept.identifier,
        names=names,
        key=_COMMA.join(map(sql.Identifier, relation.key)),
        newer=_COMMA.join(sql.SQL("{0} = excluded.{0}").format(sql.Identifier(c)) for c in emptied),
    )
    batch = Batch(text(head), text(tail), drain(kept, _give_back(relation, emptied)), "set to NULL")
    recoverable = len(emptied) == 1
    lost = f"the old values of ({', '.join(emptied)}) of orphans are kept until contract only; the backup has them"
    return Cleaning(
        before=(
            create_kept(kept, table, _shape(relation, emptied), f"values of {', '.join(emptied)} set to NULL in"),
            walk(relation, batch, reference.orphaned, purpose),
        ),
        last=last_pass(relation, batch, reference.orphaned, purpose),
        after=() if recoverable else (_forget(kept, table, "which values orphans had"),),
        retired=(_values(relation, emptied[0], kept),) if recoverable else (),
        notices=() if recoverable else (lost,),
    )


def placeholders(
    catalog: Catalog, reference: Reference, values: Mapping[str, Expression], kept: Table, purpose: str
) -> Cleaning:
    """Return what inserts a row into the parent for every orphan; ``values`` fill its other columns.

    ``kept`` remembers the rows until contract: an undo deletes those that are still as they were inserted and that
    no foreign key refers to.
    """
    child, parent = reference.relation.table, reference.parent
    _refuse_incomplete(reference, values)
    key = _COMMA.join(map(sql.Identifier, reference.parent_columns))
    given = _COMMA.join(map(sql.Identifier, (*reference.parent_columns, *values)))
    keys = _qualified(child.name, reference.columns)
    chosen = _COMMA.join((keys, *(sql.SQL("({})").format(raw(e.text)) for e in values.values())))
    head = sql.SQL(
        "WITH made AS (INSERT INTO {parent} AS {alias} ({given}) OVERRIDING SYSTEM VALUE"
        " SELECT DISTINCT ON ({keys}) {chosen} FROM {child} WHERE "
    ).format(
        parent=parent.table.identifier,
        alias=sql.Identifier(_PARENT),
        given=given,
        keys=keys,
        chosen=chosen,
        child=child.identifier,
    )
    tail = sql.SQL(
        " ON CONFLICT ({key}) DO NOTHING RETURNING {all}) INSERT INTO {kept} ({names}) SELECT {names} FROM made"
    ).format(
        key=key,
        all=_qualified(_PARENT, tuple(c.name for c in parent.columns)),
        kept=kept.identifier,
        names=column_list(parent),
    )
    batch = Batch(
        text(head), text(tail), drain(kept, _unmake(catalog, reference)), f"given a placeholder in {parent.table}"
    )
    shape = text(sql.SQL("(LIKE {})").format(parent.table.identifier))
    return Cleaning(
        before=(
            create_kept(kept, parent.table, shape, "placeholders inserted into"),
            walk(reference.relation, batch, reference.orphaned, purpose),
        ),
        last=last_pass(reference.relation, batch, reference.orphaned, purpose),
        after=(_forget(kept, parent.table, "which rows are placeholders"),),
        notices=_notices(reference),
    )


def _values(relation: Relation, column: str, kept: Table) -> Retired:
    """Return the record of the values that are kept; a recovery gives them to the rows that still hold NULL."""
    shape = next(c for c in relation.columns if c.name == column)
    record = keep_column.retired(relation, shape, kept, KEEP_DAYS)
    return replace(record, definition={**record.definition, "values": True})


def _forget(kept: Table, table: Table, what: str) -> Step:
    return Step(
        phase=Phase.CONTRACT,
        title=f"forget {what} in {table}",
        tables=(table,),
        statements=(drop_kept(kept),),
        probe=probe("relation_absent", relation=kept.quoted),
        lasting=False,
    )


def _nullable(reference: Reference, *, whole: bool) -> tuple[str, ...]:
    columns = [c for c in reference.relation.columns if c.name in reference.columns]
    emptied = tuple(c.name for c in columns if c.nullable and not c.generated)
    if not emptied or (whole and len(emptied) < len(columns)):
        fixed = ", ".join(c.name for c in columns if c.name not in emptied)
        raise PlanError(
            f"orphans: set_null: {fixed} of {reference.relation.table} cannot be NULL",
            hint="choose orphans: delete or a placeholder, or drop the NOT NULL first (drop_not_null)",
        )
    return emptied


def _shape(relation: Relation, emptied: tuple[str, ...]) -> str:
    """Return the columns of the table that keeps values: the key and what is set to NULL."""
    columns = _COMMA.join(
        sql.SQL("{} {}").format(sql.Identifier(c.name), raw(c.type))
        for c in relation.columns
        if c.name in {*relation.key, *emptied}
    )
    key = _COMMA.join(map(sql.Identifier, relation.key))
    return text(sql.SQL("({}, PRIMARY KEY ({}))").format(columns, key))


def _give_back(relation: Relation, emptied: tuple[str, ...]) -> sql.Composed:
    name = relation.table.name
    return sql.SQL("UPDATE {table} SET {values} FROM batch WHERE {same} AND {null} RETURNING 1").format(
        table=relation.table.identifier,
        values=_COMMA.join(sql.SQL("{0} = batch.{0}").format(sql.Identifier(c)) for c in emptied),
        same=_same(name, relation.key, "batch", relation.key),
        null=_AND.join(sql.SQL("{} IS NULL").format(sql.Identifier(name, c)) for c in emptied),
    )


def _unmake(catalog: Catalog, reference: Reference) -> sql.Composed:
    """Return the DELETE of the placeholders that nobody has changed and no foreign key refers to."""
    parent = reference.parent
    written = tuple(c.name for c in parent.columns if not c.generated)
    unused = (_not_referred(key) for key in foreign_keys_to(catalog, parent.table))
    conditions = (
        _same(_PARENT, reference.parent_columns, "batch", reference.parent_columns),
        # As text, because not every type can be compared.
        sql.SQL("ROW({})::text = ROW({})::text").format(_qualified(_PARENT, written), _qualified("batch", written)),
        *unused,
    )
    return sql.SQL("DELETE FROM {} AS {} USING batch WHERE {} RETURNING 1").format(
        parent.table.identifier, sql.Identifier(_PARENT), _AND.join(conditions)
    )


def _not_referred(key: ForeignKey) -> sql.Composable:
    if not key.parent_columns:
        return sql.SQL("false")  # nobody can tell what refers to the row
    return sql.SQL("NOT EXISTS (SELECT FROM {} AS {} WHERE {})").format(
        key.table.identifier, sql.Identifier(_CHILD), _same(_CHILD, key.columns, _PARENT, key.parent_columns)
    )


def _refuse_incomplete(reference: Reference, values: Mapping[str, Expression]) -> None:
    parent = reference.parent
    for name in values:
        column = parent.column(name)
        if column is None or column.generated or name in reference.parent_columns:
            why = "is none of its columns" if column is None else "gets its value otherwise"
            raise PlanError(
                f"orphans: placeholder: {name} of {parent.table} {why}",
                hint=f"give values for: {', '.join(_free_columns(reference)) or 'no column'}",
            )
    missing = [
        c.name
        for c in parent.columns
        if not (c.nullable or c.default or c.identity or c.generated or c.name in {*reference.parent_columns, *values})
    ]
    if missing:
        raise PlanError(
            f"a placeholder in {parent.table} needs a value for {', '.join(missing)}",
            hint=f"add it: orphans: {{placeholder: {{{missing[0]}: <expression>}}}}",
        )


def _free_columns(reference: Reference) -> list[str]:
    return [c.name for c in reference.parent.columns if not c.generated and c.name not in reference.parent_columns]


def _notices(reference: Reference) -> tuple[str, ...]:
    columns = (reference.parent.column(name) for name in reference.parent_columns)
    counted = [c.name for c in columns if c is not None and (c.identity or "nextval(" in (c.default or ""))]
    if not counted:
        return ()
    left = (
        f"placeholders take the keys that orphans name; the sequence of {reference.parent.table}.{counted[0]} is left "
        "where it is, so no orphan may name a key that is still to be given out"
    )
    return (left,)


def _same(left: str, ours: tuple[str, ...], right: str, theirs: tuple[str, ...]) -> sql.Composed:
    pairs = zip(ours, theirs, strict=True)
    return _AND.join(sql.SQL("{} = {}").format(sql.Identifier(left, a), sql.Identifier(right, b)) for a, b in pairs)


def _qualified(name: str, columns: tuple[str, ...]) -> sql.Composed:
    return _COMMA.join(sql.Identifier(name, c) for c in columns)
