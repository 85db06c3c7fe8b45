"""``set_not_null``: forbid NULL in an existing column; what to do with the NULLs that are there is said first."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

from psycopg import sql
from pydantic import BaseModel, ConfigDict, Field

from schema_change.core.catalog.model import Catalog, Column, Relation
from schema_change.core.errors import PlanError
from schema_change.core.fields import Identifier, TableName
from schema_change.core.model import Backfill, DataCheck, Expectation, LockMode, NewRows, Phase, Step
from schema_change.core.operations.base import Operation, PlanContext, Planned, column_of, expression_of, table_of
from schema_change.core.recipes import filled_on_write, not_null, raw, rows, text
from schema_change.core.sqltext.expression import Expression, parse_expression


class FillNulls(BaseModel):
    """Fill the NULLs, in batches."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fill: str = Field(description="SQL expression over the row that gives the value")


class SetNotNull(Operation):
    """Make a column NOT NULL without blocking reads or writes while its rows are checked."""

    kind: ClassVar[str] = "set_not_null"

    table: TableName = Field(description="Table, as schema.table")
    column: Identifier = Field(description="Name of the column")
    nulls: Literal["fail", "delete"] | FillNulls = Field(
        default="fail",
        description="What to do with rows that hold NULL: fail, delete (the rows are kept), or {fill: <expression>}",
    )

    def plan(self, catalog: Catalog, context: PlanContext) -> Planned:
        """Return the steps: replace NULLs or delete their rows when asked to, then NOT NULL, NOT VALID first."""
        relation = table_of(catalog, self.table, partitions=self.nulls in {"fail", "delete"})
        column = self._column(catalog, relation)
        steps: list[Step] = []
        checks: tuple[DataCheck, ...] = ()
        fill: Expression | None = None
        deleted: rows.Cleaning | None = None
        if isinstance(self.nulls, FillNulls):
            fill = expression_of(catalog, parse_expression, self.nulls.fill, "nulls.fill")
            remedy = "write that column's own expression instead"
            filled_on_write.refuse_generated(relation, column.name, fill, remedy)
            steps += self._fill(relation, column, fill)
            checks = (self._stays_null(relation, fill),)
        elif self.nulls == "delete":
            deleted = self._delete(catalog, relation, context)
            steps += deleted.before
            checks = deleted.checks if context.has_rows_of(relation.table, (column.name,)) else ()
        elif context.has_rows_of(relation.table, (column.name,)):
            # A column that this change adds and fills has no rows to count yet; cutover checks it.
            checks = (not_null.null_check(relation.table, column.name, relation.key),)
        last = (deleted.last,) if deleted else ()
        steps += not_null.steps(relation, column.name, catalog.server_version, between=last)
        if fill is not None:
            steps.append(filled_on_write.contract(relation.table, column.name))
        return Planned(
            catalog=catalog.with_relation(relation.with_column(replace(column, nullable=False))),
            steps=tuple(steps),
            expectations=(
                Expectation(
                    table=relation.table,
                    type="expect_column_values_to_not_be_null",
                    kwargs={"column": column.name},
                    check_id=f"{column.name}_not_null",
                ),
            ),
            data_checks=checks,
            written=(relation.table,),
            read=fill.tables if fill else (),
            data_migration=fill is not None or deleted is not None,
            touched=tuple(below.table for below in catalog.below(relation.table)),
            retired=deleted.retired if deleted else (),
        )

    def _column(self, catalog: Catalog, relation: Relation) -> Column:
        column = column_of(relation, self.column)
        if not column.nullable:
            raise PlanError(f"{relation.table}.{self.column} is NOT NULL already", hint="remove the operation")
        if strict := [b.table for b in catalog.below(relation.table) if not column_of(b, self.column).nullable]:
            raise PlanError(
                f"{self.column} is NOT NULL already in {', '.join(map(str, strict))}, below {relation.table}: a "
                "rollback would make it nullable there too",
                hint="set it NOT NULL in the other tables below first, in a change of its own, then here",
            )
        return column

    def _delete(self, catalog: Catalog, relation: Relation, context: PlanContext) -> rows.Cleaning:
        if any(table == relation.table for table, _ in context.filled):
            raise PlanError(
                f"nulls: delete: another operation of this change fills or converts columns of {relation.table}, so "
                "that the rows could not be given back",
                hint="delete them in a change of its own, or choose nulls: fill",
            )
        pending = text(sql.SQL("{} IS NULL").format(sql.Identifier(relation.table.name, self.column)))
        kept = rows.kept_table("rows", relation.table, self.column, context.version)
        return rows.delete(catalog, relation, pending, kept, f"NOT NULL of {self.column}")

    def _fill(self, relation: Relation, column: Column, fill: Expression) -> list[Step]:
        if not relation.key:
            raise PlanError(
                f"{relation.table} has no key, so a rollback could not tell which rows were filled",
                hint="add a primary key first, or fill the NULLs in a change of its own with a raw backfill",
            )
        table = relation.table
        return [
            Step(
                phase=Phase.EXPAND,
                title=f"replace NULLs written to {table}.{column.name}",
                tables=(table,),
                statements=filled_on_write.replace_nulls(table, column.name, fill.text, relation.key),
                lock=LockMode.SHARE_ROW_EXCLUSIVE,
                undo=filled_on_write.drop(table, column.name),
                undo_lock=LockMode.ACCESS_EXCLUSIVE,
                lasting=False,
            ),
            Step(
                phase=Phase.BACKFILL,
                title=f"fill NULLs of {table}.{column.name}",
                tables=(table,),
                lock=LockMode.ROW_EXCLUSIVE,
                # Before the rows are set back: the trigger would remember more of them behind our back.
                undo=filled_on_write.drop(table, column.name),
                undo_lock=LockMode.ACCESS_EXCLUSIVE,
                lasting=False,
                backfill=Backfill(
                    table=table,
                    column=column.name,
                    expression=fill.text,
                    pending=text(sql.SQL("{} IS NULL").format(sql.Identifier(column.name))),
                    key=relation.key,
                    new_rows=NewRows.TRIGGER,
                    remember=True,
                ),
            ),
        ]

    def _stays_null(self, relation: Relation, fill: Expression) -> DataCheck:
        where = sql.SQL("FROM {} WHERE {} IS NULL AND ({}) IS NULL").format(
            relation.table.identifier, sql.Identifier(self.column), raw(fill.text)
        )
        key = sql.SQL(", ").join(map(sql.Identifier, relation.key))
        return DataCheck(
            name=f"NULL in {relation.table}.{self.column} that the fill leaves NULL",
            count=text(sql.SQL("SELECT count(*) {}").format(where)),
            sample=text(sql.SQL("SELECT {} {} LIMIT 10").format(key, where)),
            remedy="give the fill a value for these rows, for example with coalesce(…)",
        )
