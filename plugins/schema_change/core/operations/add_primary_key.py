"""``add_primary_key``: the columns become NOT NULL, then an index built concurrently becomes the key."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from pydantic import Field

from schema_change.core.catalog.model import Catalog, Column, Constraint, Index, Relation
from schema_change.core.errors import PlanError
from schema_change.core.fields import Identifier, TableName
from schema_change.core.model import DataCheck, Expectation, Phase
from schema_change.core.operations.base import Operation, PlanContext, Planned, column_of, table_of
from schema_change.core.recipes import constraint as constraints
from schema_change.core.recipes import index as indexes
from schema_change.core.recipes import not_null, unique


class AddPrimaryKey(Operation):
    """Add a PRIMARY KEY without blocking writes while rows are checked and the index is built."""

    kind: ClassVar[str] = "add_primary_key"

    table: TableName = Field(description="Table, as schema.table")
    columns: tuple[Identifier, ...] = Field(min_length=1, description="Columns that identify a row")
    name: Identifier | None = Field(default=None, description="Name of the constraint; <table>_pkey by default")

    def plan(self, catalog: Catalog, context: PlanContext) -> Planned:
        """Return the steps: build the index, make the columns NOT NULL, make the index the key."""
        relation = keyed_table(catalog, self.table)
        table = relation.table
        if any(c.type == "p" for c in relation.constraints):
            raise PlanError(f"{table} has a primary key already", hint="use change_primary_key")
        columns = key_columns(relation, self.columns)
        name = constraints.free_name(relation, self.name, table.name, "pkey", catalog=catalog)
        definition = unique.definition(table, name, self.columns)
        nullable = tuple(c.name for c in columns if c.nullable)
        steps = (
            indexes.build(table, name, definition, phase=context.phase_for(table, self.columns)),
            *(s for c in nullable for s in not_null.steps(relation, c, catalog.server_version)),
            unique.attach_step(table, name, "PRIMARY KEY", phase=Phase.CUTOVER),
        )
        key = f"PRIMARY KEY ({', '.join(self.columns)})"
        after = replace(
            with_not_null(relation, nullable),
            constraints=(*relation.constraints, Constraint(name, "p", key, columns=self.columns)),
            indexes=(*relation.indexes, Index(name, definition, columns=self.columns, unique=True, primary=True)),
        )
        return Planned(
            catalog=catalog.with_relation(after),
            steps=steps,
            expectations=key_expectations(relation, name, self.columns),
            data_checks=key_checks(relation, self.columns, nullable, context),
            written=(table,),
        )


def keyed_table(catalog: Catalog, name: str) -> Relation:
    """Return a table that may get another primary key, or raise PlanError with the remedy."""
    relation = table_of(catalog, name, partitions=True)
    if relation.kind == "p" or relation.partition_of:
        raise PlanError(
            f"{relation.table} is partitioned; PostgreSQL makes no primary key of it without blocking writes",
            hint="use create_index with unique: true, and set_not_null; or split the rows over to a new table",
        )
    return relation


def key_columns(relation: Relation, names: tuple[str, ...]) -> tuple[Column, ...]:
    """Return the columns of a key, or raise PlanError when one cannot be in it."""
    columns = tuple(column_of(relation, name) for name in names)
    if len(set(names)) < len(names):
        raise PlanError(f"columns: {', '.join(names)} names a column twice", hint="name each column once")
    if virtual := [c.name for c in columns if c.generated == "v"]:
        raise PlanError(
            f"{relation.table}.{virtual[0]} is a virtual generated column, which no key can have",
            hint="use a stored generated column",
        )
    return columns


def with_not_null(relation: Relation, columns: tuple[str, ...]) -> Relation:
    """Return the relation with the columns NOT NULL."""
    for name in columns:
        relation = relation.with_column(replace(column_of(relation, name), nullable=False))
    return relation


def key_checks(
    relation: Relation, columns: tuple[str, ...], nullable: tuple[str, ...], context: PlanContext
) -> tuple[DataCheck, ...]:
    """Return the pre-checks of a new key: no duplicates, and no NULL where there may be some."""
    checks = [not_null.null_check(relation.table, c, relation.key) for c in nullable if _counts(relation, c, context)]
    if context.has_rows_of(relation.table, columns):
        checks.append(unique.duplicates(relation.table, columns))
    return tuple(checks)


def _counts(relation: Relation, column: str, context: PlanContext) -> bool:
    return context.has_rows_of(relation.table, (column,))


def key_expectations(relation: Relation, name: str, columns: tuple[str, ...]) -> tuple[Expectation, ...]:
    """Return what must hold of a new key afterwards."""
    table = relation.table
    return (
        Expectation(table, "expect_compound_key_to_be_unique", {"columns": list(columns)}, name),
        *(Expectation(table, "expect_column_values_to_not_be_null", {"column": c}, f"{c}_not_null") for c in columns),
    )
