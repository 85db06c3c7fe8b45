"""Rows with NULL deleted and kept: what comes in meanwhile, what a rollback gives back, what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from schema_change.core.errors import BackfillError
from schema_change.core.stages import change
from tests.bench import Bench
from tests.integration.operations.stopping import rolled_back, stopped
from tests.integration.stages.test_hardening import FAST, Rows, forward, start

DELETE: dict[str, Any] = {"set_not_null": {"table": "readings", "column": "note", "nulls": "delete"}}
KEPT = "SELECT relname::text FROM pg_class WHERE relnamespace = 'schema_change_retired'::regnamespace AND relkind = 'r'"


def test_rows_written_until_the_constraint_stands_are_deleted_and_kept_too(
    bench: Bench, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One comes in after the backfill, one between the assertion that none is left and the constraint."""
    before = bench.state()
    [(nulls,)] = rows("SELECT count(*) FROM readings WHERE note IS NULL")
    assertion = change._assert_filled

    def then_another_row(*arguments: Any) -> None:
        assertion(*arguments)
        rows("INSERT INTO readings (station, celsius) VALUES ('late', 1)")

    monkeypatch.setattr(change, "_assert_filled", then_another_row)
    run = forward(start(bench, DELETE, **FAST), to="cutover")
    rows("INSERT INTO readings (station, celsius) VALUES ('late', 2)")
    forward(run, to="validate")
    assert rows("SELECT count(*) FROM readings WHERE note IS NULL") == [(0,)]
    [(kept,)] = rows(KEPT)
    assert rows(f"SELECT count(*) FROM schema_change_retired.{kept}") == [(nulls + 2,)]
    assert rolled_back(run)
    assert sorted(rows("DELETE FROM readings WHERE station = 'late' RETURNING celsius::int")) == [(1,), (2,)]
    assert rows(KEPT) == []
    assert bench.state() == before


def test_an_application_that_goes_on_writing_null_stops_the_cutover(bench: Bench, rows: Rows) -> None:
    """The constraint would break it; the run is rolled back before it does."""
    rows(
        "CREATE FUNCTION more() RETURNS trigger LANGUAGE plpgsql AS"
        " $$BEGIN INSERT INTO readings (station) VALUES ('again'); RETURN OLD; END$$;"
        "CREATE TRIGGER more AFTER DELETE ON readings FOR EACH ROW WHEN (OLD.station = 'again')"
        " EXECUTE FUNCTION more();"
        "DELETE FROM readings WHERE note IS NULL; INSERT INTO readings (station) VALUES ('again')"
    )
    run = forward(start(bench, DELETE, **FAST), to="cutover")
    assert "fire more on public.readings" in str(run.results["pre_check"].data)
    assert not run.try_stage("cutover")
    assert isinstance(run.error, BackfillError)
    assert "application" in (run.error.hint or "")
    assert rolled_back(run)
    rows("INSERT INTO readings (station) VALUES ('still allowed')")


def test_a_row_the_application_wrote_anew_is_not_replaced_by_the_deleted_one(bench: Bench, rows: Rows) -> None:
    run = forward(start(bench, DELETE, **FAST), to="validate")
    rows("INSERT INTO readings (id, station, note) OVERRIDING SYSTEM VALUE VALUES (1, 'newer', 'kept')")
    assert rolled_back(run)
    assert rows("SELECT station, note FROM readings WHERE id = 1") == [("newer", "kept")]
    assert rows("SELECT count(*), count(DISTINCT id) FROM readings") == [(5000, 5000)]


def test_rows_that_others_refer_to_are_counted_before_anything_is_touched(bench: Bench, rows: Rows) -> None:
    rows("CREATE TABLE alarms (reading integer REFERENCES readings); INSERT INTO alarms VALUES (1), (2), (3)")
    message = stopped(start(bench, DELETE, **FAST))
    assert "alarms_reading_fkey" in message
    assert "2 rows" in message


def test_a_table_without_key_is_walked_by_its_pages(bench: Bench, rows: Rows) -> None:
    rows(
        "CREATE TABLE heap AS SELECT g AS number, CASE WHEN g % 2 = 0 THEN g END AS half"
        " FROM generate_series(1, 3000) AS g"
    )
    operation = {"set_not_null": {"table": "heap", "column": "half", "nulls": "delete"}}
    run = forward(start(bench, operation, **FAST), to="validate")
    assert rows("SELECT count(*) FROM heap") == [(1500,)]
    run.finish()
    assert rows("SELECT count(*), sum(number) FROM heap WHERE half IS NULL") == [(1500, 2250000)]


def test_a_row_value_with_a_null_inside_is_not_null(bench: Bench, rows: Rows) -> None:
    rows("CREATE TYPE pair AS (a integer, b integer)")
    rows("CREATE TABLE composed (id integer PRIMARY KEY, p pair)")
    rows("INSERT INTO composed SELECT g, ROW(g, NULL)::pair FROM generate_series(1, 10) g")
    operation = {"set_not_null": {"table": "composed", "column": "p"}}
    forward(start(bench, operation, **FAST), to="validate")
    rows("INSERT INTO composed VALUES (11, ROW(NULL, 1))")
    assert rows("SELECT attnotnull FROM pg_attribute WHERE attrelid = 'composed'::regclass AND attname = 'p'") == [
        (True,)
    ]


def test_rows_that_a_trigger_may_keep_are_not_deleted(bench: Bench, rows: Rows) -> None:
    rows(
        "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " UPDATE readings SET station = 'gone' WHERE id = OLD.id; RETURN NULL; END $$"
    )
    rows("CREATE TRIGGER keep BEFORE UPDATE OR DELETE ON readings FOR EACH ROW EXECUTE FUNCTION keep()")
    run = start(bench, DELETE, **FAST)
    assert not run.try_stage("plan")
    assert "before DELETE" in str(run.error)
    rows("ALTER TABLE readings DISABLE TRIGGER keep")
    forward(start(bench, DELETE, **FAST), to="cutover")
