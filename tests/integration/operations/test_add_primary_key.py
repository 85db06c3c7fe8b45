"""A primary key on columns that allow NULL."""

from __future__ import annotations

from tests.bench import Bench
from tests.integration.operations.stopping import stopped
from tests.integration.stages.test_hardening import FAST, Rows, start

KEY = {"add_primary_key": {"table": "plain", "columns": ["code", "day"]}}


def test_nulls_and_duplicates_are_told_together(bench: Bench, rows: Rows) -> None:
    rows("CREATE TABLE plain (code text, day date)")
    rows("INSERT INTO plain VALUES ('a', NULL), ('b', '2024-01-01'), ('b', '2024-01-01')")
    message = stopped(start(bench, KEY, **FAST))
    assert "NULL in public.plain.day: 1 row" in message
    assert "share (code, day): 2 rows" in message
