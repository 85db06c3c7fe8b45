"""``change_primary_key``: both keys' indexes are built concurrently; the swap is one short transaction."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

from psycopg import sql
from pydantic import Field

from schema_change.core.catalog.model import Catalog, Constraint, Index, Relation
from schema_change.core.errors import PlanError
from schema_change.core.fields import Identifier, TableName
from schema_change.core.model import LockMode, Phase, Step
from schema_change.core.names import Table, hashed_name
from schema_change.core.operations.add_primary_key import (
    key_checks,
    key_columns,
    key_expectations,
    keyed_table,
    with_not_null,
)
from schema_change.core.operations.base import Operation, PlanContext, Planned
from schema_change.core.operations.drop_constraint import refuse_replicated
from schema_change.core.recipes import constraint as constraints
from schema_change.core.recipes import index as indexes
from schema_change.core.recipes import not_null, probe, text, unique
from schema_change.core.sqltext.foreign_keys import foreign_keys_to


class ChangePrimaryKey(Operation):
    """Give a table another PRIMARY KEY. The old columns stay unique until contract, and after it unless told."""

    kind: ClassVar[str] = "change_primary_key"

    table: TableName = Field(description="Table, as schema.table")
    columns: tuple[Identifier, ...] = Field(min_length=1, description="Columns of the new key")
    name: Identifier | None = Field(default=None, description="Name of the new constraint; the old one's by default")
    old: Literal["unique", "drop"] = Field(
        default="unique", description="What becomes of the old key in contract: a UNIQUE constraint, or nothing"
    )

    def plan(self, catalog: Catalog, context: PlanContext) -> Planned:
        """Return the steps: build both indexes, make the new columns NOT NULL, swap; then the old key's index."""
        relation = keyed_table(catalog, self.table)
        table = relation.table
        old, index = _old_key(catalog, relation)
        columns = key_columns(relation, self.columns)
        if self.columns == old.columns:
            raise PlanError(
                f"({', '.join(self.columns)}) is the primary key of {table} already", hint="remove the operation"
            )
        name = constraints.free_name(relation, self.name or old.name, catalog=catalog, leaving=old.name)
        new_index = hashed_name("pkey", table.schema, table.name, *self.columns)
        spare = hashed_name("old_pkey", table.schema, table.name, *old.columns)
        definition = unique.definition(table, new_index, self.columns)
        nullable = tuple(c.name for c in columns if c.nullable)
        steps = (
            indexes.build(table, new_index, definition, phase=context.phase_for(table, self.columns), lasting=False),
            indexes.build(table, spare, _spare(index, spare), phase=Phase.EXPAND, lasting=False),
            *(s for c in nullable for s in not_null.steps(relation, c, catalog.server_version)),
            _swap(relation, old, index, name, (new_index, spare)),
            self._leave(relation, old, spare),
        )
        return Planned(
            catalog=catalog.with_relation(self._after(with_not_null(relation, nullable), old, name, spare)),
            steps=steps,
            expectations=key_expectations(relation, name, self.columns),
            data_checks=(
                constraints.views_on(table, old.name),
                *key_checks(relation, self.columns, nullable, context),
            ),
            written=(table,),
        )

    def _leave(self, relation: Relation, old: Constraint, spare: str) -> Step:
        """Return the contract step that makes the old key a UNIQUE constraint, or drops its index."""
        table = relation.table
        if self.old == "drop":
            index = Table(table.schema, spare)
            return Step(
                phase=Phase.CONTRACT,
                title=f"drop the index that kept ({', '.join(old.columns)}) of {table} unique",
                tables=(table,),
                statements=(indexes.drop_concurrently(index),),
                lock=LockMode.SHARE_UPDATE_EXCLUSIVE,
                transactional=False,
                long=True,
                probe=probe("relation_absent", relation=index.quoted),
            )
        name = self._unique_name(relation, old)
        return Step(
            phase=Phase.CONTRACT,
            title=f"keep ({', '.join(old.columns)}) of {table} unique by constraint {name}",
            tables=(table,),
            statements=(unique.attach(table, name, "UNIQUE", spare),),
            lock=LockMode.ACCESS_EXCLUSIVE,
            probe=probe("constraint_exists", table=table.quoted, constraint=name),
        )

    def _unique_name(self, relation: Relation, old: Constraint) -> str:
        return constraints.free_name(relation, None, relation.table.name, *old.columns, "key")

    def _after(self, relation: Relation, old: Constraint, name: str, spare: str) -> Relation:
        kept = self._unique_name(relation, old) if self.old == "unique" else None
        key = Constraint(
            name, "p", f"PRIMARY KEY ({', '.join(self.columns)})", columns=self.columns, comment=old.comment
        )
        others = tuple(c for c in relation.constraints if c.name != old.name)
        left = (Constraint(kept, "u", f"UNIQUE ({', '.join(old.columns)})", columns=old.columns),) if kept else ()
        table = relation.table
        index = Index(name, unique.definition(table, name, self.columns), self.columns, unique=True, primary=True)
        old_index = Index(kept or spare, unique.definition(table, spare, old.columns), old.columns, unique=True)
        return replace(
            relation,
            constraints=(*others, key, *left),
            indexes=(*(i for i in relation.indexes if i.name != old.name), index, old_index),
        )


