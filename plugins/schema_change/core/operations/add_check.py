"""``add_check``: a condition that every row must satisfy, checked without blocking reads or writes."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from psycopg import sql
from pydantic import Field

from schema_change.core.catalog.model import Catalog, Constraint, Relation
from schema_change.core.errors import PlanError
from schema_change.core.fields import Identifier, TableName
from schema_change.core.model import DataCheck, Expectation, Phase, Step
from schema_change.core.operations.base import Operation, PlanContext, Planned, column_of, expression_of, table_of
from schema_change.core.recipes import constraint as constraints
from schema_change.core.recipes import raw, text
from schema_change.core.sqltext.expression import Expression, parse_predicate


class AddCheck(Operation):
    """Add a CHECK constraint: at cutover for rows written from then on, then for those that are there."""

    kind: ClassVar[str] = "add_check"

    table: TableName = Field(description="Table, as schema.table")
    check: str = Field(description="Condition over the row, such as price >= 0; as in SQL, NULL satisfies it")
    name: Identifier | None = Field(
        default=None, description="Name of the constraint; made from table and columns by default"
    )
    comment: str | None = Field(default=None, description="Comment on the constraint")

    def plan(self, catalog: Catalog, context: PlanContext) -> Planned:
        """Return the cutover steps: demand it of new rows, then check the others."""
        relation = table_of(catalog, self.table, partitions=True)
        table = relation.table
        condition = expression_of(catalog, parse_predicate, self.check, "check")
        for column in condition.columns:
            column_of(relation, column)
        name = constraints.free_name(relation, self.name, table.name, *condition.columns[:1], "check")
        if taken := [b.table for b in catalog.below(table) if any(c.name == name for c in b.constraints)]:
            raise PlanError(
                f"{', '.join(map(str, taken))}, below {table}, already has a constraint {name}",
                hint="choose another name with name:",
            )
        constraint = Constraint(
            name, "c", f"CHECK (({condition.text}))", columns=condition.columns, comment=self.comment
        )
        return Planned(
            catalog=catalog.with_relation(replace(relation, constraints=(*relation.constraints, constraint))),
            steps=self._steps(relation, constraint, condition),
            expectations=(_holds(relation, name, condition),),
            data_checks=(_broken(relation, name, condition),) if context.has_rows_of(table, condition.columns) else (),
            written=(table,),
            touched=tuple(below.table for below in catalog.below(table)),
        )

    def _steps(self, relation: Relation, constraint: Constraint, condition: Expression) -> tuple[Step, Step]:
        definition = sql.SQL("CHECK ({})").format(raw(condition.text))
        forbid, validate = constraints.add(relation.table, constraint.name, definition, phase=Phase.CUTOVER)
        comment = constraints.comment(relation.table, constraint)
        return replace(forbid, statements=(*forbid.statements, *comment)), validate


def _broken(relation: Relation, name: str, condition: Expression) -> DataCheck:
    where = sql.SQL("FROM {} WHERE NOT ({})").format(relation.table.identifier, raw(condition.text))
    shown = dict.fromkeys((*relation.key, *condition.columns))
    columns = sql.SQL(", ").join(map(sql.Identifier, shown)) if shown else sql.SQL("ctid")
    return DataCheck(
        name=f"rows of {relation.table} that break {name}",
        count=text(sql.SQL("SELECT count(*) {}").format(where)),
        sample=text(sql.SQL("SELECT {} {} LIMIT 10").format(columns, where)),
        remedy="correct these rows first, or write a condition that they satisfy",
    )


def _holds(relation: Relation, name: str, condition: Expression) -> Expectation:
    return Expectation(
        table=relation.table,
        type="expect_rows_to_satisfy_sql",
        # A condition that is NULL is satisfied.
        kwargs={"sql": text(sql.SQL("({}) IS NOT FALSE").format(raw(condition.text)))},
        check_id=name,
        notes="every row satisfies the constraint",
    )
