"""The small database and its bench, with changes that drop something."""

from __future__ import annotations

from tests.integration.stages.conftest import bench, rows

__all__ = ["bench", "rows"]
