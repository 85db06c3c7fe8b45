"""What was dropped is brought back; what is newer is left alone and reported."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from schema_change.core.database import Connection, Target
from schema_change.core.errors import BackfillError, ConfigurationError, JournalError, OwnershipError
from schema_change.core.journal.fence import fenced
from schema_change.core.retention.recover import Recovered
from schema_change.core.retention.recover import recover as recover_kept
from tests.bench import Bench
from tests.integration.operations.running import forward, lands
from tests.integration.stages.test_run import Rows

DROP_CELSIUS: list[dict[str, Any]] = [{"drop_column": {"table": "readings", "column": "celsius"}}]
DROP_READINGS: list[dict[str, Any]] = [{"drop_table": {"table": "readings"}}]


def recover(target: Target, number: int = 1) -> Recovered:
    return recover_kept(target, number, note=lambda _: None, actor="a person", lock_wait_s=5)


def test_a_column_comes_back_but_for_what_is_newer(bench: Bench, connection: Connection, rows: Rows) -> None:
    connection.execute("ALTER TABLE readings ALTER celsius SET DEFAULT 7, ALTER note SET DEFAULT 'x'")
    connection.execute(
        "UPDATE readings SET celsius = coalesce(celsius, 0); ALTER TABLE readings ALTER celsius SET NOT NULL"
    )
    connection.execute("COMMENT ON COLUMN readings.celsius IS '°C'")
    before = rows("SELECT id, celsius FROM readings WHERE id > 12 ORDER BY id")
    lands(bench, DROP_CELSIUS)
    rows("DELETE FROM readings WHERE id <= 10")
    rows("INSERT INTO readings (station) VALUES ('later')")
    # A first try was cut off, and the application has begun to write the column again.
    rows("ALTER TABLE readings ADD COLUMN celsius numeric(5,2) DEFAULT 7")
    rows("ALTER TABLE readings ALTER celsius DROP DEFAULT; UPDATE readings SET celsius = NULL")
    rows("UPDATE readings SET celsius = 99 WHERE id IN (11, 12)")
    rows("INSERT INTO schema_change.owner SELECT 'public', 'readings', run_id FROM schema_change.run")
    result = recover(bench.target)
    assert result.rows == 4988
    assert rows("SELECT id, celsius FROM readings WHERE id > 12 AND id <= 5000 ORDER BY id") == before
    assert rows("SELECT id, celsius FROM readings WHERE celsius IS NULL OR celsius = 99 ORDER BY id") == [
        (11, 99),
        (12, 99),
        (5001, None),
    ]
    assert [(c.why, c.rows, c.sample[0]) for c in result.conflicts] == [
        ("the column has another value now", 2, "id = 11"),
        ("there is no row of that key any more", 10, "id = 1"),
    ]
    assert any("NOT NULL" in n for n in result.notices)
    assert any("default 7" in n for n in result.notices)
    assert recover(bench.target).rows == 0
    assert rows("SELECT count(*) FROM schema_change.owner") == [(0,)]
    audit = rows("SELECT performed_by, description FROM schema_change.schema_audit WHERE operation_type = 'recovered'")
    assert audit[0] == ("a person", "; ".join([str(result), *map(str, result.conflicts)]))


def test_a_column_that_is_not_there_is_added_as_it_was(bench: Bench, connection: Connection, rows: Rows) -> None:
    connection.execute("ALTER TABLE readings ADD COLUMN \"Of\" text COLLATE \"C\" DEFAULT 'it''s'")
    connection.execute(
        'UPDATE readings SET "Of" = \'n\' || id WHERE id % 2 = 0; UPDATE readings SET "Of" = NULL WHERE id = 5'
    )
    connection.execute("COMMENT ON COLUMN readings.\"Of\" IS 'why; not'")
    before, columns = (
        rows("SELECT * FROM readings ORDER BY id"),
        "SELECT collname::text, col_description(attrelid, attnum)",
    )
    lands(bench, [{"drop_column": {"table": "readings", "column": "Of"}}])
    recover(bench.target)
    assert rows("SELECT * FROM readings ORDER BY id") == before
    where = "WHERE attname = 'Of' AND attrelid = 'readings'::regclass AND c.oid = attcollation"
    assert rows(f"{columns} FROM pg_attribute AS a, pg_collation AS c {where}") == [("C", "why; not")]
    assert rows("INSERT INTO readings (station) VALUES ('a') RETURNING \"Of\"") == [("it's",)]
    # What was recovered is no drift that would stop the next change.
    lands(bench, [{"drop_column": {"table": "readings", "column": "Of"}}], "002_again")
    recover(bench.target, 2)
    rows('ALTER TABLE readings DROP COLUMN "Of"; ALTER TABLE readings ADD COLUMN "Of" integer')
    with pytest.raises(JournalError, match=r"is integer now, the values that are kept are text"):
        recover(bench.target, 2)


def test_a_table_comes_back_with_its_foreign_keys(bench: Bench, connection: Connection, rows: Rows) -> None:
    connection.execute("CREATE TABLE station (code text PRIMARY KEY)")
    connection.execute("INSERT INTO station SELECT DISTINCT station FROM readings")
    connection.execute('ALTER TABLE readings ADD CONSTRAINT "at" FOREIGN KEY (station) REFERENCES station')
    before = bench.state()
    lands(bench, DROP_READINGS)
    result = recover(bench.target)
    assert (result.rows, result.notices) == (None, ())
    assert bench.state() == before
    lands(bench, DROP_READINGS, "002_again")
    rows("DELETE FROM station WHERE code = 'S1'")
    result = recover(bench.target, 2)
    assert "foreign key at of public.readings" in result.notices[0]
    assert rows("SELECT conname::text, convalidated FROM pg_constraint WHERE contype = 'f' AND conname = 'at'") == [
        ("at", False)
    ]
    assert rows("SELECT count(*) FROM readings") == [(5000,)]
    # When what was wrong has been put right, another try finishes it.
    rows("INSERT INTO station VALUES ('S1')")
    assert recover(bench.target, 2).notices == ()
    assert rows("SELECT convalidated FROM pg_constraint WHERE conname = 'at'") == [(True,)]


def test_rows_of_a_table_whose_name_is_taken_are_merged(bench: Bench, connection: Connection, rows: Rows) -> None:
    lands(bench, DROP_READINGS)
    connection.execute(
        "CREATE TABLE readings (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, station text NOT NULL, note text,"
        " extra integer, UNIQUE (note))"
    )
    rows("INSERT INTO readings (id, station) OVERRIDING SYSTEM VALUE SELECT g, 'new' FROM generate_series(1, 3) AS g")
    rows("DELETE FROM readings WHERE id = 3")
    result = recover(bench.target)
    # Of the rows with note 'n' only one could be put in.
    assert result.rows == 3333
    assert [(c.why, c.rows) for c in result.conflicts] == [
        ("there is another row of that key now", 2),
        ("something else has one of its unique values now", 1665),
    ]
    assert "no column celsius any more" in result.notices[0]
    assert rows("SELECT station FROM readings WHERE id = 1") == [("new",)]


def test_a_value_that_a_collation_calls_equal_is_another_value(bench: Bench, rows: Rows, any_case: str) -> None:
    rows(f"ALTER TABLE readings ADD COLUMN tag text COLLATE {any_case}")
    rows("UPDATE readings SET tag = 'a' WHERE id <= 3")
    lands(bench, [{"drop_column": {"table": "readings", "column": "tag"}}])
    rows(f"ALTER TABLE readings ADD COLUMN tag text COLLATE {any_case}")
    rows("UPDATE readings SET tag = CASE id WHEN 1 THEN 'A' ELSE 'a' END WHERE id <= 2")
    result = recover(bench.target)
    assert [(c.why, c.rows, c.sample[0]) for c in result.conflicts] == [
        ("the column has another value now", 1, "id = 1")
    ]
    assert rows('SELECT id, tag COLLATE "C" FROM readings WHERE id <= 3 ORDER BY id') == [(1, "A"), (2, "a"), (3, "a")]


def test_deleted_rows_come_back(bench: Bench, connection: Connection, rows: Rows) -> None:
    before = rows("SELECT * FROM readings ORDER BY id")
    connection.execute("CREATE TABLE station (code text PRIMARY KEY); INSERT INTO station VALUES ('S1'), ('S2')")
    key = {"columns": ["station"], "references": {"table": "station"}, "orphans": "delete"}
    lands(bench, [{"add_foreign_key": {"table": "readings", **key}}])
    assert rows("SELECT count(*) FROM readings") == [(1430,)]
    with pytest.raises(BackfillError, match="foreign key"):
        recover(bench.target)
    rows("INSERT INTO station SELECT 'S' || g FROM generate_series(0, 6) AS g ON CONFLICT DO NOTHING")
    assert recover(bench.target).rows == 5000 - 1430
    assert rows("SELECT * FROM readings ORDER BY id") == before


def test_what_cannot_be_brought_back_is_said(bench: Bench, connection: Connection, rows: Rows) -> None:
    connection.execute("CREATE TABLE log (line text, level integer); INSERT INTO log VALUES ('a', 1)")
    lands(bench, [{"drop_column": {"table": "log", "column": "level"}}, *DROP_CELSIUS])
    with pytest.raises(JournalError, match="no key"):
        recover(bench.target, 1)
    with pytest.raises(ConfigurationError, match="id 77"):
        recover(bench.target, 77)
    run_id, other = rows("SELECT run_id FROM schema_change.retired")[0][0], uuid4()
    with (
        bench.target.connect("test") as session,
        fenced(session, run_id),
        pytest.raises(OwnershipError, match="still at work"),
    ):
        recover(bench.target, 2)
    connection.execute(
        "INSERT INTO schema_change.run SELECT (jsonb_populate_record(r, jsonb_build_object('run_id', %s::text,"
        " 'status', 'running', 'change_version', '9'))).* FROM schema_change.run AS r",
        [str(other)],
    )
    connection.execute("INSERT INTO schema_change.owner VALUES ('public', 'readings', %s)", [other])
    with pytest.raises(OwnershipError, match="is owned by run"):
        recover(bench.target, 2)
    assert rows("SELECT run_id FROM schema_change.owner") == [(other,)]
    connection.execute("DELETE FROM schema_change.owner")
    rows("DROP TABLE readings")
    with pytest.raises(JournalError, match="does not exist any more"):
        recover(bench.target, 2)


def test_rows_written_into_a_table_whose_creation_was_rolled_back(
    bench: Bench, connection: Connection, rows: Rows
) -> None:
    columns = [{"name": "id", "type": "serial"}, {"name": "reading", "type": "integer"}]
    key = {"columns": ["reading"], "references": {"table": "readings"}}
    table = {"table": "notes", "columns": columns, "primary_key": ["id"], "foreign_keys": [key]}
    change = bench.write("001_notes", {"operations": [{"create_table": table}]})
    run = forward(bench, change, stop_before="contract")
    rows("INSERT INTO notes (reading) VALUES (7)")
    run.finish()
    assert rows("SELECT to_regclass('notes')") == [(None,)]
    assert forward(bench, change).error is None
    rows("INSERT INTO notes (id, reading) VALUES (2, 8)")
    assert recover(bench.target).rows == 1
    assert rows("SELECT id, reading FROM notes ORDER BY id") == [(1, 7), (2, 8)]
    rows("DROP TABLE notes; UPDATE schema_change.retired SET recovered_at = NULL")
    recover(bench.target)
    assert rows("SELECT id, reading FROM notes ORDER BY id") == [(1, 7)]
