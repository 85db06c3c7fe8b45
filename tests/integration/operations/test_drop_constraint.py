"""Dropped constraints: put back by a rollback, kept until contract, and refused where others stand on them."""

from __future__ import annotations

import psycopg
import pytest

from schema_change.core.errors import RollbackFailed
from tests.bench import Bench
from tests.integration.operations.stopping import stopped
from tests.integration.stages.test_hardening import FAST, Rows, forward, start, status


def test_a_row_that_breaks_a_dropped_check_stops_the_rollback_until_it_is_corrected(bench: Bench, rows: Rows) -> None:
    rows("ALTER TABLE readings ADD CONSTRAINT cold CHECK (celsius < 100)")
    before = bench.state()["fingerprint"]
    run = forward(start(bench, {"drop_constraint": {"table": "readings", "name": "cold"}}, **FAST), to="validate")
    rows("INSERT INTO readings (station, celsius) VALUES ('hot', 120)")
    run.finish()
    assert isinstance(run.outcome_error, RollbackFailed)
    with pytest.raises(psycopg.errors.CheckViolation):
        rows("INSERT INTO readings (station, celsius) VALUES ('hot', 130)")
    rows("UPDATE readings SET celsius = 99 WHERE station = 'hot'")
    run.again().finish()
    assert status(rows) == "rolled_back"
    assert bench.state()["fingerprint"] == before


def test_a_key_that_a_view_groups_by_is_not_dropped(bench: Bench, rows: Rows) -> None:
    rows("CREATE VIEW latest AS SELECT id, station, count(*) FROM readings GROUP BY id")
    message = stopped(start(bench, {"drop_constraint": {"table": "readings", "name": "readings_pkey"}}, **FAST))
    assert "latest" in message
