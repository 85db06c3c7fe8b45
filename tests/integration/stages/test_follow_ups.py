"""Checks that run some time after a change landed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from schema_change.core.surroundings.follow_ups import FollowedUp, carry_out, planned
from tests.bench import Bench, Run

Rows = Callable[[str], list[Any]]

INDEX: dict[str, Any] = {
    "create_index": {"table": "readings", "columns": ["station", "celsius"], "name": "readings_station"}
}
USED = {"name": "index is used", "after_hours": 24, "index_usage": {"index": "readings_station", "min_scans": 2}}
NO_BAD = {"name": "no bad row", "after_hours": 1, "no_rows": "SELECT id FROM readings WHERE note = 'bad'"}


def land(bench: Bench, *follow_ups: dict[str, Any]) -> Run:
    document = {"operations": [INDEX], "follow_ups": list(follow_ups)}
    request = bench.request(bench.write("001_index", document), skip_backup=True, skip_rehearsal=True)
    run = bench.run(request)
    assert (run.error, run.outcome_error) == (None, None)
    return run


def hours_pass(rows: Rows, hours: int) -> None:
    rows(f"UPDATE schema_change.follow_up SET due_at = due_at - interval '{hours} hours'")


def told(results: list[FollowedUp]) -> list[tuple[str, str]]:
    return [(result.name, result.status) for result in results]


def use_index(rows: Rows, times: int) -> None:
    rows("SET enable_seqscan = off")
    for number in range(times):
        rows(f"SELECT count(*) FROM readings WHERE station = 'S1' AND celsius = {number}")
    rows("SELECT pg_stat_force_next_flush()")
    rows("SELECT 1")


def test_a_check_is_carried_out_once_and_when_it_is_due(bench: Bench, rows: Rows) -> None:
    land(bench, USED, NO_BAD)
    assert carry_out(bench.target) == []
    assert planned(bench.target)[0] == 2
    hours_pass(rows, 1)
    assert told(carry_out(bench.target, "ann")) == [("no bad row", "passed")]
    assert carry_out(bench.target) == []
    use_index(rows, 2)
    hours_pass(rows, 23)
    [used] = carry_out(bench.target)
    assert (used.name, used.status) == ("index is used", "passed")
    assert used.message == "readings_station was used 2 times since the change landed"
    assert carry_out(bench.target) == []
    assert planned(bench.target) == (0, None)
    audit = rows(
        "SELECT object_name, description, performed_by FROM schema_change.schema_audit"
        " WHERE operation_type = 'follow_up' ORDER BY performed_at"
    )
    assert [row[0] for row in audit] == ["no bad row", "index is used"]
    assert audit[0][2] == "ann"


def test_an_index_nobody_uses_and_rows_that_should_not_be_there_fail(bench: Bench, rows: Rows) -> None:
    run = land(bench, {**USED, "after_hours": 0}, {**NO_BAD, "after_hours": 0})
    rows("INSERT INTO readings (station, note) VALUES ('new', 'bad')")
    unused, nulls = sorted(carry_out(bench.target), key=lambda result: result.name)
    assert (unused.run_id, unused.change_id, unused.status) == (run.request.run_id, "001_index", "failed")
    assert "used 0 times since the change landed; expected at least 2" in unused.message
    assert (nulls.status, nulls.message) == ("failed", "found (5001,)")
    stored = rows("SELECT name, status, message, checked_at IS NOT NULL FROM schema_change.follow_up ORDER BY name")
    assert stored == [(r.name, r.status, r.message, True) for r in (unused, nulls)]


@pytest.mark.parametrize(
    ("follow_up", "message"),
    [
        ({**USED, "index_usage": {"index": "no.such_index"}}, "there is no index no.such_index"),
        ({**NO_BAD, "no_rows": "SELECT nothing FROM readings"}, 'column "nothing" does not exist'),
        ({**NO_BAD, "no_rows": "SELECT nextval('readings_id_seq')"}, "read-only transaction"),
    ],
)
def test_a_check_that_cannot_be_carried_out_is_an_error(bench: Bench, follow_up: dict[str, Any], message: str) -> None:
    land(bench, {**follow_up, "after_hours": 0})
    [result] = carry_out(bench.target)
    assert result.status == "error"
    assert message in result.message


def test_a_change_that_was_put_back_is_not_followed_up(bench: Bench, rows: Rows) -> None:
    land(bench, {**USED, "after_hours": 0})
    rows("UPDATE schema_change.run SET status = 'restored'")
    assert carry_out(bench.target) == []
    assert planned(bench.target) == (0, None)


def test_a_database_without_changes_has_nothing_to_follow_up(bench: Bench) -> None:
    assert carry_out(bench.target) == []
    assert planned(bench.target) == (0, None)


def test_the_use_of_a_partitioned_index_is_that_of_its_partitions(bench: Bench, rows: Rows) -> None:
    rows("CREATE TABLE parts (id integer) PARTITION BY RANGE (id)")
    rows("CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (10)")
    rows("CREATE INDEX parts_id ON parts (id)")
    land(bench, {"name": "parts", "after_hours": 0, "index_usage": {"index": "public.parts_id"}})
    rows("SET enable_seqscan = off")
    rows("SELECT count(*) FROM parts WHERE id = 3")
    rows("SELECT pg_stat_force_next_flush()")
    rows("SELECT 1")
    assert told(carry_out(bench.target)) == [("parts", "passed")]


def test_a_check_that_cannot_be_read_any_more_keeps_nobody_from_their_turn(bench: Bench, rows: Rows) -> None:
    land(bench, USED, NO_BAD)
    hours_pass(rows, 24)
    rows("UPDATE schema_change.follow_up SET definition = '{\"gone\": 1}' WHERE name = 'no bad row'")
    first, second = carry_out(bench.target)
    assert (first.name, first.status) == ("no bad row", "error")
    assert "cannot be read" in first.message
    assert second.name == "index is used"
