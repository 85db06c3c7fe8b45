"""Import Great Expectations late, once, and without its noise."""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from schema_change.core.validation.expectations import build


def load_builder() -> type[build.Builder]:
    """Import Great Expectations with our own expectations (seconds, and 240 MB) and return the builder of checks.

    It logs two hundred lines while it is imported, and one of its dependencies warns about the standard library.
    """
    logger = logging.getLogger("great_expectations")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from schema_change.core.validation.expectations.build import Builder  # noqa: PLC0415

    return Builder
