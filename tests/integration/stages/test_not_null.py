"""Making a column NOT NULL, and taking it back, where constraints and keys are there already."""

from __future__ import annotations

from typing import Any

import pytest

from tests.bench import Bench
from tests.integration.stages.test_hardening import FAST, NOTES, Rows, forward, start


def test_a_rollback_leaves_a_not_null_that_is_not_valid_as_it_was(bench: Bench, connection: Any, rows: Rows) -> None:
    """Validating somebody's own constraint is taken back by making it NOT VALID again, under its name."""
    if connection.info.server_version < 180000:
        pytest.skip("before 18 a NOT NULL is always valid")
    rows("UPDATE readings SET note = 'n'")
    rows("ALTER TABLE readings ADD CONSTRAINT mine NOT NULL note NOT VALID")
    run = forward(start(bench, {"set_not_null": {"table": "readings", "column": "note"}}, **FAST), to="validate")
    valid = "SELECT convalidated FROM pg_constraint WHERE conname = 'mine'"
    assert rows(valid) == [(True,)]
    run.finish()
    assert rows(valid) == [(False,)]


def test_a_value_the_application_wrote_is_not_taken_for_ours(bench: Bench, rows: Rows) -> None:
    """An INSERT that gives way to the row that is there replaced no NULL of it."""
    rows("INSERT INTO readings (id, station, note) OVERRIDING SYSTEM VALUE VALUES (1000000, 'x', 'none')")
    run = forward(start(bench, NOTES, **FAST), to="cutover")
    rows("INSERT INTO readings (id, station) OVERRIDING SYSTEM VALUE VALUES (1000000, 'x') ON CONFLICT DO NOTHING")
    run.finish()
    assert rows("SELECT note FROM readings WHERE id = 1000000") == [("none",)]
