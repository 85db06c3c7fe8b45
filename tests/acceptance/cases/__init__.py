"""Cases of the matrix: an operation on a small database, and what must be true once it has landed."""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Case:
    """One change for the matrix.

    ``setup`` builds the database, ``operations`` are those of the change file. ``after`` maps a query to the rows it
    must return once the change has landed. ``traffic`` are statements that an application on the old shape runs at any
    time before contract; none may fail, and no write of theirs may be lost. ``made_up`` says that values differ from
    run to run (random ones, numbers in the order of writing), so that the rows of two runs are not compared.
    """

    id: str
    setup: str
    operations: tuple[dict[str, Any], ...]
    after: dict[str, list[tuple[Any, ...]]]
    traffic: tuple[str, ...] = ()
    scripts: dict[str, str] | None = None
    oldest: int = 15
    made_up: bool = False


def all_cases() -> list[Case]:
    """Return the cases of every module of this package."""
    modules = [importlib.import_module(f"{__name__}.{m.name}") for m in pkgutil.iter_modules(__path__)]
    return [case for module in modules for case in module.CASES]
