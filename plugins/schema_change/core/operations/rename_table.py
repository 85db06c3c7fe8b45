"""``rename_table``: the table has its new name from cutover on, and a view has the old one until contract."""

from __future__ import annotations

from typing import ClassVar

from psycopg import sql
from pydantic import Field

from schema_change.core.catalog.model import Catalog, Column, Relation, Use
from schema_change.core.errors import PlanError
from schema_change.core.fields import TableName
from schema_change.core.model import LockMode, Phase, Step
from schema_change.core.names import Table
from schema_change.core.operations.base import Operation, PlanContext, Planned, table_of
from schema_change.core.recipes import probe, retire, text
from schema_change.core.recipes.carried import alter
from schema_change.core.recipes.dependents import create_view, shown
from schema_change.core.recipes.index import is_taken
from schema_change.core.sqltext.grammar import identifier


class RenameTable(Operation):
    """Give a table another name, another schema, or both; the old name goes on working until contract."""

    kind: ClassVar[str] = "rename_table"

    table: TableName = Field(description="Table, as schema.table")
    to: TableName = Field(description="Its new name; without a schema it stays in its own")

    def plan(self, catalog: Catalog, context: PlanContext) -> Planned:
        """Return the swap of table and view at cutover, and the end of the view in contract."""
        relation = table_of(catalog, self.table, partitions=True)
        old, new = relation.table, Table.parse(self.to, default_schema=Table.parse(self.table).schema)
        _refuse_changed(relation, context)
        _refuse_taken(catalog, relation, new)
        _refuse_published(relation)
        _refuse_mixed(relation)
        view = _view(relation, new)
        drop = text(sql.SQL("DROP VIEW IF EXISTS {}").format(old.identifier))
        swap = Step(
            phase=Phase.CUTOVER,
            title=f"rename {old} to {new}; a view has the old name",
            tables=(old, new),
            statements=(*_renamed(old, new), *create_view(view)),
            lock=LockMode.ACCESS_EXCLUSIVE,
            probe=probe("is_table", relation=new.quoted),
            undo=(drop, *_renamed(new, old)),
            undo_lock=LockMode.ACCESS_EXCLUSIVE,
        )
        end = Step(
            phase=Phase.CONTRACT,
            title=f"drop the view {old}",
            tables=(old,),
            statements=(drop,),
            lock=LockMode.ACCESS_EXCLUSIVE,
            probe=probe("relation_absent", relation=old.quoted),
        )
        return Planned(
            # Until cutover the table has its old name, afterwards its new one: no other operation can name it.
            catalog=catalog.without(old),
            steps=(swap, end),
            written=(old,),
            touched=(new, *_shown_in(catalog, relation)),
            notices=tuple(_notices(catalog, relation, new)),
        )


def _view(relation: Relation, new: Table) -> Relation:
    """Return the view that stands in for the table: whoever uses it needs the same rights on either."""
    columns = sql.SQL(", ").join(sql.Identifier(c.name) for c in relation.columns)
    query = sql.SQL("SELECT {} FROM {}").format(columns, new.identifier)
    return Relation(
        table=relation.table,
        kind="v",
        owner=relation.owner,
        columns=tuple(Column(c.name, c.type, comment=c.comment, grants=c.grants) for c in relation.columns),
        definition=text(query),
        # Row security must apply to the caller; a view of its owner's would show every row. Only the latter, though,
        # knows privileges on single columns.
        options=("security_invoker=true",) if relation.row_security else (),
        grants=relation.grants,
        comment=f"the table is {new} now; this view goes when the change is complete",
    )


def _renamed(source: Table, target: Table) -> tuple[str, ...]:
    """Return the statements that rename; the new name is taken before the schema changes, under which it is free."""
    found = [alter(source, "RENAME TO {}", target.name)] if source.name != target.name else []
    if source.schema != target.schema:
        found.append(alter(Table(source.schema, target.name), "SET SCHEMA {}", target.schema))
    return tuple(found)


