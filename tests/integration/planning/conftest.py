"""A small shop: a table, what depends on it, and a bench for changes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from schema_change.core.database import Connection, Target
from tests.bench import Bench
from tests.integration.planning.shop import SHOP


@pytest.fixture
def bench(target: Target, connection: Connection, tmp_path: Path) -> Bench:
    connection.execute(SHOP.encode())
    (tmp_path / "expectations").mkdir()
    return Bench(target, tmp_path)
