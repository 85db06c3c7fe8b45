"""Columns and types as PostgreSQL's format_type() spells them; the library compares SQLAlchemy's renderings."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping
from typing import Any, ClassVar, TypedDict

from great_expectations.compatibility import pydantic
from great_expectations.execution_engine.execution_engine import ExecutionEngine
from great_expectations.execution_engine.sqlalchemy_execution_engine import SqlAlchemyExecutionEngine
from great_expectations.expectations.metrics.metric_provider import metric_value
from great_expectations.expectations.metrics.table_metric_provider import TableMetricProvider

from schema_change.core import sqlfiles
from schema_change.core.names import Table
from schema_change.core.validation.expectations.base import OwnExpectation

METRIC = "schema_change.table.columns"


class LiveColumn(TypedDict):
    """A column as the catalog has it."""

    type: str
    qualified_type: str
    nullable: bool


class TableColumns(TableMetricProvider):
    """The columns of a table by name, in order."""

    metric_name = METRIC
    value_keys = ("on",)

    @metric_value(engine=SqlAlchemyExecutionEngine)
    def _sqlalchemy(
        cls,  # noqa: N805 # the decorator makes it a class method
        execution_engine: SqlAlchemyExecutionEngine,
        metric_domain_kwargs: dict[str, Any],
        metric_value_kwargs: dict[str, Any],
        metrics: dict[str, Any],
        runtime_configuration: dict[str, Any],
    ) -> dict[str, LiveColumn]:
        table = Table.parse(metric_value_kwargs["on"])
        query = sqlfiles.block("queries/quality", "columns").as_string(None)
        with execution_engine.get_connection() as connection:
            rows = connection.exec_driver_sql(query, {"schema": table.schema, "name": table.name}).fetchall()
        return {r[0]: LiveColumn(type=r[1], qualified_type=r[2], nullable=r[3]) for r in rows}


class _CatalogExpectation(OwnExpectation, ABC):
    metric_dependencies: ClassVar[tuple[str, ...]] = (METRIC,)

    def differences(self, live: Mapping[str, LiveColumn]) -> tuple[Any, list[str]]:
        """Return what to show as observed, and what differs."""
        raise TypeError(f"{type(self).__name__} compares nothing")

    def _validate(
        self,
        metrics: Mapping[str, Any],
        runtime_configuration: Mapping[str, Any] | None = None,
        execution_engine: ExecutionEngine[Any] | None = None,
    ) -> dict[str, Any]:
        observed, different = self.differences(metrics[METRIC])
        return {"success": not different, "result": {"observed_value": observed}}


def _differs(live: LiveColumn, wanted: str) -> bool:
    return " ".join(wanted.split()) not in (live["type"], live["qualified_type"])


class ExpectPgColumnType(_CatalogExpectation):
    """Expect a column to exist with a type, spelled as ``psql \\d`` spells it: ``numeric(12,2)``, ``text[]``."""  # noqa: D301

    column: str
    type: str

    sentence: ClassVar[str] = "$column must be of type $type"
    success_keys: ClassVar[tuple[str, ...]] = ("on", "column", "type")

    def differences(self, live: Mapping[str, LiveColumn]) -> tuple[Any, list[str]]:
        """Return the type found, or that the column does not exist."""
        found = live.get(self.column)
        if found is None:
            return "no such column", [self.column]
        return found["type"], [self.column] if _differs(found, self.type) else []


class WantedColumn(pydantic.BaseModel):
    """What a column must be; ``nullable`` left out is not compared."""

    type: str
    nullable: bool | None = None

    class Config:
        """Refuse words that would otherwise be dropped."""

        extra = pydantic.Extra.forbid


class ExpectPgSchemaToMatch(_CatalogExpectation):
    """Expect a table's columns and types; ``columns`` maps a name to a type, or to ``{type, nullable}``."""

    columns: dict[str, str | WantedColumn]
    allow_more_columns: bool = False

    sentence: ClassVar[str] = "the table must have the columns $columns"
    success_keys: ClassVar[tuple[str, ...]] = ("on", "columns", "allow_more_columns")

    def differences(self, live: Mapping[str, LiveColumn]) -> tuple[Any, list[str]]:
        """Return one line per difference."""
        found = []
        for name, given in self.columns.items():
            wanted = WantedColumn(type=given) if isinstance(given, str) else given
            column = live.get(name)
            if column is None:
                found.append(f"{name}: missing")
            elif _differs(column, wanted.type):
                found.append(f"{name}: type is {column['type']}, not {wanted.type}")
            elif wanted.nullable is not None and wanted.nullable is not column["nullable"]:
                found.append(f"{name}: {'allows' if column['nullable'] else 'forbids'} NULL")
        if not self.allow_more_columns:
            found += [f"{name}: not expected" for name in live if name not in self.columns]
        return found or "as expected", found
