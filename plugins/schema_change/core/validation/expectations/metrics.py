"""The library's metrics for :class:`OnePassEngine`: the same numbers from fewer passes over the table.

Each takes the place of the library's own of that name for this engine alone, as the library's registry provides for
engines. A metric that is not here works as the library has it, and at worst costs a query more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import sqlalchemy as sa
from great_expectations.core.metric_function_types import MetricFunctionTypes, MetricPartialFunctionTypes
from great_expectations.exceptions.exceptions import MetricProviderError
from great_expectations.expectations import metrics as library
from great_expectations.expectations.metrics.column_aggregate_metric_provider import ColumnAggregateMetricProvider
from great_expectations.expectations.metrics.map_metric_provider.map_metric_provider import MapMetricProvider
from great_expectations.expectations.metrics.metric_provider import MetricProvider
from great_expectations.expectations.registry import (
    get_metric_kwargs,
    get_sqlalchemy_metric_provider,
    register_metric,
)
from great_expectations.validator.metric_configuration import MetricConfiguration

from schema_change.core.validation.expectations.engine import OnePassEngine
from schema_change.core.validation.expectations.keys import rows_duplicated

Aggregate = tuple[sa.ColumnElement[Any], dict[str, Any], dict[str, Any]]

_PARTIAL = "aggregate_fn"

#: The parts of a metric about the values of each row.
_PARTS = (
    "condition",
    "unexpected_count",
    f"unexpected_count.{_PARTIAL}",
    "filtered_row_count",
    "unexpected_index_list",
    "unexpected_index_query",
)

#: Conditions over several columns, for each of which the library reads the table twice.
_ROW_CONDITIONS = (
    "column_pair_values.a_greater_than_b",
    "column_pair_values.equal",
    "column_pair_values.in_set",
    "multicolumn_sum.equal",
    "multicolumn_values.equal",
    "select_column_values.unique.within_record",
)

#: Which rows such a condition leaves out: those in which all of its columns are NULL, or any of them.
_LEFT_OUT: Mapping[str, Callable[..., sa.ColumnElement[bool]]] = {
    "both_values_are_missing": sa.and_,
    "all_values_are_missing": sa.and_,
    "either_value_is_missing": sa.or_,
    "any_value_is_missing": sa.or_,
}


class _Lean(MetricProvider):
    """A metric that does not wait for what only other databases need: the count of all rows, a mean for its spread."""

    @classmethod
    def _register_metric_functions(cls) -> None:
        """Leave the library's own registration alone."""

    @classmethod
    def get_evaluation_dependencies(
        cls, metric: MetricConfiguration, *given: Any, **options: Any
    ) -> dict[str, MetricConfiguration]:
        """Return the metrics that must be computed before."""
        needed: dict[str, MetricConfiguration] = super().get_evaluation_dependencies(metric, *given, **options)
        needed.pop("table.row_count", None)
        if metric.metric_name.startswith("column.standard_deviation"):
            needed = {k: v for k, v in needed.items() if k == "metric_partial_fn" or k.startswith("table.")}
        return needed


class _RowCount(_Lean):
    """A count of rows that is an aggregate over the condition's columns."""

    @classmethod
    def get_evaluation_dependencies(
        cls, metric: MetricConfiguration, *given: Any, **options: Any
    ) -> dict[str, MetricConfiguration]:
        """Return the metrics that must be computed before."""
        needed = super().get_evaluation_dependencies(metric, *given, **options)
        if metric.metric_name.endswith(f".{_PARTIAL}"):
            condition = metric.metric_name.rsplit(".", 2)[0]
            values = {k: v for k, v in metric.metric_value_kwargs.items() if k != "result_format"}
            needed["unexpected_condition"] = MetricConfiguration(
                f"{condition}.condition", metric.metric_domain_kwargs, values
            )
        return needed


def _unexpected_rows(*, metrics: Mapping[str, Any], **_: Any) -> Aggregate:
    condition, domain, columns = metrics["unexpected_condition"]
    return sa.func.count().filter(_considered(domain, columns), condition), domain, columns


def _considered_rows(*, metrics: Mapping[str, Any], **_: Any) -> Aggregate:
    _, domain, columns = metrics["unexpected_condition"]
    return sa.func.count().filter(_considered(domain, columns)), domain, columns


