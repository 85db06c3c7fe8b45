"""From our checks to Great Expectations' objects, strictly.

Its own loader drops what it does not understand (1.24: an unknown type or severity leaves an empty suite, which
passes), so every check is built one by one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from great_expectations.compatibility import pydantic
from great_expectations.core.suite_parameters import is_suite_parameter, parse_suite_parameter
from great_expectations.exceptions.exceptions import ExpectationNotFoundError, SuiteParameterError
from great_expectations.expectations.expectation import Expectation as GxExpectation
from great_expectations.expectations.metadata_types import FailureSeverity
from great_expectations.expectations.registry import (
    get_expectation_impl,
    list_registered_expectation_implementations,
)

from schema_change.core.model import Expectation
from schema_change.core.names import Table
from schema_change.core.validation.expectations import catalog, keys, metrics, rows
from schema_change.core.validation.expectations.base import OwnExpectation

#: Importing a module registers its expectations, metrics and data source.
OWN_MODULES = (catalog, keys, metrics, rows)

#: What Great Expectations keeps beside the arguments of an expectation; ours have keys of their own for it.
_NOT_KWARGS = frozenset(
    {"id", "meta", "notes", "rendered_content", "severity", "description", "batch_id", "windows", "catch_exceptions"}
    | {"result_format", "on"}
)


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a check cannot be built; ``key`` is the path inside the check's entry."""

    message: str
    key: tuple[str | int, ...] = ()
    hint: str | None = None


class CheckProblem(ValueError):
    """A check cannot be built."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


class Builder:
    """Build one check at a time."""

    @staticmethod
    def build(check: Expectation, parameters: Mapping[str, Any] | None = None) -> GxExpectation:
        """Return the expectation, with every ``$PARAMETER`` replaced when parameters are given.

        Raises CheckProblem: unknown type or kwarg, a value that does not fit, a parameter without a value.
        """
        model = _model(check.type)
        allowed = sorted(set(model.__fields__) - _NOT_KWARGS)
        for name in check.kwargs:
            if name not in allowed:
                raise CheckProblem(Problem(f"{check.type} has no such kwarg", ("kwargs", name), _hint(name, allowed)))
        kwargs = dict(check.kwargs) if parameters is None else _fill_in(check.kwargs, parameters)
        if issubclass(model, OwnExpectation):
            kwargs = _prepare(model, kwargs, check.table)
        try:
            severity = FailureSeverity(check.severity)
        except ValueError as error:
            known = [s.value for s in FailureSeverity]
            raise CheckProblem(
                Problem(f"{check.severity!r} is no severity", ("severity",), _hint(check.severity, known))
            ) from error
        try:
            return model(**kwargs, severity=severity, notes=check.notes or None, meta={"check_id": check.check_id})
        except pydantic.ValidationError as error:
            # Of a value that may have several shapes, the error deepest inside is the one that helps.
            worst = max(error.errors(), key=lambda e: len(e["loc"]))
            key = tuple(k for k in worst["loc"] if k != "__root__")
            raise CheckProblem(Problem(worst["msg"], ("kwargs", *key))) from error

    @staticmethod
    def problem(check: Expectation) -> Problem | None:
        """Return why a check cannot be built, or None."""
        try:
            Builder.build(check)
        except CheckProblem as error:
            return error.problem
        return None


def _model(type_: str) -> type[GxExpectation]:
    try:
        found: type[GxExpectation] = get_expectation_impl(type_)
    except ExpectationNotFoundError as error:
        known = list_registered_expectation_implementations()
        raise CheckProblem(Problem(f"{type_!r} is no expectation", ("type",), _hint(type_, known))) from error
    return found


def _prepare(model: type[OwnExpectation], kwargs: dict[str, Any], table: Table) -> dict[str, Any]:
    try:
        return model.prepare(kwargs, table)
    except ValueError as error:
        raise CheckProblem(
            Problem(getattr(error, "message", str(error)), ("kwargs",), getattr(error, "hint", None))
        ) from error


def _hint(word: str, words: list[str]) -> str:
    close = get_close_matches(word, words, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"valid here: {', '.join(words)}" if len(words) <= 20 else "the list is in docs/validation.md"


def _fill_in(value: Any, parameters: Mapping[str, Any]) -> Any:
    """Replace ``{$PARAMETER: expression}`` by its value, so that one missing value costs one check, not the run."""
    if is_suite_parameter(value):
        try:
            return parse_suite_parameter(value["$PARAMETER"], dict(parameters))
        except SuiteParameterError as error:
            message = f"no value for parameter {value['$PARAMETER']!r}"
            raise CheckProblem(Problem(message, ("kwargs",), "pass it in parameters")) from error
    if isinstance(value, Mapping):
        return {k: _fill_in(v, parameters) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_fill_in(v, parameters) for v in value]
    return value
