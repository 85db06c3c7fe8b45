"""Rows that must satisfy a rule written in SQL; all such rules of a table cost one scan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import sqlalchemy as sa
from great_expectations.core.metric_domain_types import MetricDomainTypes
from great_expectations.core.metric_function_types import MetricPartialFunctionTypes
from great_expectations.execution_engine.sqlalchemy_execution_engine import SqlAlchemyExecutionEngine
from great_expectations.expectations.metrics.metric_provider import metric_partial
from great_expectations.expectations.metrics.table_metric_provider import TableMetricProvider

from schema_change.core.names import Table
from schema_change.core.sqltext.expression import parse_expression
from schema_change.core.validation.expectations.base import CountingExpectation

METRIC = "schema_change.rows.violating"


def violates(expression: str) -> sa.ColumnElement[bool]:
    """Return the condition that a rule is not true. NULL is not true: a rule that cannot be decided is not kept."""
    return sa.not_(sa.func.coalesce(sa.literal_column(expression, sa.Boolean), sa.false()))


class RowsViolating(TableMetricProvider):
    """Count of rows that break a rule, as an aggregate that is bundled with others into one query."""

    metric_name = METRIC
    value_keys = ("on", "sql")

    @metric_partial(
        engine=SqlAlchemyExecutionEngine,
        partial_fn_type=MetricPartialFunctionTypes.AGGREGATE_FN,
        domain_type=MetricDomainTypes.TABLE,
    )
    def _sqlalchemy(
        cls,  # noqa: N805 # the decorator makes it a class method
        execution_engine: SqlAlchemyExecutionEngine,
        metric_domain_kwargs: dict[str, Any],
        metric_value_kwargs: dict[str, Any],
        metrics: dict[str, Any],
        runtime_configuration: dict[str, Any],
    ) -> tuple[Any, dict[str, Any], dict[str, Any]]:
        count = sa.func.count().filter(violates(metric_value_kwargs["sql"]))
        return count, metric_domain_kwargs, {}


class ExpectRowsToSatisfySql(CountingExpectation):
    """Expect an SQL condition over the row to be true in every row."""

    sql: str

    sentence: ClassVar[str] = "every row must satisfy $sql"
    count_metric: ClassVar[str] = METRIC
    metric_dependencies: ClassVar[tuple[str, ...]] = (METRIC, "table.row_count")
    success_keys: ClassVar[tuple[str, ...]] = ("on", "sql")

    @classmethod
    def prepare(cls, kwargs: Mapping[str, Any], table: Table) -> dict[str, Any]:
        """Qualify the tables that the condition names; refuse anything but one expression without side effects."""
        given = super().prepare(kwargs, table)
        if isinstance(given.get("sql"), str):
            given["sql"] = parse_expression(given["sql"], default_schema=table.schema).text
        return given

    def offenders(self, table: sa.TableClause) -> sa.ColumnElement[bool]:
        """Return the condition of the rows to sample."""
        return violates(self.sql)
