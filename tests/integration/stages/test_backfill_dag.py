"""A change whose data another DAG fills, as the journal sees it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from schema_change.core.errors import JournalError
from schema_change.core.stages.runner import Runner
from tests.bench import Bench, Run

Rows = Callable[[str], list[Any]]

#: Nothing here differs between versions of PostgreSQL.
pytestmark = pytest.mark.parametrize("server", [18], indirect=True)
PLAIN: dict[str, Any] = {"add_column": {"table": "readings", "column": {"name": "remark", "type": "text"}}}


@pytest.fixture
def run(bench: Bench) -> Run:
    """A run that has migrated."""
    change = bench.write("001_dag", {"operations": [PLAIN], "backfill_dag": {"dag_id": "compute"}})
    return bench.run(bench.request(change, skip_backup=True, skip_rehearsal=True), stop_before="backfill")


def test_backfill_waits_for_the_end_of_the_other_dag(run: Run) -> None:
    runner = Runner(run.request)
    for status in (None, "started", "failed", "started"):
        if status in ("started", "failed"):
            assert runner.record_backfill_dag(status, "compute")
        assert not run.try_stage("backfill")
        assert "DAG compute, which fills data, has not ended well" in str(run.error)
    assert runner.record_backfill_dag("done", "compute has ended well")
    for stage in ("backfill", "cutover", "validate", "soak", "contract"):
        assert run.try_stage(stage), run.error


def test_a_dag_that_failed_is_the_reason_of_the_rollback(run: Run, bench: Bench, rows: Rows) -> None:
    runner = Runner(run.request)
    runner.record_backfill_dag("started", "compute")
    runner.record_backfill_dag("failed", "compute failed with failed state failed")
    run.finish()
    assert "backfill_dag failed: compute failed" in str(run.outcome_error)
    assert rows("SELECT status FROM schema_change.run") == [("rolled_back",)]
    with pytest.raises(JournalError, match="the run is rolled_back"):
        runner.record_backfill_dag("started", "compute")


def test_a_dry_run_has_nothing_to_fill(bench: Bench, run: Run) -> None:
    assert not Runner(bench.request("001_dag", dry_run=True)).record_backfill_dag("started", "compute")
