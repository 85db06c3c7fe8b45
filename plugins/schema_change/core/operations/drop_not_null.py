"""``drop_not_null``: allow NULL in a column again."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from pydantic import Field

from schema_change.core.catalog.model import Catalog, Column, Relation
from schema_change.core.errors import PlanError
from schema_change.core.fields import Identifier, TableName
from schema_change.core.model import LockMode, Phase, Step
from schema_change.core.operations.base import Operation, PlanContext, Planned, column_of, table_of
from schema_change.core.recipes import not_null, probe


class DropNotNull(Operation):
    """Allow NULL in a column. Who reads it must be able to cope with NULL first."""

    kind: ClassVar[str] = "drop_not_null"

    table: TableName = Field(description="Table, as schema.table")
    column: Identifier = Field(description="Name of the column")

    def plan(self, catalog: Catalog, context: PlanContext) -> Planned:
        """Return the one cutover step; its undo forbids NULL again, and checks the rows without blocking."""
        relation = table_of(catalog, self.table, partitions=True)
        table = relation.table
        column = self._column(catalog, relation)
        step = Step(
            phase=Phase.CUTOVER,
            title=f"allow NULL in {table}.{column.name}",
            tables=(table,),
            statements=(not_null.drop(table, column.name),),
            lock=LockMode.ACCESS_EXCLUSIVE,
            probe=probe("column_nullable", table=table.quoted, column=column.name),
            undo=not_null.put_back(relation, column.name, catalog.server_version),
            undo_lock=LockMode.ACCESS_EXCLUSIVE,
            undo_transactional=False,
        )
        late = (
            f"a NULL written to {table}.{column.name} after cutover stops a rollback until it is replaced: it forbids "
            "more of them first, then finds it"
        )
        return Planned(
            catalog=catalog.with_relation(relation.with_column(replace(column, nullable=True))),
            steps=(step,),
            written=(table,),
            touched=tuple(below.table for below in catalog.below(table)),
            notices=(late,),
        )

    def _column(self, catalog: Catalog, relation: Relation) -> Column:
        column, where = column_of(relation, self.column), f"{relation.table}.{self.column}"
        if column.nullable:
            raise PlanError(f"{where} allows NULL already", hint="remove the operation")
        if any(c.type == "p" and column.name in c.columns for c in relation.constraints):
            raise PlanError(
                f"{where} is part of the primary key, which is NOT NULL", hint="use change_primary_key first"
            )
        if column.identity:
            raise PlanError(f"{where} is an identity column, which is NOT NULL", hint="drop the identity first")
        replicated, _, by = relation.replica_identity.partition(" ")
        identity = relation.index(by) if replicated == "index" else None
        if identity is not None and column.name in identity.columns:
            raise PlanError(
                f"{where} is part of the table's replica identity, index {identity.name}",
                hint=f"ALTER TABLE {relation.table.quoted} REPLICA IDENTITY … first",
            )
        for parent in (*relation.inherits, *((relation.partition_of,) if relation.partition_of else ())):
            above = catalog.get(parent)
            inherited = above.column(column.name) if above else None
            if inherited is not None and not inherited.nullable:
                raise PlanError(f"{where} is NOT NULL because {parent} says so", hint=f"name {parent} as the table")
        return column
