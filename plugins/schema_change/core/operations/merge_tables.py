"""``merge_tables``: the columns of a table that others look up become columns of the one that refers to it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from psycopg import sql
from pydantic import BaseModel, ConfigDict, Field

from schema_change.core.catalog.model import Catalog, Column, Constraint, Relation
from schema_change.core.errors import PlanError
from schema_change.core.fields import Identifier, TableName
from schema_change.core.model import Backfill, DataCheck, Expectation, LockMode, Phase, Step
from schema_change.core.operations.base import Operation, PlanContext, Planned, column_of, table_of
from schema_change.core.operations.drop_table import DropTable
from schema_change.core.recipes import constraint, link_steps, links, probe, raw, tables_in_step, text
from schema_change.core.recipes.links import Copy, Link

_COMMA = sql.SQL(", ")


class MergedColumn(BaseModel):
    """A column to take over."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    from_: Identifier = Field(alias="from", description="Column of the table that goes away")
    name: Identifier | None = Field(default=None, description="Its name from now on; the same by default")


@dataclass(frozen=True, slots=True)
class _Merge:
    """Both tables, what is kept in step, and the columns to add."""

    gone: Relation
    into: Relation
    link: Link
    columns: tuple[Column, ...]
    references: tuple[Constraint, ...]


class MergeTables(Operation):
    """Merge a table into the one whose rows refer to it, one row of it per row or to many; the inverse of a split."""

    kind: ClassVar[str] = "merge_tables"

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    from_: TableName = Field(alias="from", description="Table that goes away in contract, as schema.table")
    into: TableName = Field(description="Table that gets its columns, as schema.table")
    on: dict[Identifier, Identifier] = Field(
        min_length=1, description="Columns of the table that stays, and those of the other one's key they refer to"
    )
    columns: tuple[MergedColumn, ...] | None = Field(
        default=None, description="Columns to take over; by default all but the key"
    )
    unmatched: Literal["fail", "retire"] = Field(
        default="fail",
        description="What to do with rows that nothing refers to: fail, or let them go; they are kept with the table",
    )

    def plan(self, catalog: Catalog, context: PlanContext) -> Planned:
        """Return the steps: add the columns, keep in step, fill; retire the other table in contract."""
        merge = self._merge(catalog)
        link, into = merge.link, merge.into
        _refuse(catalog, merge, context)
        wider = replace(
            into,
            columns=(*into.columns, *merge.columns),
            constraints=tuple(c for c in into.constraints if c not in merge.references),
        )
        dropped = DropTable(table=self.from_).plan(catalog.with_relation(wider), context)
        steps = (
            *link_steps.searchable(catalog, into, tuple(self.on)),
            _add(merge),
            link_steps.keep_in_step(link),
            _fill(merge),
            _stop(merge),
            *(replace(step, phase=Phase.CONTRACT, undo=()) for step in dropped.steps),
        )
        return Planned(
            catalog=dropped.catalog,
            steps=steps,
            expectations=tuple(_expectations(link)),
            data_checks=(*self._unmatched(link), *dropped.data_checks),
            written=(into.table, merge.gone.table),
            filled=frozenset((into.table, c.name) for c in merge.columns),
            data_migration=True,
            notices=tuple(_notices(merge)),
            touched=dropped.touched,
            retired=dropped.retired,
        )

    def _merge(self, catalog: Catalog) -> _Merge:
        gone, into = table_of(catalog, self.from_), table_of(catalog, self.into)
        if gone.table == into.table:
            raise PlanError(f"{into.table} cannot be merged into itself", hint="name two tables")
        for ours, theirs in self.on.items():
            if column_of(into, ours).type != column_of(gone, theirs).type:
                raise PlanError(
                    f"on: {into.table}.{ours} and {gone.table}.{theirs} have different types",
                    hint="give one of them the other's type with change_type first",
                )
        _refuse_not_unique(gone, set(self.on.values()))
        wanted = self.columns
        if wanted is None:
            others = (c.name for c in gone.columns if c.name not in self.on.values())
            wanted = tuple(MergedColumn(from_=name) for name in others)
        copies, columns = [], []
        for column in wanted:
            source, name = column_of(gone, column.from_), column.name or column.from_
            _refuse_unfit(into, source, gone, name)
            columns.append(Column(name, source.type, collation=source.collation, comment=source.comment))
            copies.append(Copy(name, source.name, source.type))
        names = [c.name for c in columns]
        if not names or len(set(names)) < len(names):
            raise PlanError("columns: nothing to take over, or a name is there twice", hint="name each column once")
        link = Link(
            *(into.table, gone.table, tuple(self.on.items()), tuple(copies)),
            creates=False,
            unique=links.uniquely(into),
        )
        references = tuple(c for c in into.constraints if c.type == "f" and c.references == gone.table)
        return _Merge(gone, into, link, tuple(columns), references)

    def _unmatched(self, link: Link) -> tuple[DataCheck, ...]:
        return (link_steps.unmatched(link),) if self.unmatched == "fail" else ()


