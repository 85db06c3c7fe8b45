"""A table merged into the one that refers to it: both are kept in step, whoever writes which, until contract."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from schema_change.core.database import Target
from schema_change.core.names import Table
from tests.bench import Bench, Run
from tests.integration.operations.running import until

Rows = Callable[[str], list[Any]]

FAST: dict[str, Any] = {"skip_backup": True, "skip_rehearsal": True, "batch_target_ms": 20}
BEGUN = ("plan", "approve", "backup", "pre_check", "rehearse", "migrate")
TABLES = (Table("public", "reading"), Table("public", "station"))
SETUP = """
CREATE TABLE station (code text PRIMARY KEY, name text NOT NULL, state text, height integer, info json);
COMMENT ON COLUMN station.height IS 'm above sea level';
CREATE TABLE reading (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, station text REFERENCES station, v integer);
INSERT INTO station SELECT 'S' || g, 'Station ' || g, NULLIF('L' || g % 3, 'L0'), g, '{"a": 1}'
FROM generate_series(1, 40) g;
INSERT INTO reading (station, v) SELECT 'S' || (g % 40 + 1), g FROM generate_series(1, 4000) g;
INSERT INTO reading (v) VALUES (-1);
"""
MERGE: dict[str, Any] = {"from": "station", "into": "reading", "on": {"station": "code"}}
DISAGREE = """
SELECT count(*) FROM reading r LEFT JOIN station s ON s.code = r.station
WHERE (r.name, r.state, r.height, r.info::text) IS DISTINCT FROM (s.name, s.state, s.height, s.info::text)
"""


@pytest.fixture
def readings(bench: Bench, rows: Rows) -> Bench:
    rows(SETUP)
    rows("ANALYZE reading")
    return bench


def start(bench: Bench, operation: dict[str, Any] = MERGE, **options: Any) -> Run:
    document = {"operations": [{"merge_tables": operation}]}
    return Run(bench.request(bench.write("001_merge", document), **{**FAST, **options}))


def forward(run: Run, *stages: str) -> Run:
    for stage in stages:
        if stage == "approve":
            run.approve()
        assert run.try_stage(stage), (stage, run.error)
    return run


def test_a_lookup_table_is_merged(readings: Bench, rows: Rows) -> None:
    run = forward(start(readings), *BEGUN, "backfill", "cutover", "validate", "contract")
    run.finish()
    assert run.outcome_error is None, run.outcome_error
    assert rows("SELECT name, state, height, info FROM reading WHERE id = 1") == [("Station 2", "L2", 2, {"a": 1})]
    assert rows("SELECT count(*) FROM reading WHERE name IS NULL") == [(1,)]
    assert rows("SELECT to_regclass('station')") == [(None,)]
    assert rows("SELECT kind, table_name FROM schema_change.retired") == [("table", "station")]
    assert rows("SELECT col_description('reading'::regclass, 6)") == [("m above sea level",)]
    rows("INSERT INTO reading (station, v, name) VALUES ('anything', 1, 'goes')")
    assert rows("SELECT count(*) FROM pg_proc WHERE pronamespace = 'schema_change'::regnamespace") == [(0,)]


def test_both_shapes_are_in_step(readings: Bench, rows: Rows) -> None:
    run = forward(start(readings), *BEGUN)
    rows("UPDATE station SET name = 'early' WHERE code = 'S1'")
    rows("INSERT INTO reading (station, v) VALUES ('S2', 0)")
    assert rows("SELECT name FROM reading WHERE v = 0") == [("Station 2",)]
    forward(run, "backfill", "cutover")
    assert rows(DISAGREE) == [(0,)]
    # The old application.
    rows("UPDATE station SET state = NULL, info = '{\"a\":  1}' WHERE code = 'S3'")
    rows("INSERT INTO station VALUES ('O', 'Old', 'L1', 5)")
    rows("INSERT INTO reading (station) VALUES ('O')")
    rows("UPDATE reading SET station = 'S5' WHERE id = 7")
    # The new application.
    rows("INSERT INTO reading (station, name, height) VALUES ('N', 'New', 7)")
    assert rows("SELECT name, height FROM station WHERE code = 'N'") == [("New", 7)]
    rows("UPDATE reading SET name = 'Four' WHERE id = (SELECT min(id) FROM reading WHERE station = 'S4')")
    assert rows("SELECT name FROM station WHERE code = 'S4'") == [("Four",)]
    rows("DELETE FROM reading WHERE station = 'S6'")
    rows("DELETE FROM station WHERE code = 'S6'")
    assert rows(DISAGREE) == [(0,)]
    forward(run, "validate", "contract")


def test_a_rollback_gives_the_old_shape_back_with_what_both_wrote(readings: Bench, rows: Rows) -> None:
    before = readings.state(*TABLES)
    run = forward(start(readings), *BEGUN, "backfill", "cutover")
    rows("UPDATE reading SET name = 'Four' WHERE id = (SELECT min(id) FROM reading WHERE station = 'S4')")
    run.finish()
    assert readings.state(*TABLES)["fingerprint"] == before["fingerprint"]
    assert rows("SELECT name FROM station WHERE code = 'S4'") == [("Four",)]
    rows("UPDATE station SET name = 'Station 4' WHERE code = 'S4'")
    assert readings.state(*TABLES) == before


def test_backup_and_rehearsal(readings: Bench) -> None:
    """The rehearsal proves forward, back and forward again on a copy."""
    run = start(readings, skip_backup=False, skip_rehearsal=False)
    forward(run, *BEGUN, "backfill", "cutover", "validate", "contract")
    run.finish()
    assert run.outcome_error is None


def test_without_a_foreign_key_rows_come_and_go(bench: Bench, rows: Rows) -> None:
    rows('CREATE TABLE "Look" (a integer, "B" uuid, "the value" varchar(20), PRIMARY KEY ("B", a))')
    rows('CREATE TABLE "user" ("A" integer, b uuid, note text)')
    rows("INSERT INTO \"Look\" SELECT g, md5(g::text)::uuid, 'v' || g FROM generate_series(1, 20) g")
    rows('INSERT INTO "user" SELECT g % 30, md5((g % 30)::text)::uuid FROM generate_series(1, 600) g')
    operation = {
        "from": '"Look"',
        "into": '"user"',
        "on": {"A": "a", "b": "B"},
        "columns": [{"from": "the value", "name": "select"}],
    }
    before = bench.state(Table("public", "Look"), Table("public", "user"))
    run = forward(start(bench, operation), *BEGUN, "backfill", "cutover")
    rows('DELETE FROM "Look" WHERE a = 3')
    rows("INSERT INTO \"Look\" VALUES (25, md5('25')::uuid, 'came')")
    rows('UPDATE "Look" SET a = 26, "B" = md5(\'26\')::uuid WHERE a = 4')
    values = 'SELECT "A", count(*), max("select") FROM "user" WHERE "A" IN (3, 4, 5, 25, 26) GROUP BY 1 ORDER BY 1'
    assert rows(values) == [(3, 20, None), (4, 20, None), (5, 20, "v5"), (25, 20, "came"), (26, 20, "v4")]
    forward(run, "validate")
    run.finish()
    assert bench.state(Table("public", "Look"), Table("public", "user"))["fingerprint"] == before["fingerprint"]


def test_rows_that_nothing_refers_to_are_counted(readings: Bench, rows: Rows) -> None:
    rows("INSERT INTO station (code, name) VALUES ('alone', 'x')")
    run = forward(start(readings), "plan", "approve", "backup")
    assert not run.try_stage("pre_check")
    assert "alone" in str(run.error)
    run.finish()
    run = start(readings, {**MERGE, "unmatched": "retire"})
    forward(run, *BEGUN, "backfill", "cutover", "validate")


class Applications:
    """One session writes the old shape, one the new one; each its own stations."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.names: dict[str, str] = {}
        self.refused: list[psycopg.Error] = []
        self.new_shape = threading.Event()
        self.resting = threading.Event()
        self._stop = threading.Event()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        threads = [threading.Thread(target=self._work, args=(new,)) for new in (False, True)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()

    def _work(self, new: bool) -> None:
        with self.target.connect("application") as session:
            turn = 0
            while not self._stop.wait(0.003):
                if new and not self.new_shape.is_set():
                    self.resting.set()
                    continue
                turn += 1
                station, name = f"S{turn % 20 + 1 + 20 * new}", f"{new}:{turn}"
                update = (
                    "UPDATE public.reading SET name = %s"
                    " WHERE id = (SELECT max(id) FROM public.reading WHERE station = %s)"
                    if new
                    else "UPDATE public.station SET name = %s WHERE code = %s"
                )
                try:
                    session.execute(update.encode(), [name, station])
                    session.execute(b"INSERT INTO public.reading (station, v) VALUES (%s, 0)", [station])
                except psycopg.Error as error:
                    self.refused.append(error)
                else:
                    self.names[station] = name


@pytest.mark.parametrize("lands", [True, False], ids=["it lands", "it is rolled back"])
def test_writers_of_both_shapes_lose_nothing(readings: Bench, rows: Rows, *, lands: bool) -> None:
    run = start(readings, batch_target_ms=10)
    forward(run, "plan", "approve", "backup", "pre_check", "rehearse")
    applications = Applications(readings.target)
    with applications.at_work():
        forward(run, "migrate", "backfill", "cutover")
        applications.new_shape.set()
        until(lambda: len(applications.names) == 40)
        if lands:
            forward(run, "validate")
        else:
            applications.new_shape.clear()
            applications.resting.clear()
            until(applications.resting.is_set)
            run.finish()
    assert applications.refused == []
    if lands:
        assert rows(DISAGREE) == [(0,)]
    found = dict(rows("SELECT code, name FROM station"))
    assert {s: found[s] for s in applications.names} == applications.names


def test_a_row_that_is_not_inserted_leaves_nothing_behind(readings: Bench, rows: Rows) -> None:
    before = readings.state(*TABLES)
    run = forward(start(readings), *BEGUN, "backfill", "cutover")
    insert = "INSERT INTO reading (id, station, name) OVERRIDING SYSTEM VALUE VALUES (1, 'ghost', 'x')"
    rows(f"{insert} ON CONFLICT DO NOTHING")
    rows(f"{insert} ON CONFLICT (id) DO UPDATE SET v = reading.v")
    assert rows("SELECT count(*) FROM station WHERE code = 'ghost'") == [(0,)]
    run.finish()
    assert readings.state(*TABLES) == before


def test_a_key_that_is_always_generated_is_taken_from_the_row_that_brings_it(bench: Bench, rows: Rows) -> None:
    rows("CREATE TABLE look (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text)")
    rows("INSERT INTO look (name) SELECT 'n' || g FROM generate_series(1, 5) g")
    rows("CREATE TABLE reading (id integer PRIMARY KEY, look bigint REFERENCES look)")
    rows("INSERT INTO reading SELECT g, g % 5 + 1 FROM generate_series(1, 50) g")
    forward(start(bench, {"from": "look", "into": "reading", "on": {"look": "id"}}), *BEGUN)
    rows("INSERT INTO reading VALUES (100, 77, 'new')")
    assert rows("SELECT name FROM look WHERE id = 77") == [("new",)]


def test_truncating_the_other_table_empties_the_copies(bench: Bench, rows: Rows) -> None:
    rows("CREATE TABLE look (id bigint PRIMARY KEY, name text)")
    rows("INSERT INTO look SELECT g, 'n' || g FROM generate_series(1, 5) g")
    rows("CREATE TABLE reading (id integer PRIMARY KEY, look bigint)")
    rows("INSERT INTO reading SELECT g, g % 5 + 1 FROM generate_series(1, 50) g")
    run = start(bench, {"from": "look", "into": "reading", "on": {"look": "id"}})
    forward(run, *BEGUN, "backfill", "cutover")
    rows("TRUNCATE look")
    assert rows("SELECT count(*), count(name) FROM reading") == [(50, 0)]
