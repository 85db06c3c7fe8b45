"""The small database and its bench, for runs of single operations."""

from __future__ import annotations

from tests.integration.stages.conftest import bench, rows

__all__ = ["bench", "rows"]