def _refuse_changed(relation: Relation, context: PlanContext) -> None:
    table = relation.table
    before = context.live.get(table) if context.live is not None else relation
    if before != relation or any(t == table for t, _ in context.filled) or context.left_for_contract(table):
        raise PlanError(
            f"another operation of this change works on {table} under its old name until it has landed",
            hint="rename it in a change of its own",
        )


def _refuse_taken(catalog: Catalog, relation: Relation, new: Table) -> None:
    old = relation.table
    if new == old:
        raise PlanError(f"{old} has that name already", hint="remove the operation, or name another one with to:")
    passing = Table(old.schema, new.name)
    if taken := next((str(t) for t in (new, passing) if t != old and _is_name(catalog, t)), None):
        raise PlanError(f"there is already something named {taken}", hint="choose another name with to:")
    if new.schema == old.schema:
        return
    if new.schema != "public" and f"schema {identifier(new.schema)}" not in catalog.objects:
        raise PlanError(f"there is no schema {new.schema}", hint="create it first, or name another one with to:")
    parts = (*(i.name for i in relation.indexes), *(s.name for s in retire.sequences_of(catalog, old)))
    if clash := [str(t) for t in (Table(new.schema, name) for name in parts) if _is_name(catalog, t)]:
        raise PlanError(
            f"indexes and sequences of {old} go with it, but there is already {', '.join(clash)}",
            hint="rename these first, in a raw change",
        )


def _is_name(catalog: Catalog, name: Table) -> bool:
    """Tell whether a relation, index, sequence or type has the name; a table needs all of these free."""
    kinds = ("sequence", "enum", "domain", "composite", "range")
    return is_taken(catalog, name) or any(f"{kind} {shown(name)}" in catalog.objects for kind in kinds)


def _refuse_published(relation: Relation) -> None:
    if published := [str(u) for u in relation.uses if u.kind == "publication"]:
        raise PlanError(
            f"{relation.table} is in {', '.join(published)}: a subscriber finds it by its name and would get nothing",
            hint="rename it together with the subscribers, in a raw change",
        )


def _refuse_mixed(relation: Relation) -> None:
    if relation.row_security and (columns := [c.name for c in relation.columns if c.grants]):
        raise PlanError(
            f"{relation.table} has row security, and privileges on its columns {', '.join(columns)}: no view can stand "
            "in for both",
            hint="grant on the whole table first, or rename it in a raw change while the application is stopped",
        )


def _shown_in(catalog: Catalog, relation: Relation) -> tuple[Table, ...]:
    """Return the relations whose catalog entries name the table: views, foreign keys, parents, policies."""
    name = shown(relation.table)
    related = {relation.partition_of, *relation.inherits, *(r.table for r in catalog.below(relation.table))}
    found = [
        r.table
        for r in catalog.around(relation.table)
        if r.table in related
        or any(c.references == relation.table for c in r.constraints)
        or any(_is_part_of(u, name) for u in r.uses)
        or any(u.kind in {"view", "materialized view"} and u.name == shown(r.table) for u in relation.uses)
        or any(_is_part_of(u, shown(r.table)) for u in relation.uses)
    ]
    return tuple(t for t in found if t != relation.table)


def _is_part_of(use: Use, table: str) -> bool:
    """Tell whether something is made of a relation that is a policy, rule or foreign key of this table."""
    return use.kind in {"policy", "rule", "foreign key"} and use.name.endswith((f" on {table}", f" of {table}"))


def _notices(catalog: Catalog, relation: Relation, new: Table) -> list[str]:
    old = relation.table
    view = (
        f"until contract {old} is a view: SELECT, INSERT (also ON CONFLICT), UPDATE and DELETE go on; TRUNCATE, LOCK, "
        "COPY FROM, ALTER TABLE, MERGE before PostgreSQL 17 and system columns such as ctid need the new name"
    )
    notices = [view]
    if functions := retire.functions_naming(catalog, old.name):
        notices.append(
            f"these have a word {old.name} in their text, which must go before contract: " + ", ".join(functions)
        )
    if sequences := [str(s) for s in retire.sequences_of(catalog, old)] if new.schema != old.schema else []:
        notices.append(
            f"sequences go to schema {new.schema} at cutover, which breaks who names them: " + ", ".join(sequences)
        )
    return notices
