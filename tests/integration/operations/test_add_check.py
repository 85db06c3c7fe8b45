"""A CHECK that rows break: before the change, and while it runs."""

from __future__ import annotations

import psycopg
import pytest

from schema_change.core.errors import ExecutionError
from tests.bench import Bench
from tests.integration.operations.stopping import rolled_back, stopped
from tests.integration.stages.test_hardening import FAST, Rows, forward, start

WARM = {"add_check": {"table": "readings", "check": "celsius > 0", "name": "warm"}}
POSSIBLE = {"add_check": {"table": "readings", "check": "celsius > -273.15 AND note <> ''", "name": "possible"}}


def test_rows_that_break_it_are_counted_and_shown_before_anything_is_touched(bench: Bench, rows: Rows) -> None:
    message = stopped(start(bench, WARM, **FAST))
    [(broken,)] = rows("SELECT count(*) FROM readings WHERE celsius <= 0")
    assert f"{broken:,} rows" in message
    assert rows("SELECT count(*) FROM pg_constraint WHERE conname = 'warm'") == [(0,)]


def test_a_row_written_before_cutover_that_breaks_it_rolls_the_change_back(bench: Bench, rows: Rows) -> None:
    before = bench.state()
    run = forward(start(bench, POSSIBLE, **FAST), to="cutover")
    rows("INSERT INTO readings (station, celsius) VALUES ('x', -300)")
    assert not run.try_stage("cutover")
    assert isinstance(run.error, ExecutionError)
    assert "possible" in run.error.message
    assert rolled_back(run)
    assert bench.state()["fingerprint"] == before["fingerprint"]


def test_it_lets_null_pass_and_refuses_what_is_false(bench: Bench, rows: Rows) -> None:
    forward(start(bench, POSSIBLE, **FAST), to="rollback")
    rows("INSERT INTO readings (station) VALUES ('unknown temperature, and no note')")
    with pytest.raises(psycopg.errors.CheckViolation):
        rows("UPDATE readings SET note = '' WHERE id = 1")


def test_a_column_of_the_same_change_has_no_rows_to_count_yet(bench: Bench, rows: Rows) -> None:
    operations = [
        {"add_column": {"table": "readings", "column": {"name": "humidity", "type": "integer"}, "fill": "id % 100"}},
        {"add_check": {"table": "readings", "check": "humidity BETWEEN 0 AND 99"}},
    ]
    run = bench.run(bench.request(bench.write("002_two", {"operations": operations}), **FAST))
    assert (run.error, run.outcome_error) == (None, None)
    assert rows("SELECT convalidated FROM pg_constraint WHERE conname = 'readings_humidity_check'") == [(True,)]
