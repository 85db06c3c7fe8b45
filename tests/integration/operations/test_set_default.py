"""Defaults, set and dropped."""

from __future__ import annotations

from tests.bench import Bench
from tests.integration.stages.test_hardening import FAST, Rows, forward, start

STATION = "INSERT INTO readings (station) VALUES ('new') RETURNING note"


def test_only_rows_inserted_from_now_on_get_it(bench: Bench, rows: Rows) -> None:
    [(nulls,)] = rows("SELECT count(*) FROM readings WHERE note IS NULL")
    operation = {"set_default": {"table": "readings", "column": "note", "default": "'none'"}}
    forward(start(bench, operation, **FAST), to="rollback")
    assert rows(STATION) == [("none",)]
    assert rows("SELECT count(*) FROM readings WHERE note IS NULL") == [(nulls,)]
