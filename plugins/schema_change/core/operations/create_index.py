"""``create_index``: always concurrently; an interrupted build is repaired."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

from psycopg import sql
from pydantic import Field

from schema_change.core.catalog.model import Catalog, Index, Relation, Use
from schema_change.core.errors import PlanError
from schema_change.core.fields import Identifier, TableName
from schema_change.core.model import DataCheck
from schema_change.core.names import Table, quote, short_name
from schema_change.core.operations.base import (
    Operation,
    PlanContext,
    Planned,
    checked,
    column_of,
    expression_of,
    refuse_shadowed,
    table_of,
)
from schema_change.core.recipes import index as index_recipe
from schema_change.core.recipes import partitioned_index, raw, text
from schema_change.core.sqltext.expression import IndexKey, index_keys, parse_predicate


class CreateIndex(Operation):
    """Create an index without blocking writes."""

    kind: ClassVar[str] = "create_index"

    table: TableName = Field(description="Table, as schema.table")
    columns: tuple[str, ...] = Field(
        min_length=1, description="Columns or expressions, such as lower(name) or day DESC"
    )
    name: Identifier | None = Field(
        default=None, description="Name of the index; made from table and columns by default"
    )
    unique: bool = Field(default=False, description="Forbid duplicates")
    method: Literal["btree", "hash", "gin", "gist", "spgist", "brin"] = Field(
        default="btree", description="Index method"
    )
    include: tuple[Identifier, ...] = Field(default=(), description="Columns stored in the index but not searched")
    where: str | None = Field(default=None, description="Predicate of a partial index")

    def plan(self, catalog: Catalog, context: PlanContext) -> Planned:
        """Return the step, or those of each partition; after the backfill when a column of the index is filled."""
        named = catalog.get(Table.parse(self.table))
        stored = named is not None and named.kind == "m"
        relation = named if named is not None and stored else table_of(catalog, self.table, partitions=True)
        table = relation.table
        keys = self._keys(relation)
        refuse_shadowed(catalog, (name for key in keys for name in key.bare_functions), "columns")
        if self.where:
            expression_of(catalog, parse_predicate, self.where, "where")
        plain = tuple(key.column for key in keys if key.column)
        used = tuple(column for key in keys for column in key.columns) + self.include
        name = self.name or short_name(table.name, *(plain or ("expr",)), "idx")
        _refuse_taken(catalog, Table(table.schema, name))
        phase = context.phase_for(table, ("", *used))

        def define(on: Table, by: str, how: str) -> str:
            return self._definition(on, by, keys, how)

        if relation.kind == "p":
            self._refuse_unless_unique_within(relation, plain)
            parts = plain or ("expr",)
            steps = partitioned_index.steps(catalog, relation, name, parts, define, phase=phase)
        else:
            steps = (index_recipe.build(table, name, define(table, name, "CONCURRENTLY"), phase=phase),)
        index = Index(name=name, definition=define(table, name, ""), columns=plain, unique=self.unique)
        below = tuple(r.table for r in catalog.below(table))
        return Planned(
            catalog=catalog.with_relation(
                replace(
                    relation,
                    indexes=(*relation.indexes, index),
                    uses=(*relation.uses, Use("index", name, tuple(dict.fromkeys(used)))),
                )
            ),
            steps=steps,
            data_checks=self._duplicates(relation, plain, context) if self.unique else (),
            written=(table,),
            touched=below if relation.kind == "p" else (),
            notices=(f"the tables that inherit from {table} get no index",) if below and relation.kind == "r" else (),
        )

    def _keys(self, relation: Relation) -> tuple[IndexKey, ...]:
        # The name of a column is that column, also where it would be another thing in SQL.
        items = tuple(quote(item) if relation.column(item) else item for item in self.columns)
        keys = checked(index_keys, items, "columns")
        # The columns of a materialized view that this change makes of SELECT * are not known.
        for column in (*(c for key in keys for c in key.columns), *self.include) if relation.columns else ():
            column_of(relation, column)
        return keys

    def _definition(self, table: Table, name: str, keys: tuple[IndexKey, ...], how: str) -> str:
        include = sql.SQL(" INCLUDE ({})").format(sql.SQL(", ").join(map(sql.Identifier, self.include)))
        where = sql.SQL(" WHERE {}").format(
            raw(checked(parse_predicate, self.where, "where").text if self.where else "")
        )
        return text(
            sql.SQL("CREATE {}INDEX {}{} ON {}{} USING {} ({}){}{}").format(
                sql.SQL("UNIQUE " if self.unique else ""),
                sql.SQL("CONCURRENTLY " if how == "CONCURRENTLY" else ""),
                sql.Identifier(name),
                sql.SQL("ONLY " if how == "ONLY" else ""),
                table.identifier,
                sql.SQL(self.method),
                sql.SQL(", ").join(raw(key.text) for key in keys),
                include if self.include else sql.SQL(""),
                where if self.where else sql.SQL(""),
            )
        )

    def _refuse_unless_unique_within(self, relation: Relation, plain: tuple[str, ...]) -> None:
        """Raise PlanError when rows of two partitions could have the same key: PostgreSQL cannot see them."""
        if not self.unique:
            return
        by = partitioned_index.key_columns(relation)
        if by is None or not set(by) <= set(plain):
            raise PlanError(
                f"{relation.table} is partitioned by {relation.partition_key}; a unique index must have these columns",
                hint="add the columns to the index, or create a unique index on each partition",
            )

    def _duplicates(self, relation: Relation, plain: tuple[str, ...], context: PlanContext) -> tuple[DataCheck, ...]:
        """Count the groups of rows that share a key; rows of columns this change adds do not exist yet."""
        if not context.has_rows_of(relation.table, plain) or len(plain) != len(self.columns):
            return ()
        columns = sql.SQL(", ").join(map(sql.Identifier, plain))
        conditions = [sql.SQL("{} IS NOT NULL").format(sql.Identifier(c)) for c in plain]
        if self.where:
            conditions.append(sql.SQL("({})").format(raw(checked(parse_predicate, self.where, "where").text)))
        groups = sql.SQL("SELECT {0} FROM {1} WHERE {2} GROUP BY {0} HAVING count(*) > 1").format(
            columns, relation.table.identifier, sql.SQL(" AND ").join(conditions)
        )
        return (
            DataCheck(
                name=f"duplicates of ({', '.join(plain)}) in {relation.table}",
                count=text(sql.SQL("SELECT count(*) FROM ({}) AS d").format(groups)),
                sample=text(sql.SQL("{} LIMIT 10").format(groups)),
                remedy="remove or merge the duplicate rows first",
            ),
        )


def _refuse_taken(catalog: Catalog, index: Table) -> None:
    """Raise PlanError when the schema has a relation or an index of that name already."""
    if index_recipe.is_taken(catalog, index):
        raise PlanError(
            f"there is already a relation or index {index}",
            hint="give the index another name; when the existing one is invalid, drop it first",
        )
