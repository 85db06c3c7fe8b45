"""The library's engine for PostgreSQL, reading a table once where the library reads it many times.

It computes metrics wave by wave, as they depend on each other, and sends one query per wave and kind of metric. Most of
these dependencies are there for other databases. :mod:`~schema_change.core.validation.expectations.metrics` says for
this engine what a metric really needs; the engine keeps aggregates back until nothing else can be done, and then asks
for all of them in one query.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterable, Mapping
from typing import Any, Literal, Type  # noqa: UP035 # as below

import sqlalchemy as sa
from great_expectations.datasource.fluent.postgres_datasource import PostgresDatasource
from great_expectations.exceptions.exceptions import MetricResolutionError
from great_expectations.execution_engine.execution_engine import MetricComputationConfiguration
from great_expectations.execution_engine.sqlalchemy_execution_engine import SqlAlchemyExecutionEngine
from great_expectations.expectations.registry import get_metric_provider
from great_expectations.validator.metric_configuration import MetricConfiguration

#: What narrows the rows of a metric down; anything else in its domain says which columns it is about.
_FILTERS = ("row_condition", "condition_parser")


def _is_content(name: str) -> bool:
    """Tell whether a metric is values of rows that offend: nothing shows them, so they are not read.

    Those of a regular expression are left: with LIMIT 0, planning finds a wrong one even in a table without rows.
    """
    return name == "unexpected_rows_query.table" or (name.endswith(".unexpected_values") and "regex" not in name)


class OnePassEngine(SqlAlchemyExecutionEngine):
    """Compute every metric of a table once, and all its aggregates in one query.

    What was computed is kept, so the tables must not change in the engine's life: it is for one snapshot.
    """

    def __init__(self, **options: Any) -> None:
        named = "SF_PARTNER" in os.environ
        super().__init__(**options)
        if not named:  # the library tells Snowflake, which is nobody here, who it is
            os.environ.pop("SF_PARTNER", None)
        self._computed: dict[Any, Any] = {}
        self._asked: set[Any] = set()

    def resolve_metrics(
        self,
        metrics_to_resolve: Iterable[MetricConfiguration],
        metrics: dict[Any, Any] | None = None,
        runtime_configuration: dict[str, Any] | None = None,
    ) -> dict[Any, Any]:
        """Return the metrics that can be computed now; the library asks again for those that were kept back."""
        wanted = list(metrics_to_resolve)
        self._computed |= {m.id: [] for m in wanted if _is_content(m.metric_name)}
        missing = [m for m in wanted if m.id not in self._computed]
        aggregates = [m for m in missing if get_metric_provider(m.metric_name, self)[1] is None]
        for metric in missing:
            if metric not in aggregates:
                self._computed |= super().resolve_metrics([metric], metrics, runtime_configuration)
        if len(aggregates) == len(wanted):
            self._compute_together(aggregates, metrics, runtime_configuration)
        return {m.id: self._computed[m.id] for m in wanted if m.id in self._computed}

    def _compute_together(
        self, aggregates: list[MetricConfiguration], metrics: dict[Any, Any] | None, how: dict[str, Any] | None
    ) -> None:
        if self._asked.isdisjoint(m.id for m in aggregates):
            self._asked |= {m.id for m in aggregates}
            with contextlib.suppress(MetricResolutionError):
                super().resolve_metrics(aggregates, metrics, how)
        # The library names all that failed, with the last one's error for each. Asked alone, each gives its own.
        for metric in aggregates:
            if metric.id not in self._computed:
                super().resolve_metrics([metric], metrics, how)

    def resolve_metric_bundle(self, metric_fn_bundle: Iterable[MetricComputationConfiguration]) -> dict[Any, Any]:
        """Compute aggregates in one query per filter, whatever columns they are about, and keep them.

        When the query fails, the library asks for each of them alone.
        """
        bundle = list(metric_fn_bundle)
        missing = [self._of_table(m) for m in bundle if m.metric_configuration.id not in self._computed]
        self._computed |= super().resolve_metric_bundle(missing)
        return {m.metric_configuration.id: self._computed[m.metric_configuration.id] for m in bundle}

    def _of_table(self, metric: MetricComputationConfiguration) -> MetricComputationConfiguration:
        return dataclasses.replace(metric, compute_domain_kwargs=self._domain(metric.compute_domain_kwargs or {}))

    def _domain(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return which rows are meant, of the table itself: a batch is a subquery with another name than the table's.

        A metric may also name another table, to compare with.
        """
        batch: Any = self.batch_manager.batch_data_cache[given["batch_id"]]
        filters = {name: given[name] for name in _FILTERS if given.get(name)}
        return {"batch_id": given["batch_id"], "table": given.get("table") or batch.source_table_name, **filters}

    def rows(self, domain: Mapping[str, Any]) -> sa.FromClause:
        """Return the rows that a metric's domain is about, before ``ignore_row_if``."""
        found = self.get_domain_records(self._domain(domain))
        return found.subquery() if isinstance(found, sa.Select) else found


class OnePassPostgres(PostgresDatasource):
    """A data source whose tables are read by :class:`OnePassEngine`."""

    type: Literal["one_pass_postgres"] = "one_pass_postgres"  # type: ignore[assignment]

    @property
    def execution_engine_type(self) -> Type[OnePassEngine]:  # noqa: UP006 # "type" is a field of this class
        """Return the engine."""
        return OnePassEngine
