"""NULL allowed again, and forbidden again by a rollback."""

from __future__ import annotations

from schema_change.core.errors import RollbackFailed
from tests.bench import Bench
from tests.integration.stages.test_hardening import FAST, Rows, forward, start, status

DROP = {"drop_not_null": {"table": "readings", "column": "station"}}


def test_a_null_written_since_stops_the_rollback_until_it_is_replaced(bench: Bench, rows: Rows) -> None:
    """No more can come in meanwhile, nothing is lost, and the rollback goes on when it is run again."""
    before = bench.state()["fingerprint"]
    run = forward(start(bench, DROP, **FAST), to="validate")
    rows("INSERT INTO readings (celsius) VALUES (1)")
    run.finish()
    assert isinstance(run.outcome_error, RollbackFailed)
    assert status(rows) == "rollback_failed"
    rows("UPDATE readings SET station = 'found' WHERE station IS NULL")
    run.again().finish()
    assert status(rows) == "rolled_back"
    assert bench.state()["fingerprint"] == before
