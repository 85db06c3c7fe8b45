"""A new table beside one that exists: the same owner and the same grants, so that the same roles may use it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from psycopg import sql

from schema_change.core.catalog.model import Catalog, Column, Constraint, Index, Relation
from schema_change.core.errors import PlanError
from schema_change.core.model import LockMode, Phase, Step
from schema_change.core.names import Table, quote, short_name
from schema_change.core.recipes import grants, probe, raw, text
from schema_change.core.recipes.index import is_taken
from schema_change.core.sqltext.expression import IndexKey
from schema_change.core.sqltext.grammar import identifier

_COMMA = sql.SQL(", ")


def named(relation: Relation, written: str) -> Column | None:
    """Return the column that a text of the change file names, if it is nothing but a name, quoted or not."""
    spelled = ((c, {c.name, identifier(c.name), quote(c.name)}) for c in relation.columns)
    return next((c for c, names in spelled if written.strip() in names), None)


def shape(
    catalog: Catalog, original: Relation, table: Table, columns: tuple[Column, ...], key: tuple[str, ...]
) -> Relation:
    """Return the new table as a relation with its primary key. Raises PlanError when its name is taken."""
    if is_taken(catalog, table):
        raise PlanError(f"there is already a relation or index {table}", hint="choose another name for the new table")
    if table.schema not in {"public", original.table.schema} and not any(
        kind.startswith("schema ") and Table.parse(f"{kind.removeprefix('schema ')}.x").schema == table.schema
        for kind in catalog.objects
    ):
        raise PlanError(f"there is no schema {table.schema}", hint="create it first, or name another one")
    primary = short_name(table.name, "pkey")
    definition = text(sql.SQL("PRIMARY KEY ({})").format(_COMMA.join(map(sql.Identifier, key))))
    return Relation(
        table=table,
        kind="r",
        owner=original.owner,
        columns=tuple(replace(c, nullable=c.nullable and c.name not in key) for c in columns),
        constraints=(Constraint(primary, "p", definition, key),),
        indexes=(Index(primary, definition, key, unique=True, primary=True),),
        grants=original.grants,
    )


def with_index(
    catalog: Catalog, new: Relation, keys: Sequence[IndexKey], name: str | None, *, unique: bool
) -> Relation:
    """Return the new table with one more index. Raises PlanError when its name is taken."""
    plain = tuple(key.column for key in keys if key.column)
    index = Table(new.table.schema, name or short_name(new.table.name, *(plain or ("expr",)), "idx"))
    if new.index(index.name) or is_taken(catalog, index):
        raise PlanError(f"there is already a relation or index {index}", hint="give the index another name")
    definition = sql.SQL("CREATE {}INDEX {} ON {} ({})").format(
        sql.SQL("UNIQUE " if unique else ""),
        sql.Identifier(index.name),
        new.table.identifier,
        _COMMA.join(raw(key.text) for key in keys),
    )
    return replace(new, indexes=(*new.indexes, Index(index.name, text(definition), plain, unique=unique)))


def create(new: Relation) -> Step:
    """Return the expand step that creates the table as :func:`shape` gave it, with further indexes if it has any."""
    table = new.table
    items = [_column(c) for c in new.columns]
    items += [sql.SQL("CONSTRAINT {} {}").format(sql.Identifier(c.name), raw(c.definition)) for c in new.constraints]
    statements = [text(sql.SQL("CREATE TABLE {} ({})").format(table.identifier, _COMMA.join(items)))]
    statements += [i.definition for i in new.indexes if not i.primary]
    if new.comment is not None:
        comment = sql.SQL("COMMENT ON TABLE {} IS {}")
        statements.append(text(comment.format(table.identifier, sql.Literal(new.comment))))
    for column in (c for c in new.columns if c.comment is not None):
        comment = sql.SQL("COMMENT ON COLUMN {} IS {}")
        name = sql.Identifier(table.schema, table.name, column.name)
        statements.append(text(comment.format(name, sql.Literal(column.comment))))
    owner = sql.SQL("ALTER TABLE {} OWNER TO {}").format(table.identifier, sql.Identifier(new.owner))
    return Step(
        phase=Phase.EXPAND,
        title=f"create table {table}",
        tables=(table,),
        statements=(*statements, text(owner), *grants.to_others(new)),
        lock=LockMode.NONE,
        probe=probe("name_taken", relation=table.quoted),
        undo=(text(sql.SQL("DROP TABLE IF EXISTS {}").format(table.identifier)),),
        undo_lock=LockMode.ACCESS_EXCLUSIVE,
    )


def _column(column: Column) -> sql.Composed:
    return sql.SQL("{} {}{}{}{}").format(
        sql.Identifier(column.name),
        raw(column.type),
        sql.SQL(" COLLATE {}").format(raw(column.collation)) if column.collation else sql.SQL(""),
        sql.SQL(" DEFAULT {}").format(raw(column.default)) if column.default is not None else sql.SQL(""),
        sql.SQL("" if column.nullable else " NOT NULL"),
    )