def _refuse_not_unique(gone: Relation, key: set[str]) -> None:
    for index in gone.indexes:
        if index.unique and index.valid and set(index.columns) == key and " WHERE " not in index.definition:
            deferrable = any(c.name == index.name and "DEFERRABLE" in c.definition for c in gone.constraints)
            if not deferrable and not any(c.nullable for c in gone.columns if c.name in key):
                return
    raise PlanError(
        f"nothing makes ({', '.join(sorted(key))}) of {gone.table} unique and NOT NULL, so a row may have several",
        hint="merge one row per key: name its primary key in on:, or add one first",
    )


def _refuse_unfit(into: Relation, source: Column, gone: Relation, name: str) -> None:
    if into.column(name) is not None:
        raise PlanError(
            f"{into.table} already has a column {name}", hint=f"columns: [{{from: {source.name}, name: <another>}}]"
        )
    if source.generated or source.identity:
        raise PlanError(
            f"{gone.table}.{source.name} is generated, so writes of its copy could not reach it",
            hint="leave it out with columns:, or add it to the other table with add_column",
        )


def _refuse(catalog: Catalog, merge: _Merge, context: PlanContext) -> None:
    gone, into = merge.gone, merge.into
    if gone.triggers or gone.row_security or gone.rules:
        raise PlanError(
            f"{gone.table} has triggers, rules or row-level security, which {into.table} would not have",
            hint="drop them first, or merge in a raw change",
        )
    if into.inherits or catalog.below(into.table):
        raise PlanError(f"{into.table} inherits or is inherited from", hint="use a raw change")
    taken = {*(c.one for c in merge.link.copies), *(o for _, o in merge.link.key)}
    for column in gone.columns:
        free = column.nullable or column.default is not None or column.identity or column.generated
        if column.name not in taken and not free:
            raise PlanError(
                f"{gone.table}.{column.name} is NOT NULL but is not taken over, so rows of {into.table} with a new key "
                f"could not be given to {gone.table}",
                hint="take it over with columns:",
            )
    if fresh := [f"{t}.{c}" for t, c in context.filled if t in {gone.table, into.table}]:
        raise PlanError(f"{fresh[0]} gets its values in this change", hint="merge in a change of its own")


def _add(merge: _Merge) -> Step:
    table = merge.into.table
    items, comments, drops = [], [], []
    for column in merge.columns:
        name = sql.Identifier(column.name)
        collation = sql.SQL(" COLLATE {}").format(raw(column.collation)) if column.collation else sql.SQL("")
        items.append(sql.SQL("ADD COLUMN {} {}{}").format(name, raw(column.type), collation))
        drops.append(sql.SQL("DROP COLUMN IF EXISTS {}").format(name))
        if column.comment is not None:
            on = sql.Identifier(table.schema, table.name, column.name)
            comments.append(text(sql.SQL("COMMENT ON COLUMN {} IS {}").format(on, sql.Literal(column.comment))))
    alter = sql.SQL("ALTER TABLE {} {}")
    return Step(
        phase=Phase.EXPAND,
        title=f"add {', '.join(c.name for c in merge.columns)} to {table}",
        tables=(table,),
        statements=(text(alter.format(table.identifier, _COMMA.join(items))), *comments),
        lock=LockMode.ACCESS_EXCLUSIVE,
        probe=probe("column_exists", table=table.quoted, column=merge.columns[-1].name),
        undo=(text(alter.format(table.identifier, _COMMA.join(drops))),),
        undo_lock=LockMode.ACCESS_EXCLUSIVE,
    )


def _fill(merge: _Merge) -> Step:
    batch, pending = tables_in_step.filled(merge.link)
    table = merge.into.table
    return Step(
        phase=Phase.BACKFILL,
        title=f"fill {', '.join(c.name for c in merge.columns)} of {table} from {merge.gone.table}",
        tables=(table,),
        lock=LockMode.ROW_EXCLUSIVE,
        lasting=False,
        backfill=Backfill(table=table, column="", expression="true", pending=pending, key=merge.into.key, batch=batch),
    )


def _stop(merge: _Merge) -> Step:
    link = merge.link
    return Step(
        phase=Phase.CONTRACT,
        title=f"{link.many} goes on without {link.one}",
        tables=(link.many, link.one),
        statements=(
            *tables_in_step.stop(link),
            *(constraint.drop(link.many, c.name) for c in merge.references),
        ),
        lock=LockMode.ACCESS_EXCLUSIVE,
        probe=tables_in_step.stopped(link),
    )


def _expectations(link: Link) -> Iterator[Expectation]:
    yield Expectation(
        table=link.many,
        type="expect_rows_to_satisfy_sql",
        kwargs={"sql": tables_in_step.agreement(link)},
        check_id=f"agrees_with_{link.one.name}",
        notes=f"every row has the values of its row of {link.one}",
        until_contract=True,
    )


def _notices(merge: _Merge) -> Iterator[str]:
    link, gone = merge.link, merge.gone
    names = ", ".join(c.many for c in link.copies)
    yield f"until contract one write of {names} in a row of {link.many} changes all rows of its key, and {link.one}"
    yield f"in contract {link.one} moves out of the way and is kept for a while; rows that nothing refers to go with it"
    taken = {*(c.one for c in link.copies), *(o for _, o in link.key)}
    if left := [c.name for c in gone.columns if c.name not in taken]:
        yield f"{link.many} does not get {', '.join(left)} of {link.one}"
