"""The small database and its bench."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from schema_change.core.database import Connection, Target
from tests.bench import Bench
from tests.web import Web, serving


@pytest.fixture
def bench(target: Target, connection: Connection, tmp_path: Path) -> Bench:
    connection.execute(
        "CREATE TABLE readings (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, station text NOT NULL,"
        " celsius numeric(5,2), note text)"
    )
    connection.execute(
        "INSERT INTO readings (station, celsius, note)"
        " SELECT 'S' || g % 7, (g % 400) / 10.0 - 15, CASE WHEN g % 3 = 0 THEN 'n' END FROM generate_series(1, 5000) g"
    )
    connection.execute("ANALYZE readings")
    (tmp_path / "expectations").mkdir()
    return Bench(target, tmp_path)


@pytest.fixture
def rows(connection: Connection) -> Callable[[str], list[Any]]:
    def query(statement: str) -> list[Any]:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []

    return query


@pytest.fixture
def web() -> Iterator[Web]:
    with serving() as web:
        yield web
