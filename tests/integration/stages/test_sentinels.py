"""Queries whose plans are compared before and after a change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from schema_change.core.errors import ChangeRolledBack, PreCheckFailed, ValidationFailed
from schema_change.core.surroundings.models import Sentinel
from schema_change.core.surroundings.sentinels import measure
from tests.bench import Bench, Run

Rows = Callable[[str], list[Any]]

DROP = {"deploy": "DROP INDEX readings_number;", "revert": "CREATE INDEX readings_number ON readings (number);"}
WAIVED = (
    "squawk:require-concurrent-index-deletion",
    "squawk:require-concurrent-index-creation",
    "squawk:renaming-column",
)
NUMBER = "SELECT * FROM readings WHERE number = 17"


@pytest.fixture
def indexed(bench: Bench, rows: Rows) -> Bench:
    rows("ALTER TABLE readings ADD COLUMN number integer")
    rows("UPDATE readings SET number = id")
    rows("CREATE INDEX readings_number ON readings (number)")
    rows("VACUUM ANALYZE readings")
    return bench


def start(bench: Bench, sentinel: dict[str, Any], scripts: dict[str, str]) -> Run:
    sentinels = [{"name": "by number", "query": NUMBER, **sentinel}]
    change = bench.write("001_drop", {"sentinels": sentinels, "waivers": dict.fromkeys(WAIVED, "a test")}, **scripts)
    request = bench.request(change, skip_backup=True, skip_rehearsal=True)
    run = Run(request)
    assert run.try_stage("plan"), run.error
    run.approve()
    for stage in ("approve", "backup", "pre_check", "rehearse", "migrate", "backfill", "cutover", "validate"):
        if not run.try_stage(stage):
            break
    return run


def test_a_query_that_lost_its_index_is_a_warning(indexed: Bench) -> None:
    run = start(indexed, {}, DROP)
    assert run.error is None
    [verdict] = run.results["validate"].data["sentinels"]
    assert verdict["severity"] == "warning"
    assert "its plan was Index Scan readings readings_number and is Seq Scan readings" in verdict["message"]
    assert "1 warning" in run.results["validate"].summary


def test_a_critical_one_rolls_the_change_back(indexed: Bench, rows: Rows) -> None:
    before = indexed.state()
    run = start(indexed, {"critical": True}, DROP)
    assert isinstance(run.error, ValidationFailed)
    assert "sentinel by number: cost" in run.error.message
    run.finish()
    assert isinstance(run.outcome_error, ChangeRolledBack)
    assert indexed.state() == before


def test_a_query_that_got_faster_or_stayed_is_fine(indexed: Bench, rows: Rows) -> None:
    rows("DROP INDEX readings_number")
    swapped = {"deploy": DROP["revert"], "revert": DROP["deploy"]}
    run = start(indexed, {"critical": True, "analyze": True, "max_ms": 60_000}, swapped)
    assert run.error is None
    [verdict] = run.results["validate"].data["sentinels"]
    assert verdict["severity"] == ""
    assert "and is Index Scan readings readings_number" in verdict["message"]
    [measured] = run.results["pre_check"].data["sentinels"]
    assert measured["ms"] > 0


def test_a_query_that_takes_longer_than_it_may_fails(indexed: Bench) -> None:
    slow = {"query": "SELECT count(*) FROM readings, pg_sleep(0.01)", "analyze": True, "max_ms": 5, "critical": True}
    run = start(indexed, slow, DROP)
    assert isinstance(run.error, ValidationFailed)
    assert "expected at most 5 ms" in run.error.message


def test_a_query_that_the_change_breaks_fails_though_it_is_not_critical(indexed: Bench) -> None:
    scripts = {
        "deploy": "ALTER TABLE readings RENAME COLUMN number TO no;",
        "revert": "ALTER TABLE readings RENAME COLUMN no TO number;",
    }
    run = start(indexed, {}, scripts)
    assert isinstance(run.error, ValidationFailed)
    assert 'does not run any more: column "number" does not exist' in run.error.message


def test_a_view_over_many_tables_is_told_in_few_words(bench: Bench, rows: Rows) -> None:
    rows("CREATE VIEW many AS " + " UNION ALL ".join(["SELECT id FROM readings"] * 13))
    with bench.target.connect("test") as connection:
        sentinels = [Sentinel(name="all", query="SELECT * FROM many")]
        [measured] = measure(connection, sentinels)
    assert measured.shape == "Append (13 x Seq Scan)"


@pytest.mark.parametrize(
    ("sentinel", "message"),
    [
        ({"query": "SELECT nothing FROM readings"}, 'column "nothing" does not exist'),
        ({"query": "SELECT nextval('readings_id_seq')", "analyze": True}, "read-only transaction"),
    ],
)
def test_a_query_that_does_not_run_before_stops_the_change(
    indexed: Bench, sentinel: dict[str, Any], message: str
) -> None:
    run = start(indexed, sentinel, DROP)
    assert isinstance(run.error, PreCheckFailed)
    assert message in run.error.message
