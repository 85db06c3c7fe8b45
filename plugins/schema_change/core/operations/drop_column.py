"""``drop_column``: hidden at cutover, which freezes it; its values are kept, and the column dropped, in contract."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

from psycopg import sql
from pydantic import Field

from schema_change.core import sqlfiles
from schema_change.core.catalog.model import Catalog, Column, Constraint, Relation
from schema_change.core.errors import PlanError
from schema_change.core.fields import Identifier, TableName
from schema_change.core.model import LockMode, Phase, Step
from schema_change.core.names import Table, hashed_name
from schema_change.core.operations.base import (
    Operation,
    PlanContext,
    Planned,
    column_of,
    expression_of,
    table_of,
)
from schema_change.core.operations.drop_constraint import DropConstraint
from schema_change.core.operations.drop_not_null import DropNotNull
from schema_change.core.recipes import constraint as constraints
from schema_change.core.recipes import dependents, filled_on_write, keep_column, partitioned_index, probe, retire, text
from schema_change.core.recipes import index as indexes
from schema_change.core.recipes.carried import alter
from schema_change.core.recipes.rows import kept_table
from schema_change.core.sqltext.expression import Expression, parse_expression

_FUNCTION = re.compile(r" EXECUTE FUNCTION (.+?)\(")
#: What can be false of NULL; any other condition is NULL then, which satisfies a CHECK.
_FALSE_OF_NULL = re.compile(r"\b(?:IS|COALESCE|num_nulls|num_nonnulls|CASE|concat)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Drop:
    """The column on its way out."""

    catalog: Catalog
    relation: Relation
    column: Column
    hidden: str
    kept: Table
    below: tuple[Table, ...]
    down: Expression | None

    @property
    def table(self) -> Table:
        """Return the table."""
        return self.relation.table

    @property
    def own(self) -> tuple[Constraint, ...]:
        """Return the constraints made of the column."""
        names = self.relation.parts_of(self.column.name, "constraint")
        return tuple(c for c in self.relation.constraints if c.name in names or self.column.name in c.columns)

    @property
    def gets_a_value(self) -> bool:
        """Tell whether a row inserted without the column has a value all the same."""
        given = (self.column.default, self.column.identity or None, self.column.generated or None, self.down)
        return any(value is not None for value in given)


class DropColumn(Operation):
    """Drop a column; its values are kept for a while and can be brought back."""

    kind: ClassVar[str] = "drop_column"

    table: TableName = Field(description="Table, as schema.table")
    column: Identifier = Field(description="Name of the column")
    down: str | None = Field(
        default=None, description="SQL expression over the row: the value that rows written after cutover would have"
    )
    also_drops: tuple[Identifier, ...] = Field(
        default=(), description="Indexes, constraints and statistics made of other columns too, which go with it"
    )
    keep_days: int = Field(
        default=30, ge=1, le=3650, description="Days that the values are kept before they are purged"
    )

    def plan(self, catalog: Catalog, context: PlanContext) -> Planned:
        """Return the steps: hide it at cutover; keep the values, drop what is made of it, and drop it in contract."""
        relation = table_of(catalog, self.table, partitions=True)
        drop = self._drop(catalog, relation, context)
        _refuse_hierarchy(drop)
        _refuse_used(drop)
        self._refuse_unnamed(drop)
        relaxed = tuple(_relaxed(drop, context))
        steps = (*(s for part in relaxed for s in part.steps), _hide(drop), *_contract(drop))
        return Planned(
            catalog=_without(drop),
            steps=steps,
            data_checks=(retire.is_free(drop.kept, f"values of {drop.table}.{self.column}"),),
            written=(drop.table,),
            read=drop.down.tables if drop.down else (),
            touched=(*drop.below, *(c.references for c in drop.own if c.references)),
            notices=(*_notices(drop), *(n for part in relaxed for n in part.notices)),
            one_way=_one_way(drop),
            retired=(keep_column.retired(relation, drop.column, drop.kept, self.keep_days),),
        )

    def _drop(self, catalog: Catalog, relation: Relation, context: PlanContext) -> _Drop:
        column, table = column_of(relation, self.column), relation.table
        hidden = hashed_name("schema_change_dropped", self.column)
        if any(t == table for t, _ in context.filled) or relation.column(hidden) is not None:
            raise PlanError(
                f"another operation of this change works on {table} until it has landed, and may read {self.column}",
                hint="drop the column in a change of its own, behind this one",
            )
        down = expression_of(catalog, parse_expression, self.down, "down") if self.down else None
        if down is not None:
            if down.may_read(table.name, self.column):
                raise PlanError("down: reads the column itself", hint="write an expression over the other columns")
            remedy = "write that column's own expression instead"
            filled_on_write.refuse_generated(relation, self.column, down, remedy)
        return _Drop(
            catalog=catalog,
            relation=relation,
            column=column,
            hidden=hidden,
            kept=kept_table("column", table, self.column, context.version),
            below=tuple(r.table for r in catalog.below(table)),
            down=down,
        )

    def _refuse_unnamed(self, drop: _Drop) -> None:
        """Raise PlanError when something made of other columns too would go without being named."""
        shared = {
            use.name: str(use)
            for use in drop.relation.uses
            if use.kind in {"index", "constraint", "statistics"}
            and drop.column.name in use.columns
            and len(use.columns) > 1
        }
        if missing := [what for name, what in sorted(shared.items()) if name not in self.also_drops]:
            raise PlanError(
                f"with {drop.table}.{self.column} would go what is made of other columns too: {', '.join(missing)}",
                hint=f"say that this is meant: also_drops: [{', '.join(sorted(shared))}]; or replace these first",
            )
        if unknown := sorted(set(self.also_drops) - set(shared)):
            raise PlanError(
                f"also_drops: {', '.join(unknown)} is not made of {self.column} and other columns of {drop.table}",
                hint=f"it may name: {', '.join(sorted(shared)) or 'nothing'}",
            )


# -- cutover -----------------------------------------------------------------------------------------------------------


def _relaxed(drop: _Drop, context: PlanContext) -> Iterator[Planned]:
    """Yield what takes away the constraints that rows written without the column would break."""
    catalog, name = drop.catalog, drop.column.name
    if not drop.column.nullable and not drop.gets_a_value:
        part = DropNotNull(table=drop.table.quoted, column=name).plan(catalog, context)
        (step,) = part.steps
        # Under that name the column is gone when the change is validated.
        yield replace(part, steps=(replace(step, undo=(_refuse_nulls(drop), *step.undo), lasting=False),))
    if drop.down is not None:
        return
    for check in (c for c in drop.own if c.type == "c"):
        with_others = len(check.columns) > 1 and drop.gets_a_value
        if with_others or _FALSE_OF_NULL.search(check.definition):
            yield DropConstraint(table=drop.table.quoted, name=check.name).plan(catalog, context)


def _refuse_nulls(drop: _Drop) -> str:
    block = sqlfiles.block("queries/retention", "refuse_nulls").format(
        table=drop.table.identifier,
        column=sql.Identifier(drop.column.name),
        what=sql.Literal(f"{drop.table}.{drop.column.name}"),
    )
    return text(sql.SQL("DO {}").format(sql.Literal(text(block))))


def _hide(drop: _Drop) -> Step:
    table, name = drop.table, drop.column.name
    fill: tuple[str, ...] = ()
    if drop.down is not None:
        fill = filled_on_write.keep_filled(table, drop.hidden, drop.column.type, drop.down.text)
    return Step(
        phase=Phase.CUTOVER,
        title=f"hide {table}.{name} as {drop.hidden}",
        tables=(table, *drop.below),
        statements=(alter(table, "RENAME COLUMN {} TO {}", name, drop.hidden), *fill),
        lock=LockMode.ACCESS_EXCLUSIVE,
        probe=probe("column_exists", table=table.quoted, column=drop.hidden),
        undo=(
            *(filled_on_write.drop(table, drop.hidden) if fill else ()),
            alter(table, "RENAME COLUMN {} TO {}", drop.hidden, name),
        ),
        undo_lock=LockMode.ACCESS_EXCLUSIVE,
    )


# -- contract ----------------------------------------------------------------------------------------------------------


def _contract(drop: _Drop) -> Iterator[Step]:
    table = drop.table
    yield from keep_column.steps(drop.relation, drop.column, drop.hidden, drop.kept)
    # These lock more than the table, or can go without blocking it: each by itself, before the column.
    for key in (c for c in drop.own if c.type == "f"):
        yield Step(
            phase=Phase.CONTRACT,
            title=f"drop foreign key {key.name} of {table}",
            tables=tuple(dict.fromkeys((table, key.references or table))),
            statements=(constraints.drop(table, key.name),),
            lock=LockMode.ACCESS_EXCLUSIVE,
            lasting=False,
        )
    backing = {c.name for c in drop.relation.constraints}
    for name in sorted(drop.relation.parts_of(drop.column.name, "index") - backing):
        if drop.relation.kind == "r":
            index = Table(table.schema, name)
            yield Step(
                phase=Phase.CONTRACT,
                title=f"drop index {index} of {table}",
                tables=(table,),
                statements=(indexes.drop_concurrently(index),),
                lock=LockMode.SHARE_UPDATE_EXCLUSIVE,
                transactional=False,
                probe=probe("index_absent", index=index.quoted),
                lasting=False,
                long=True,
            )
    yield Step(
        phase=Phase.CONTRACT,
        title=f"drop column {table}.{drop.column.name}",
        tables=(table, *drop.below),
        statements=(
            *(filled_on_write.drop(table, drop.hidden) if drop.down is not None else ()),
            alter(table, "DROP COLUMN IF EXISTS {}", drop.hidden),
        ),
        lock=LockMode.ACCESS_EXCLUSIVE,
        lasting=False,
    )


# -- what is refused, and said -----------------------------------------------------------------------------------------


def _refuse_hierarchy(drop: _Drop) -> None:
    relation, name = drop.relation, drop.column.name
    if relation.partition_of is not None:
        raise PlanError(
            f"{drop.table} is a partition of {relation.partition_of}, which has the column too",
            hint=f"write table: {relation.partition_of}",
        )
    parents = filter(None, map(drop.catalog.get, relation.inherits))
    if (relation.kind == "r" and drop.below) or any(p.column(name) for p in parents):
        raise PlanError(
            f"{drop.table}.{name} is inherited, so its values are in several tables",
            hint="use a raw change (deploy.sql, revert.sql, verify.sql)",
        )
    if relation.kind == "p":
        by = partitioned_index.key_columns(relation)
        trees = (relation, *(r for r in drop.catalog.below(drop.table) if r.kind == "p"))
        if by is None or any(name in (partitioned_index.key_columns(r) or (name,)) for r in trees):
            raise PlanError(f"{drop.table} is partitioned by {name}", hint="create a table with another partition key")
        if not keep_column.key_without(relation, name):
            raise PlanError(
                f"{drop.table} is partitioned and has no key by which the values could be kept",
                hint="add a primary key first",
            )


def _refuse_used(drop: _Drop) -> None:
    """Raise PlanError listing what would break, or vanish, with the column."""
    relation, name = drop.relation, drop.column.name
    known = {"view", "materialized view", "policy", "foreign key"}
    found = [
        *(p for p in dependents.problems(drop.catalog, relation, name)),
        *(str(u) for u in relation.users_of(name) if u.kind in known and name in u.columns),
        *(f"trigger {t}" for t in sorted(relation.parts_of(name, "trigger"))),
        *_naming_triggers(drop),
        *retire.borrowers(drop.catalog, relation, retire.sequences_of(drop.catalog, drop.table, name), name),
    ]
    identity = relation.replica_identity.partition(" ")[2]
    for constraint in drop.own:
        if constraint.type == "p":
            found.append(f"primary key {constraint.name}")
        elif constraint.type in {"u", "x"} and "NULLS NOT DISTINCT" in constraint.definition and not drop.gets_a_value:
            found.append(f"constraint {constraint.name}, which only one row without the column would satisfy")
    if identity and identity in relation.parts_of(name, "index"):
        found.append(f"index {identity}, the replica identity")
    if found:
        raise PlanError(
            f"{drop.table}.{name} is used by {', '.join(dict.fromkeys(found))}",
            hint="change or drop these first, each by name, in the same change or an earlier one (replace_view, "
            "drop_constraint, change_primary_key, raw SQL)",
        )


def _naming_triggers(drop: _Drop) -> Iterator[str]:
    """Yield the triggers whose function would fail: it reads the column of the row by its name."""
    reads = re.compile(rf'\b(?:NEW|OLD)\s*\.\s*"?{re.escape(drop.column.name)}(?![\w$])', re.IGNORECASE)
    for trigger in drop.relation.triggers:
        match = _FUNCTION.search(trigger.definition)
        source = drop.catalog.objects.get(f"function {match[1]}()", "") if match else ""
        if reads.search(source):
            yield f"function {match[1] if match else ''}() of trigger {trigger.name}"


def _notices(drop: _Drop) -> Iterator[str]:
    table, name = drop.table, drop.column.name
    yield (
        f"statements that name {name} of {table} fail from cutover on; until contract SELECT * has it as {drop.hidden}"
    )
    parts = [
        f"{kind} {part}"
        for kind in ("constraint", "index", "statistics")
        for part in sorted(drop.relation.parts_of(name, kind))
    ]
    if parts:
        yield f"contract drops with {table}.{name}: {', '.join(parts)}"
    if not keep_column.key_without(drop.relation, name):
        yield f"{table} has no key: whole rows are kept; they can be exported, but not brought back by themselves"
    naming = set(retire.functions_naming(drop.catalog, name)) & set(retire.functions_naming(drop.catalog, table.name))
    if naming:
        yield f"these have the words {table.name} and {name} in their text: {', '.join(sorted(naming))}"


def _one_way(drop: _Drop) -> tuple[str, ...]:
    if drop.column.nullable or drop.gets_a_value:
        return ()
    missing = f"rows written to {drop.table} after cutover have no value for {drop.column.name}, which is NOT NULL"
    return (f"{missing}; with down: they get one",)


def _without(drop: _Drop) -> Catalog:
    """Return the catalog without the column and what is made of it."""
    catalog, name = drop.catalog, drop.column.name
    for table in (drop.table, *drop.below):
        relation = catalog.relations[table].without_column(name)
        gone = {c.name for c in relation.constraints if name in c.columns} | relation.parts_of(name, "index")
        gone |= relation.parts_of(name, "constraint")
        catalog = catalog.with_relation(
            replace(
                relation,
                constraints=tuple(c for c in relation.constraints if c.name not in gone),
                indexes=tuple(i for i in relation.indexes if i.name not in gone),
                uses=tuple(u for u in relation.uses if name not in u.columns),
            )
        )
    return catalog
