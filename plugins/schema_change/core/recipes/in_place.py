"""A type changed in place, by one ALTER TABLE: for small tables, and where PostgreSQL does not look at the rows."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql

from schema_change.core.catalog.model import Catalog, Column, Relation
from schema_change.core.errors import PlanError
from schema_change.core.model import LockMode, Phase, Step
from schema_change.core.names import Table
from schema_change.core.recipes import carried, conversion, dependents, raw, swap, text
from schema_change.core.recipes import constraint as constraint_recipe
from schema_change.core.recipes import index as index_recipe
from schema_change.core.recipes.carried import Carried, Swap, alter, indexes_of
from schema_change.core.recipes.dual_write import Conversion
from schema_change.core.sqltext import renaming

#: What is copied, indexed and checked well within the five seconds that the application may be held up.
SMALL_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Target:
    """The type to change to, its collation, and the conversions there and back."""

    type: str
    collation: str | None
    up: Conversion
    down: Conversion


def is_small(catalog: Catalog, relation: Relation, column: str) -> bool:
    """Tell whether the table, with those whose foreign keys have to be checked again, is copied in no time."""
    others = {relation.table: relation}
    for other in catalog.around(relation.table):
        for key in other.constraints:
            if key.type == "f" and key.references == relation.table:
                others[other.table] = other
            if key.type == "f" and other.table == relation.table and column in key.columns and key.references:
                others |= {r.table: r for r in [catalog.get(key.references)] if r}
    return sum(r.bytes for r in others.values()) <= SMALL_BYTES


def is_instant(relation: Relation, column: Column, new: str, collation: str | None) -> bool:
    """Tell whether no row is looked at: nor for indexes with expressions and CHECKs, which PostgreSQL makes anew."""
    if not conversion.rewrites_nothing(column.type, new) or collation != column.collation:
        return False
    if any(c.type in "cx" and column.name in c.columns for c in relation.constraints):
        return False
    return all(renaming.is_plain(i.definition) for i in indexes_of(relation, column.name))


def converted_default(relation: Relation, column: Column, up: Conversion, new: str) -> str:
    """Return the column's default as one of the new type: the same conversion that the values go through.

    Raises PlanError when the conversion needs more of the row than this column.
    """
    default = column.default or "NULL"
    if up.expression is None:
        return f"({default})::{new}"
    found = renaming.substituted(up.expression.text, relation.table.name, column.name, f"({default})::{column.type}")
    if found is None:
        raise PlanError(
            f"the default of {relation.table}.{column.name} cannot be converted: using: reads more than the column",
            hint="drop the default before this operation and set another one behind it, in the same change",
        )
    return found


def step(
    catalog: Catalog, relation: Relation, column: Column, target: Target, *, phase: Phase
) -> tuple[Step, tuple[Table, ...]]:
    """Return the step that changes the type in place, and the relations that are made anew with it.

    Raises PlanError listing what PostgreSQL would not let go. In contract there is no way back, so the step has none.
    """
    table = relation.table
    place = Swap(catalog, relation, column.name, column.name, target.type)
    keys = carried.foreign_keys(place)
    made_of = dependents.of_column(place, statistics=False) + swap.sequences(place, column.type, target.type)
    made_of += _with_expressions(relation, column.name)
    swap.refuse(relation, column.name, (*keys.problems, *made_of.problems))
    default = column.default
    if default is not None and target.up != Conversion():
        default = converted_default(relation, column, target.up, target.type)

    def changed(to: str, collation: str | None, by: Conversion, new_default: str | None) -> tuple[str, ...]:
        using = by.of(column.name)
        change = sql.SQL("ALTER TABLE {} ALTER COLUMN {} TYPE {}{} USING {}").format(
            table.identifier,
            sql.Identifier(column.name),
            raw(to),
            raw(f" COLLATE {collation}" if collation else ""),
            raw(f"({using})"),
        )
        if new_default is None:
            return (text(change),)
        put = sql.SQL("ALTER TABLE {} ALTER COLUMN {} SET DEFAULT {}").format(
            table.identifier, sql.Identifier(column.name), raw(new_default)
        )
        return alter(table, "ALTER COLUMN {} DROP DEFAULT", column.name), text(change), text(put)

    undo = (
        *made_of.undo_before,
        *changed(column.type, column.collation, target.down, column.default),
        *made_of.undo_after,
    )
    late = phase is Phase.CONTRACT
    return Step(
        phase=phase,
        title=f"change {table}.{column.name} from {column.type} to {target.type} in place",
        tables=tuple(dict.fromkeys((table, *made_of.tables, *keys.tables))),
        statements=(
            *made_of.before,
            *changed(target.type, target.collation, target.up, default),
            *made_of.after,
        ),
        lock=LockMode.ACCESS_EXCLUSIVE,
        probe=swap.probe("column_type", table=table.quoted, column=column.name, type=target.type),
        undo=() if late else undo,
        undo_lock=LockMode.NONE if late else LockMode.ACCESS_EXCLUSIVE,
    ), made_of.touched


def _with_expressions(relation: Relation, column: str) -> Carried:
    """Return what is to be done for CHECKs and for indexes that are more than columns.

    PostgreSQL would make them anew of what they mean, casts and all, and the way back would not give the same text.
    """
    table, found = relation.table, Carried()
    for constraint in relation.constraints:
        if constraint.type == "c" and column in constraint.columns:
            add = sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {}").format(
                table.identifier, sql.Identifier(constraint.name), raw(constraint.definition)
            )
            drop = (alter(table, "DROP CONSTRAINT {}", constraint.name),)
            create = (text(add), *constraint_recipe.comment(table, constraint))
            found += Carried(before=drop, after=create, undo_before=drop, undo_after=create)
    for index in indexes_of(relation, column):
        if not renaming.is_plain(index.definition):
            drop = (index_recipe.drop(Table(table.schema, index.name)),)
            create = (index.definition, *carried.dress_index(relation, index))
            found += Carried(before=drop, after=create, undo_before=drop, undo_after=create)
    return found
