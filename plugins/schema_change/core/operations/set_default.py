"""``set_default``: the value of a column in rows inserted without one, from now on."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from pydantic import Field

from schema_change.core.catalog.model import Catalog
from schema_change.core.errors import PlanError
from schema_change.core.fields import Identifier, TableName
from schema_change.core.model import LockMode, Step
from schema_change.core.operations import defaults
from schema_change.core.operations.base import Operation, PlanContext, Planned, table_of
from schema_change.core.recipes import probe


class SetDefault(Operation):
    """Give a column a default for rows inserted from now on; rows that are there stay as they are."""

    kind: ClassVar[str] = "set_default"

    table: TableName = Field(description="Table, as schema.table")
    column: Identifier = Field(description="Name of the column")
    default: str = Field(description="SQL expression without columns: 0, 'none', now(), nextval('a_sequence')")

    def plan(self, catalog: Catalog, context: PlanContext) -> Planned:
        """Return the one step; its undo gives the old default back."""
        relation = table_of(catalog, self.table, partitions=True)
        table = relation.table
        column = defaults.defaultable(catalog, relation, self.column)
        default = defaults.parsed(catalog, self.default)
        if default == column.default:
            raise PlanError(f"the default of {table}.{column.name} is {default} already", hint="remove the operation")
        step = Step(
            phase=context.phase_for(table, (column.name,)),
            title=f"set the default of {table}.{column.name} to {default}",
            tables=(table,),
            statements=(defaults.statement(table, column.name, default),),
            lock=LockMode.ACCESS_EXCLUSIVE,
            probe=probe("column_default", table=table.quoted, column=column.name),
            undo=(defaults.statement(table, column.name, column.default),),
            undo_lock=LockMode.ACCESS_EXCLUSIVE,
        )
        return Planned(
            catalog=catalog.with_relation(relation.with_column(replace(column, default=default))),
            steps=(step,),
            written=(table,),
            touched=tuple(below.table for below in catalog.below(table)),
        )
