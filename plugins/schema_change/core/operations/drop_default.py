"""``drop_default``: rows inserted without a value hold NULL from cutover on."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from pydantic import Field

from schema_change.core.catalog.model import Catalog
from schema_change.core.errors import PlanError
from schema_change.core.fields import Identifier, TableName
from schema_change.core.model import LockMode, Phase, Step
from schema_change.core.operations import defaults
from schema_change.core.operations.base import Operation, PlanContext, Planned, table_of
from schema_change.core.recipes import probe


class DropDefault(Operation):
    """Take a column's default away; rows that are there stay as they are, and so does a sequence it used."""

    kind: ClassVar[str] = "drop_default"

    table: TableName = Field(description="Table, as schema.table")
    column: Identifier = Field(description="Name of the column")

    def plan(self, catalog: Catalog, context: PlanContext) -> Planned:
        """Return the one step; its undo gives the default back."""
        relation = table_of(catalog, self.table, partitions=True)
        table = relation.table
        column = defaults.defaultable(catalog, relation, self.column)
        if column.default is None:
            raise PlanError(f"{table}.{column.name} has no default", hint="remove the operation")
        step = Step(
            phase=Phase.CUTOVER,
            title=f"drop the default of {table}.{column.name}",
            tables=(table,),
            statements=(defaults.statement(table, column.name, None),),
            lock=LockMode.ACCESS_EXCLUSIVE,
            probe=probe("column_no_default", table=table.quoted, column=column.name),
            undo=(defaults.statement(table, column.name, column.default),),
            undo_lock=LockMode.ACCESS_EXCLUSIVE,
        )
        needed = f"{table}.{column.name} is NOT NULL: an INSERT without a value for it fails from cutover on"
        return Planned(
            catalog=catalog.with_relation(relation.with_column(replace(column, default=None))),
            steps=(step,),
            written=(table,),
            touched=tuple(below.table for below in catalog.below(table)),
            notices=() if column.nullable else (needed,),
        )
