"""``add_column``: a column, nullable or not, with a constant or volatile default, with or without a fill."""

from __future__ import annotations

from typing import ClassVar

from psycopg import sql
from pydantic import BaseModel, ConfigDict, Field

from schema_change.core.catalog.model import Catalog, Column, Relation
from schema_change.core.errors import PlanError
from schema_change.core.fields import Identifier, TableName
from schema_change.core.model import Backfill, Expectation, LockMode, NewRows, Phase, Step
from schema_change.core.names import Table
from schema_change.core.operations.base import Operation, PlanContext, Planned, checked, expression_of, table_of
from schema_change.core.recipes import filled_on_write, not_null, probe, raw, text
from schema_change.core.sqltext.expression import Expression, normalise_type, parse_expression


class NewColumn(BaseModel):
    """The column to add."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Identifier = Field(description="Name of the column")
    type: str = Field(description="PostgreSQL type, such as integer or numeric(5,2)")
    nullable: bool = Field(default=True, description="false adds NOT NULL once every row has a value")
    default: str | None = Field(default=None, description="SQL expression for rows inserted from now on")
    comment: str | None = Field(default=None, description="Comment on the column")


class AddColumn(Operation):
    """Add a column; with ``fill``, existing rows get the expression's value in batches."""

    kind: ClassVar[str] = "add_column"

    table: TableName = Field(description="Table, as schema.table")
    column: NewColumn
    fill: str | None = Field(
        default=None, description="SQL expression over the row for the rows that exist; runs in batches, resumable"
    )
    new_rows: NewRows = Field(
        default=NewRows.TRIGGER, description="Who fills rows written until contract: trigger, sweep or application"
    )

    def plan(self, catalog: Catalog, context: PlanContext) -> Planned:
        """Return the steps: add, backfill when there is something to fill, NOT NULL, take the trigger away."""
        relation = table_of(catalog, self.table)
        shape = self._shape(relation)
        fill = self._fill(catalog)
        if fill is not None and self.new_rows is NewRows.TRIGGER:
            remedy = "write that column's own expression instead, or choose new_rows: sweep"
            filled_on_write.refuse_generated(relation, shape.name, fill, remedy)
        if not shape.nullable and fill is None and self.column.default is None and relation.rows:
            raise PlanError(
                f"{relation.table}.{shape.name} is to be NOT NULL, but nothing gives the existing rows a value",
                hint="add default: or fill: to the operation, or leave out nullable: false",
            )
        steps = [self._add(relation.table, shape, fill)]
        expectations: list[Expectation] = []
        if fill is not None:
            steps.append(self._backfill(relation, fill))
            expectations.append(self._filled(relation.table, fill))
            if not shape.nullable:
                steps += not_null.steps(relation, shape.name, catalog.server_version)
            if self.new_rows is NewRows.TRIGGER:
                steps.append(filled_on_write.contract(relation.table, shape.name))
        if not shape.nullable:
            expectations.append(self._not_null(relation.table))
        return Planned(
            catalog=catalog.with_relation(relation.with_column(shape)),
            steps=tuple(steps),
            expectations=tuple(expectations),
            written=(relation.table,),
            read=fill.tables if fill else (),
            filled=frozenset({(relation.table, shape.name)}) if fill else frozenset(),
        )

    def _shape(self, relation: Relation) -> Column:
        name = self.column.name
        if relation.column(name) is not None:
            raise PlanError(
                f"{relation.table} already has a column {name}",
                hint="choose another name, or remove the operation when the column was added by hand",
            )
        return Column(
            name=name,
            type=checked(normalise_type, self.column.type, "type"),
            nullable=self.column.nullable,
            default=self.column.default,
            comment=self.column.comment,
        )

    def _fill(self, catalog: Catalog) -> Expression | None:
        """Return what existing rows get: the fill, or a default that differs from row to row."""
        if self.fill is not None:
            return expression_of(catalog, parse_expression, self.fill, "fill")
        if self.column.default is not None:
            default = expression_of(catalog, parse_expression, self.column.default, "default")
            return default if default.volatile_hint else None
        return None

    def _add(self, table: Table, shape: Column, fill: Expression | None) -> Step:
        column = sql.Identifier(shape.name)
        # With rows to fill, the default comes second: the column is then added without touching a row.
        inline = shape.default is not None and fill is None
        add = sql.SQL("ALTER TABLE {} ADD COLUMN {} {}{}{}").format(
            table.identifier,
            column,
            raw(shape.type),
            sql.SQL(" DEFAULT ") + raw(shape.default or "") if inline else sql.SQL(""),
            sql.SQL(" NOT NULL") if fill is None and not shape.nullable else sql.SQL(""),
        )
        statements = [text(add)]
        if shape.default is not None and not inline:
            default = sql.SQL("ALTER TABLE {} ALTER COLUMN {} SET DEFAULT {}")
            statements.append(text(default.format(table.identifier, column, raw(shape.default))))
        if shape.comment is not None:
            comment = sql.SQL("COMMENT ON COLUMN {}.{} IS {}")
            statements.append(text(comment.format(table.identifier, column, sql.Literal(shape.comment))))
        undo = [text(sql.SQL("ALTER TABLE {} DROP COLUMN IF EXISTS {}").format(table.identifier, column))]
        if fill is not None and self.new_rows is NewRows.TRIGGER:
            statements += filled_on_write.keep_filled(table, shape.name, shape.type, fill.text)
            undo = [*filled_on_write.drop(table, shape.name), *undo]
        return Step(
            phase=Phase.EXPAND,
            title=f"add column {table}.{shape.name} {shape.type}",
            tables=(table,),
            statements=tuple(statements),
            lock=LockMode.ACCESS_EXCLUSIVE,
            probe=probe("column_exists", table=table.quoted, column=shape.name),
            undo=tuple(undo),
            undo_lock=LockMode.ACCESS_EXCLUSIVE,
        )

    def _backfill(self, relation: Relation, fill: Expression) -> Step:
        table = relation.table
        column = sql.Identifier(self.column.name)
        return Step(
            phase=Phase.BACKFILL,
            title=f"fill {table}.{self.column.name}",
            tables=(table,),
            lock=LockMode.ROW_EXCLUSIVE,
            lasting=False,
            backfill=Backfill(
                table=table,
                column=self.column.name,
                expression=fill.text,
                pending=text(sql.SQL("{} IS NULL").format(column)),
                key=relation.key,
                new_rows=self.new_rows,
            ),
        )

    def _filled(self, table: Table, fill: Expression) -> Expectation:
        # NULL can be a right answer, so a NULL is wrong only where the expression gives a value.
        rule = sql.SQL("{} IS NOT NULL OR ({}) IS NULL").format(sql.Identifier(self.column.name), raw(fill.text))
        return Expectation(
            table=table,
            type="expect_rows_to_satisfy_sql",
            kwargs={"sql": text(rule)},
            check_id=f"{self.column.name}_filled",
            notes="every row whose fill expression gives a value has one",
        )

    def _not_null(self, table: Table) -> Expectation:
        return Expectation(
            table=table,
            type="expect_column_values_to_not_be_null",
            kwargs={"column": self.column.name},
            check_id=f"{self.column.name}_not_null",
        )
