"""The small database and its bench, for runs of single operations."""

from __future__ import annotations

import pytest

from schema_change.core.validation import pages
from tests.integration.stages.conftest import bench, rows

__all__ = ["bench", "rows", "without_native_pages"]


@pytest.fixture(autouse=True)
def without_native_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the site that the library builds, half of a run's time; tests/integration/validation looks at it."""
    monkeypatch.setattr(pages, "_build_native", lambda *_: None)
