"""The same bench as the whole-run tests use."""

from __future__ import annotations

from tests.integration.operations.conftest import without_native_pages
from tests.integration.stages.conftest import bench, rows

__all__ = ["bench", "rows", "without_native_pages"]
