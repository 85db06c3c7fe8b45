"""Duplicates: before a UNIQUE constraint is added, and while its index is built."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from tests.bench import Bench
from tests.integration.operations.stopping import rolled_back, stopped
from tests.integration.stages.test_hardening import FAST, Rows, forward, start

UNIQUE: dict[str, Any] = {"add_unique": {"table": "readings", "columns": ["station", "note"], "name": "once"}}


def test_duplicates_are_counted_and_shown_before_anything_is_touched(bench: Bench, rows: Rows) -> None:
    message = stopped(start(bench, UNIQUE, **FAST))
    [(twice,)] = rows("SELECT count(*) FROM readings WHERE note IS NOT NULL")
    assert f"{twice:,} rows" in message
    assert "(S0, n, " in message


def test_a_duplicate_that_comes_in_before_the_index_is_built_leaves_nothing_behind(bench: Bench, rows: Rows) -> None:
    rows("UPDATE readings SET note = 'n' || id")
    before = bench.state()
    run = forward(start(bench, UNIQUE, **FAST), to="migrate")
    rows("INSERT INTO readings (station, note) VALUES ('S0', 'same'), ('S0', 'same')")
    assert not run.try_stage("migrate")
    assert rolled_back(run)
    assert bench.state()["fingerprint"] == before["fingerprint"]


def test_null_equals_null_only_when_asked(bench: Bench, rows: Rows) -> None:
    operation = {"add_unique": {**UNIQUE["add_unique"], "nulls_distinct": False}}
    rows("UPDATE readings SET note = 'n' || id WHERE note IS NOT NULL")
    [(nulls,)] = rows("SELECT count(*) FROM readings WHERE note IS NULL")
    refused = start(bench, operation, **FAST)
    assert f"{nulls:,} rows" in stopped(refused)
    refused.finish()
    forward(start(bench, UNIQUE, **FAST), to="rollback")
    rows("INSERT INTO readings (station) VALUES ('S0'), ('S0')")
    with pytest.raises(psycopg.errors.UniqueViolation):
        rows("INSERT INTO readings (station, note) VALUES ('S0', 'x'), ('S0', 'x')")
