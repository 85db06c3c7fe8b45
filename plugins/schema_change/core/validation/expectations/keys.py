"""Keys: no duplicates, no orphans; counted by grouping or joining the key alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import sqlalchemy as sa
from great_expectations.compatibility import pydantic
from great_expectations.execution_engine.sqlalchemy_execution_engine import SqlAlchemyExecutionEngine
from great_expectations.expectations.metrics.metric_provider import metric_value
from great_expectations.expectations.metrics.table_metric_provider import TableMetricProvider

from schema_change.core.names import Table
from schema_change.core.validation.expectations.base import CountingExpectation, table_clause

DUPLICATES = "schema_change.rows.duplicated"
ORPHANS = "schema_change.rows.orphaned"


def _complete(table: sa.FromClause, columns: Sequence[str]) -> sa.ColumnElement[bool]:
    """Return that no key column is NULL: as in PostgreSQL, such a key is neither a duplicate nor an orphan."""
    return sa.and_(*(table.c[c].is_not(None) for c in columns))


def _duplicated(
    rows: sa.FromClause, key: Sequence[sa.ColumnClause[Any]], chosen: Sequence[sa.ColumnElement[Any]]
) -> sa.Select[Any]:
    """Return what is chosen of each key that occurs more than once."""
    complete = (column.is_not(None) for column in key)
    return sa.select(*chosen).select_from(rows).where(*complete).group_by(*key).having(sa.func.count() > 1)


def rows_duplicated(rows: sa.FromClause, key: Sequence[sa.ColumnClause[Any]]) -> sa.Select[Any]:
    """Return the query that counts the rows whose key another row has too."""
    found = _duplicated(rows, key, [sa.func.count().label("n")]).subquery()
    return sa.select(sa.func.sum(found.c.n))


def _without_parent(child: sa.FromClause, kwargs: Mapping[str, Any]) -> sa.ColumnElement[bool]:
    parent = table_clause(Table.parse(kwargs["parent_table"]), kwargs["parent_columns"]).alias("parent")
    pairs = zip(kwargs["columns"], kwargs["parent_columns"], strict=True)
    match = sa.and_(*(parent.c[theirs] == child.c[ours] for ours, theirs in pairs))
    return sa.and_(
        _complete(child, kwargs["columns"]), ~sa.select(sa.literal(1)).select_from(parent).where(match).exists()
    )


class _CountMetric(TableMetricProvider):
    """A count that needs a query of its own."""

    @classmethod
    def query(cls, kwargs: Mapping[str, Any]) -> sa.Select[Any]:
        """Return the query of one number."""
        raise TypeError(f"{cls.__name__} has no query")

    @metric_value(engine=SqlAlchemyExecutionEngine)
    def _sqlalchemy(
        cls: Any,  # noqa: N805 # the decorator makes it a class method
        execution_engine: SqlAlchemyExecutionEngine,
        metric_domain_kwargs: dict[str, Any],
        metric_value_kwargs: dict[str, Any],
        metrics: dict[str, Any],
        runtime_configuration: dict[str, Any],
    ) -> int:
        return int(execution_engine.execute_query(cls.query(metric_value_kwargs)).scalar() or 0)


class RowsDuplicated(_CountMetric):
    """Count of rows whose key another row has too."""

    metric_name = DUPLICATES
    value_keys = ("on", "columns")

    @classmethod
    def query(cls, kwargs: Mapping[str, Any]) -> sa.Select[Any]:
        """Return the query of one number."""
        rows = table_clause(Table.parse(kwargs["on"]), kwargs["columns"])
        return rows_duplicated(rows, list(rows.c))


class RowsOrphaned(_CountMetric):
    """Count of rows whose parent does not exist."""

    metric_name = ORPHANS
    value_keys = ("on", "columns", "parent_table", "parent_columns")

    @classmethod
    def query(cls, kwargs: Mapping[str, Any]) -> sa.Select[Any]:
        """Return the query of one number."""
        child = table_clause(Table.parse(kwargs["on"]), kwargs["columns"])
        return sa.select(sa.func.count()).select_from(child).where(_without_parent(child, kwargs))


class ExpectCompoundKeyToBeUnique(CountingExpectation):
    """Expect no two rows to have the same key; NULL equals nothing, as in a UNIQUE constraint."""

    columns: list[str] = pydantic.Field(min_items=1)

    sentence: ClassVar[str] = "the key $columns must be unique"
    count_metric: ClassVar[str] = DUPLICATES
    metric_dependencies: ClassVar[tuple[str, ...]] = (DUPLICATES, "table.row_count")
    success_keys: ClassVar[tuple[str, ...]] = ("on", "columns")

    @property
    def compared(self) -> list[str]:
        """Return the columns of the key."""
        return self.columns

    def offenders(self, table: sa.TableClause) -> sa.ColumnElement[bool]:
        """Return the condition of the rows to sample."""
        rows = table_clause(Table.parse(self.on), self.columns)
        key = list(rows.c)
        return sa.tuple_(*(table.c[c] for c in self.columns)).in_(_duplicated(rows, key, key))


class ExpectNoOrphanedRows(CountingExpectation):
    """Expect every row's key to exist in a parent table; a key with a NULL in it refers to nothing (MATCH SIMPLE)."""

    columns: list[str] = pydantic.Field(min_items=1)
    parent_table: str
    parent_columns: list[str] = pydantic.Field(min_items=1)

    sentence: ClassVar[str] = "$columns must refer to existing rows of $parent_table $parent_columns"
    count_metric: ClassVar[str] = ORPHANS
    metric_dependencies: ClassVar[tuple[str, ...]] = (ORPHANS, "table.row_count")
    success_keys: ClassVar[tuple[str, ...]] = ("on", "columns", "parent_table", "parent_columns")

    @classmethod
    def prepare(cls, kwargs: Mapping[str, Any], table: Table) -> dict[str, Any]:
        """Qualify the parent by the schema of the table; refuse a key of another length."""
        given = super().prepare(kwargs, table)
        if isinstance(given.get("parent_table"), str):
            given["parent_table"] = str(Table.parse(given["parent_table"], table.schema))
        ours, theirs = given.get("columns"), given.get("parent_columns")
        if isinstance(ours, list) and isinstance(theirs, list) and len(ours) != len(theirs):
            raise ValueError("columns and parent_columns must be of the same length")
        return given

    @property
    def compared(self) -> list[str]:
        """Return the columns of the key."""
        return self.columns

    def offenders(self, table: sa.TableClause) -> sa.ColumnElement[bool]:
        """Return the condition of the rows to sample."""
        return _without_parent(table, {k: getattr(self, k) for k in self.success_keys})