def _considered(domain: Mapping[str, Any], columns: Mapping[str, Any]) -> sa.ColumnElement[bool]:
    """Return which rows the library's ``ignore_row_if`` leaves."""
    left_out = _LEFT_OUT.get(domain.get("ignore_row_if", ""))
    names = columns.get("column_list") or [columns["column_A"], columns["column_B"]]
    return sa.not_(left_out(*(sa.column(name).is_(None) for name in names))) if left_out else sa.true()


def _duplicated_rows(*, execution_engine: OnePassEngine, metrics: Mapping[str, Any], **_: Any) -> int:
    """Group the key alone, where the library sorts every row or joins whole rows."""
    _, domain, columns = metrics["unexpected_condition"]
    key: list[sa.ColumnClause[Any]] = [sa.column(name) for name in columns.get("column_list") or [columns["column"]]]
    return int(execution_engine.execute_query(rows_duplicated(execution_engine.rows(domain), key)).scalar() or 0)


def _distinct_values(*, execution_engine: OnePassEngine, metrics: Mapping[str, Any], **_: Any) -> int:
    """Count in a query of its own: ``count(DISTINCT …)`` sorts, and keeps parallel workers from other aggregates."""
    _, domain, columns = metrics["metric_partial_fn"]
    column: sa.ColumnClause[Any] = sa.column(columns["column"])
    values = sa.select(column).select_from(execution_engine.rows(domain)).where(column.is_not(None)).distinct()
    counted = sa.select(sa.func.count()).select_from(values.subquery())
    return int(execution_engine.execute_query(counted).scalar() or 0)


#: Metrics that become aggregates; the library sends a query for each.
_AGGREGATES: Mapping[str, Callable[..., Aggregate]] = {
    "compound_columns.unique.filtered_row_count": _considered_rows,
    **{f"{condition}.unexpected_count": _unexpected_rows for condition in _ROW_CONDITIONS},
    **{f"{condition}.filtered_row_count": _considered_rows for condition in _ROW_CONDITIONS},
}

#: Metrics that stay a query of their own, and get a better one.
_OWN_QUERIES: Mapping[str, Callable[..., int]] = {
    "column.distinct_values.count": _distinct_values,
    "column_values.unique.unexpected_count": _duplicated_rows,
    "compound_columns.unique.unexpected_count": _duplicated_rows,
}


def _register(
    name: str,
    metric: type[MetricProvider],
    provider: Callable[..., Any] | None,
    kind: MetricFunctionTypes | MetricPartialFunctionTypes = MetricFunctionTypes.VALUE,
) -> None:
    keys = get_metric_kwargs(name.removesuffix(f".{_PARTIAL}"))
    domain, values = keys["metric_domain_keys"], keys["metric_value_keys"]
    register_metric(name, domain, values, OnePassEngine, metric, provider, kind)


def _register_lean(metric: type[MetricProvider]) -> None:
    """Register a metric of the library as it is, but for what it waits for."""
    lean = type(metric.__name__, (_Lean, metric), {})
    for name in _names(metric) - _AGGREGATES.keys():
        _, provider = get_sqlalchemy_metric_provider(name)
        kind = getattr(provider, "metric_fn_type", MetricFunctionTypes.VALUE)
        _register(name, lean, _OWN_QUERIES.get(name, provider), kind)


def _names(metric: type[MetricProvider]) -> set[str]:
    """Return the names of a metric's parts that need no other metric's value."""
    names = set()
    if (name := getattr(metric, "metric_name", None)) and _is_known(f"{name}.{_PARTIAL}"):
        names |= {name, f"{name}.{_PARTIAL}"}
    if name := getattr(metric, "function_metric_name", None):
        names.add(f"{name}.map")
    if name := getattr(metric, "condition_metric_name", None):
        names |= {f"{name}.{part}" for part in _PARTS}
    return {name for name in names if _is_known(name)}


def _is_known(name: str) -> bool:
    try:
        get_sqlalchemy_metric_provider(name)
    except MetricProviderError:
        return False
    return True


def _register_all() -> None:
    for metric in vars(library).values():
        if isinstance(metric, type) and issubclass(metric, ColumnAggregateMetricProvider | MapMetricProvider):
            _register_lean(metric)
    for name, provider in _AGGREGATES.items():
        _register(f"{name}.{_PARTIAL}", _RowCount, provider, MetricPartialFunctionTypes.AGGREGATE_FN)
        _register(name, _RowCount, None)


_register_all()