def _old_key(catalog: Catalog, relation: Relation) -> tuple[Constraint, Index]:
    """Return the primary key and its index, or raise PlanError when something stands on it."""
    table = relation.table
    old = next((c for c in relation.constraints if c.type == "p"), None)
    index = relation.index(old.name) if old else None
    if old is None or index is None:
        raise PlanError(f"{table} has no primary key", hint="use add_primary_key")
    referred = set(old.columns)
    if users := [key for key in foreign_keys_to(catalog, table) if set(key.parent_columns) == referred]:
        raise PlanError(
            f"the primary key of {table} is what {', '.join(map(str, users))} refers to",
            hint="drop these foreign keys before, with drop_constraint, and add them again after this operation; with "
            "old: unique they can refer to the same columns",
        )
    refuse_replicated(relation, old)
    return old, index


def _spare(index: Index, name: str) -> str:
    found = unique.copy_of(index, name)
    if found is None:
        raise PlanError(
            f"index {index.name} of the primary key is not one of plain columns: {index.definition}",
            hint="use a raw change (deploy.sql, revert.sql)",
        )
    return found


def _swap(relation: Relation, old: Constraint, index: Index, name: str, built: tuple[str, str]) -> Step:
    """Return the cutover step that puts one key in the place of the other; comments go along."""
    table = relation.table
    new_index, spare = built
    back = [
        constraints.drop(table, name),
        unique.attach(table, old.name, "PRIMARY KEY", spare, deferrable=unique.deferrable(old)),
        *constraints.comment(table, old),
        *_of_index(table, index, old.name),
    ]
    if index.clustered:
        cluster = sql.SQL("ALTER TABLE {} CLUSTER ON {}")
        back.append(text(cluster.format(table.identifier, sql.Identifier(old.name))))
    return Step(
        phase=Phase.CUTOVER,
        title=f"make {name} the primary key of {table}",
        tables=(table,),
        statements=(
            constraints.drop(table, old.name),
            unique.attach(table, name, "PRIMARY KEY", new_index),
            *constraints.comment(table, old, name),
            *_of_index(table, index, name),
        ),
        lock=LockMode.ACCESS_EXCLUSIVE,
        probe=probe("index_valid", index=Table(table.schema, name).quoted, table=table.quoted),
        undo=tuple(back),
        undo_lock=LockMode.ACCESS_EXCLUSIVE,
    )


def _of_index(table: Table, index: Index, name: str) -> tuple[str, ...]:
    """Return the statement that gives an index the comment of another."""
    if index.comment is None:
        return ()
    comment = sql.SQL("COMMENT ON INDEX {} IS {}")
    return (text(comment.format(sql.Identifier(table.schema, name), sql.Literal(index.comment))),)
