"""``add_unique``: from an index built concurrently, so that nothing waits while duplicates are looked for."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from pydantic import Field

from schema_change.core.catalog.model import Catalog, Constraint, Index
from schema_change.core.errors import PlanError
from schema_change.core.fields import Identifier, TableName
from schema_change.core.model import Expectation, Phase
from schema_change.core.operations.add_primary_key import key_columns
from schema_change.core.operations.base import Operation, PlanContext, Planned, column_of, table_of
from schema_change.core.recipes import constraint as constraints
from schema_change.core.recipes import index as indexes
from schema_change.core.recipes import unique


class AddUnique(Operation):
    """Add a UNIQUE constraint without blocking writes. Duplicates are refused from the index build on."""

    kind: ClassVar[str] = "add_unique"

    table: TableName = Field(description="Table, as schema.table")
    columns: tuple[Identifier, ...] = Field(min_length=1, description="Columns whose values together must be unique")
    name: Identifier | None = Field(
        default=None, description="Name of the constraint; made from table and columns by default"
    )
    include: tuple[Identifier, ...] = Field(default=(), description="Columns stored in the index but not compared")
    nulls_distinct: bool = Field(default=True, description="false: NULL equals NULL, so only one row may hold it")

    def plan(self, catalog: Catalog, context: PlanContext) -> Planned:
        """Return two steps: build the index, then make it a constraint at cutover."""
        relation = table_of(catalog, self.table, partitions=True)
        table = relation.table
        if relation.kind == "p":
            raise PlanError(
                f"{table} is partitioned; PostgreSQL makes no UNIQUE constraint of it without blocking writes",
                hint="use create_index with unique: true; it forbids duplicates just as well",
            )
        key_columns(relation, self.columns)
        if virtual := [c for c in self.include if column_of(relation, c).generated == "v"]:
            raise PlanError(
                f"{table}.{virtual[0]} is a virtual generated column, which no index can have",
                hint="use a stored generated column",
            )
        name = constraints.free_name(relation, self.name, table.name, *self.columns, "key", catalog=catalog)
        definition = unique.definition(table, name, self.columns, include=self.include, distinct=self.nulls_distinct)
        phase = context.phase_for(table, (*self.columns, *self.include))
        after = replace(
            relation,
            constraints=(*relation.constraints, Constraint(name, "u", self._definition(), columns=self.columns)),
            indexes=(*relation.indexes, Index(name, definition, columns=self.columns, unique=True)),
        )
        check = unique.duplicates(table, self.columns, distinct=self.nulls_distinct)
        return Planned(
            catalog=catalog.with_relation(after),
            steps=(
                indexes.build(table, name, definition, phase=phase),
                unique.attach_step(table, name, "UNIQUE", phase=Phase.CUTOVER),
            ),
            expectations=(
                Expectation(table, "expect_compound_key_to_be_unique", {"columns": list(self.columns)}, name),
            ),
            data_checks=(check,) if context.has_rows_of(table, self.columns) else (),
            written=(table,),
        )

    def _definition(self) -> str:
        return f"UNIQUE{'' if self.nulls_distinct else ' NULLS NOT DISTINCT'} ({', '.join(self.columns)})"
