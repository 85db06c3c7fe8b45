"""The catalogue of operations: every module of this package that defines one is found by itself."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from functools import cache

from schema_change.core.operations.base import Operation


@cache
def catalogue() -> dict[str, type[Operation]]:
    """Return every operation by the key it has in a change file."""
    found: dict[str, type[Operation]] = {}
    for module in pkgutil.iter_modules(__path__):
        loaded = importlib.import_module(f"{__name__}.{module.name}")
        for _, member in inspect.getmembers(loaded, inspect.isclass):
            if (
                issubclass(member, Operation)
                and not inspect.isabstract(member)
                and member.__module__ == loaded.__name__
            ):
                found[member.kind] = member
    return dict(sorted(found.items()))
