"""From Great Expectations' results to our outcomes: JSON-safe, and without values of rows."""

from __future__ import annotations

import datetime as dt
import math
import numbers
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from schema_change.core.model import Expectation
from schema_change.core.validation.outcomes import CheckOutcome, Status
from schema_change.core.validation.suites import Suite

#: What these observe is the catalog, not rows, so it may be shown as it is.
_CATALOG_TYPES = ("expect_pg_", "expect_table_columns_", "expect_table_column_count_", "expect_column_to_exist")
_CATALOG_TYPE_NAMES = ("expect_column_values_to_be_of_type", "expect_column_values_to_be_in_type_list")


def outcome(suite: Suite, check: Expectation, result: Any) -> CheckOutcome:
    """Return what one result of Great Expectations says about a check."""
    error = error_of(result)
    found = result.result or {}
    status: Status = "error" if error else "passed" if bool(result.success) else "failed"
    return CheckOutcome(
        suite=suite.name,
        table=str(suite.table),
        check_id=check.check_id,
        type=check.type,
        column=_column(check),
        severity=check.severity,
        status=status,
        observed=observed(check.type, found.get("observed_value")),
        element_count=_integer(found.get("element_count")),
        unexpected_count=_integer(found.get("unexpected_count")),
        unexpected_percent=_float(found.get("unexpected_percent")),
        error=error,
        kwargs=plain(check.kwargs),
        notes=check.notes,
    )


def failure(suite: Suite, check: Expectation, message: str) -> CheckOutcome:
    """Return the outcome of a check that could not be carried out."""
    return CheckOutcome(
        suite=suite.name,
        table=str(suite.table),
        check_id=check.check_id,
        type=check.type,
        column=_column(check),
        severity=check.severity,
        status="error",
        error=message,
        kwargs=plain(check.kwargs),
        notes=check.notes,
    )


def error_of(result: Any) -> str | None:
    """Return the first error of a result, which comes in two shapes: flat, or one entry per metric."""
    info = result.exception_info or {}
    entries = [info] if "raised_exception" in info else list(info.values())
    for entry in entries:
        if isinstance(entry, Mapping) and entry.get("raised_exception"):
            # What follows is the statement and its values: in the log of the server, if anywhere.
            text = str(entry.get("exception_message") or "the check could not be carried out")
            return text.partition("\n[SQL:")[0].partition("\n(Background on this error")[0].strip()
    return None


def sample(result: Any, keys: tuple[str, ...]) -> tuple[dict[str, Any], ...]:
    """Return the primary keys of the sampled rows, and nothing else of them."""
    rows: Iterable[Any] = (result.result or {}).get("partial_unexpected_index_list") or ()
    return tuple({k: plain(row[k]) for k in keys} for row in rows if isinstance(row, Mapping) and set(keys) <= set(row))


def observed(type_: str, value: Any) -> Any:
    """Return an observed value without values of rows: numbers, times and catalog facts stay, the rest is counted."""
    if type_.startswith(_CATALOG_TYPES) or type_ in _CATALOG_TYPE_NAMES:
        return plain(value)
    if value is None or isinstance(value, numbers.Number | dt.date | dt.time | dt.timedelta):
        return plain(value)
    if _has_item(value):
        return observed(type_, value.item())
    if isinstance(value, list | tuple | set):
        return [plain(v) for v in value] if type_.endswith("quantile_values_to_be_between") else {"values": len(value)}
    if isinstance(value, Mapping):
        quantiles = value.get("values") if "quantiles" in value else None
        return (
            {"quantiles": plain(value["quantiles"]), "values": plain(quantiles)}
            if quantiles
            else {"values": len(value)}
        )
    return _time_or_nothing(value)


def _time_or_nothing(value: Any) -> str | None:
    """Keep the text of a time: the library has made texts of times by now, and any other text is a row's own."""
    try:
        return dt.datetime.fromisoformat(str(value)).isoformat()
    except ValueError:
        return None


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it; what it cannot hold becomes text."""
    if value is None or isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, Decimal):
        return int(value) if value.is_finite() and value == value.to_integral_value() else str(value)
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(v) for v in value]
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    return plain(value.item()) if _has_item(value) else str(value)


def _has_item(value: Any) -> bool:
    """Tell whether this is a scalar of numpy, which is no Python number."""
    return type(value).__module__ == "numpy" and hasattr(value, "item")


def _column(check: Expectation) -> str | None:
    for name in ("column", "column_A", "column_list", "columns"):
        if given := check.kwargs.get(name):
            other = check.kwargs.get("column_B") if name == "column_A" else None
            parts = [given, other] if other else list(given) if isinstance(given, list | dict) else [given]
            return ", ".join(map(str, parts))
    return None


def _integer(value: Any) -> int | None:
    return None if value is None else int(value)


def _float(value: Any) -> float | None:
    return None if value is None else float(value)
