"""Orphans: counted, deleted, set to NULL, given placeholders; and a key that takes another's place."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from schema_change.core.retention.recover import recover
from schema_change.core.stages import change
from tests.bench import Bench
from tests.integration.operations.stopping import rolled_back, stopped
from tests.integration.stages.test_hardening import FAST, Rows, forward, start

KEPT = "SELECT relname::text FROM pg_class WHERE relnamespace = 'schema_change_retired'::regnamespace AND relkind = 'r'"
ORPHANS = "SELECT count(*) FROM readings AS r WHERE NOT EXISTS (SELECT FROM stations AS s WHERE s.name = r.station)"


@pytest.fixture(autouse=True)
def stations(bench: Bench, rows: Rows) -> None:
    """Seven stations, of which two have gone; nothing in the table of readings says so."""
    rows("CREATE TABLE stations (name text PRIMARY KEY, title text NOT NULL, seen timestamptz DEFAULT now())")
    rows("INSERT INTO stations SELECT 'S' || g, 'Station ' || g FROM generate_series(0, 4) AS g")
    rows("ALTER TABLE readings ALTER COLUMN station DROP NOT NULL")


def key(**more: Any) -> dict[str, Any]:
    return {
        "add_foreign_key": {
            "table": "readings",
            "columns": ["station"],
            "references": {"table": "stations"},
            "name": "of_station",
            **more,
        }
    }


def with_a_late_orphan(monkeypatch: pytest.MonkeyPatch, rows: Rows) -> None:
    """Let an orphan come in between the assertion that none is left and the constraint."""
    assertion = change._assert_filled

    def then_another_row(*arguments: Any) -> None:
        assertion(*arguments)
        rows("INSERT INTO readings (station, celsius) VALUES ('late', 1)")

    monkeypatch.setattr(change, "_assert_filled", then_another_row)


def test_orphans_are_counted_and_shown_before_anything_is_touched(bench: Bench, rows: Rows) -> None:
    message = stopped(start(bench, key(), **FAST))
    [(orphans,)] = rows(ORPHANS)
    assert f"{orphans:,} rows" in message
    assert rows("SELECT count(*) FROM pg_constraint WHERE conname = 'of_station'") == [(0,)]


@pytest.mark.parametrize("how", ["delete", "set_null", {"placeholder": {"title": "'? ' || readings.station"}}])
def test_orphans_written_until_the_constraint_stands_are_treated_and_given_back(
    bench: Bench, rows: Rows, monkeypatch: pytest.MonkeyPatch, how: Any
) -> None:
    rows("CREATE TABLE before AS SELECT * FROM readings")
    fingerprint = bench.state()["fingerprint"]
    with_a_late_orphan(monkeypatch, rows)
    run = forward(start(bench, key(orphans=how), **FAST), to="cutover")
    rows("INSERT INTO readings (station, celsius) VALUES ('late too', 2)")
    forward(run, to="validate")
    assert rows(ORPHANS.replace("WHERE NOT", "WHERE station IS NOT NULL AND NOT")) == [(0,)]
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        rows("INSERT INTO readings (station) VALUES ('nowhere')")
    rows("UPDATE readings SET station = 'S0' WHERE id = 5")
    assert rolled_back(run)
    assert bench.state()["fingerprint"] == fingerprint
    assert rows("SELECT station, celsius::int FROM readings WHERE station LIKE 'late%' ORDER BY 2") == [
        ("late", 1),
        ("late too", 2),
    ]
    changed = (
        "SELECT b.id FROM before AS b FULL JOIN readings AS r USING (id) WHERE r.station IS DISTINCT FROM b.station"
    )
    written = rows(f"{changed} AND b.id IS NOT NULL")
    assert written == ([] if how == "delete" else [(5,)])
    assert rows("SELECT count(*) FROM stations") == [(5,)]
    assert rows(KEPT) == []


@pytest.mark.parametrize(("how", "what"), [("delete", "rows of"), ("set_null", "values of")])
def test_what_orphans_were_can_be_recovered_once_their_parents_are_there(
    bench: Bench, rows: Rows, how: str, what: str
) -> None:
    missing = "SELECT id, celsius FROM readings WHERE station IN ('S5', 'S6') ORDER BY id"
    orphans = rows(missing)
    forward(start(bench, key(orphans=how, on_delete="cascade"), **FAST), to="rollback")
    assert rows(missing) == []
    rows("INSERT INTO stations VALUES ('S5', 'found'), ('S6', 'found')")
    [(kept,)] = rows("SELECT id FROM schema_change.retired")
    recovered = recover(bench.target, kept, note=print)
    assert (recovered.what.startswith(what), recovered.rows, recovered.conflicts) == (True, len(orphans), ())
    assert rows(missing) == orphans


def test_a_value_the_application_wrote_since_is_not_set_back(bench: Bench, rows: Rows) -> None:
    run = forward(start(bench, key(orphans="set_null"), **FAST), to="validate")
    [(orphan,)] = rows("SELECT min(id) FROM readings WHERE station IS NULL")
    rows(f"UPDATE readings SET station = 'S3' WHERE id = {orphan}")
    assert rolled_back(run)
    assert rows(f"SELECT station FROM readings WHERE id = {orphan}") == [("S3",)]
    assert rows("SELECT count(*) FROM readings WHERE station IS NULL") == [(0,)]


def test_a_placeholder_that_somebody_uses_stays(bench: Bench, rows: Rows) -> None:
    """One was given a title, one is what another table refers to by now."""
    rows("INSERT INTO readings (station) VALUES ('S7'); CREATE TABLE visits (station text REFERENCES stations)")
    run = forward(start(bench, key(orphans={"placeholder": {"title": "'unknown'"}}), **FAST), to="validate")
    rows("UPDATE stations SET title = 'Found' WHERE name = 'S5'; INSERT INTO visits VALUES ('S6')")
    assert rolled_back(run)
    assert rows("SELECT name, title FROM stations WHERE name > 'S4' ORDER BY 1") == [("S5", "Found"), ("S6", "unknown")]


def test_the_action_of_a_key_is_changed_in_its_place(bench: Bench, rows: Rows) -> None:
    rows("DELETE FROM readings WHERE station NOT IN (SELECT name FROM stations)")
    rows("ALTER TABLE readings ADD CONSTRAINT of_station FOREIGN KEY (station) REFERENCES stations NOT VALID")
    rows("ALTER TABLE readings VALIDATE CONSTRAINT of_station")
    rows("COMMENT ON CONSTRAINT of_station ON readings IS 'where'")
    before = bench.state()
    operation = {
        "add_foreign_key": {"table": "readings", "replace": "of_station", "on_delete": "cascade", "name": "gone"}
    }
    run = forward(start(bench, operation, **FAST), to="validate")
    definition = (
        "SELECT conname::text, pg_get_constraintdef(oid), obj_description(oid) FROM pg_constraint WHERE contype = 'f'"
    )
    assert rows(f"{definition} AND conrelid = 'readings'::regclass") == [
        ("gone", "FOREIGN KEY (station) REFERENCES stations(name) ON DELETE CASCADE", "where")
    ]
    assert rolled_back(run)
    assert bench.state() == before
