"""Import Great Expectations late, once, without its noise, and without what one expectation alone needs."""

from __future__ import annotations

import contextlib
import importlib
import logging
import sys
import warnings
from collections.abc import Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from schema_change.core.validation.expectations import build

#: A third of what importing the library costs, for the Kullback-Leibler divergence and its chart.
_SELDOM_USED = ("altair", "scipy.stats")


def load_builder() -> type[build.Builder]:
    """Import Great Expectations with our own expectations (seconds, and 170 MB) and return the builder of checks.

    It logs two hundred lines while it is imported, and one of its dependencies warns about the standard library.
    """
    logger = logging.getLogger("great_expectations")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.WARNING)
    with warnings.catch_warnings(), _put_off(_SELDOM_USED):
        warnings.simplefilter("ignore", DeprecationWarning)
        from schema_change.core.validation.expectations.build import Builder  # noqa: PLC0415

    return Builder


class _Later(ModuleType):
    """Stands for a module that is imported when something of it is first used."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # what the import system asks of a module
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


@contextlib.contextmanager
def _put_off(names: tuple[str, ...]) -> Iterator[None]:
    """Give those who import a module inside the block one that is loaded when they use it.

    ``importlib.util.LazyLoader`` cannot: another import statement for the module loads it.
    """
    stand_ins = {name: _Later(name) for name in names if name not in sys.modules}
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        for name, stand_in in stand_ins.items():
            if sys.modules.get(name) is stand_in:
                del sys.modules[name]
