"""A table split in two: both shapes are kept in step, whoever writes which, until contract or the rollback."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from typing import Any

import psycopg
import pytest

from schema_change.core.database import Connection, Target
from schema_change.core.names import Table
from tests.bench import Bench, Run
from tests.integration.operations.running import until

Rows = Callable[[str], list[Any]]

FAST: dict[str, Any] = {"skip_backup": True, "skip_rehearsal": True, "batch_target_ms": 20}
FEATURES = Table("public", "features")
SETUP = """
CREATE TABLE features (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    station_id varchar(10) NOT NULL,
    year integer NOT NULL,
    quarter integer NOT NULL CHECK (quarter BETWEEN 1 AND 4),
    station_name varchar(255) NOT NULL,
    station_state varchar(100),
    station_lat numeric(8,5),
    temp numeric(5,2),
    UNIQUE (station_id, year, quarter)
);
COMMENT ON COLUMN features.station_state IS 'Land';
INSERT INTO features (station_id, year, quarter, station_name, station_state, station_lat, temp)
SELECT 'S' || s, 2000 + y, q, 'Station ' || s, CASE WHEN s % 3 > 0 THEN 'L' || s % 4 END, s / 7.0, s % 30
FROM generate_series(1, 40) s, generate_series(1, 20) y, generate_series(1, 4) q;
"""
SPLIT: dict[str, Any] = {
    "table": "public.features",
    "into": {
        "table": "public.station",
        "key": ["station_id"],
        "columns": [
            {"name": "name", "from": "station_name", "nullable": False},
            {"name": "state", "from": "station_state"},
            {"name": "latitude", "from": "station_lat"},
            {"name": "start_date", "from": "MIN(year || '-' || (quarter * 3 - 2) || '-01')::DATE", "type": "date"},
            {"name": "quarters", "from": "count(*)", "type": "bigint"},
            {"name": "is_active", "type": "boolean", "default": "true", "nullable": False},
        ],
        "indexes": [{"columns": ["state"]}],
        "comment": "Where it is measured",
    },
    "foreign_key": "fk_station",
}
#: Every row agrees with its station, and the derived columns with the rows.
DISAGREE = """
SELECT count(*) FROM features f LEFT JOIN station s USING (station_id)
WHERE (f.station_name, f.station_state, f.station_lat) IS DISTINCT FROM (s.name, s.state, s.latitude)
"""
DERIVED = """
SELECT count(*) FROM station s JOIN (
    SELECT station_id, min(year || '-' || (quarter * 3 - 2) || '-01')::date AS start_date, count(*) AS quarters
    FROM features GROUP BY station_id
) g USING (station_id) WHERE (s.start_date, s.quarters) IS DISTINCT FROM (g.start_date, g.quarters)
"""


@pytest.fixture
def features(bench: Bench, connection: Connection) -> Bench:
    connection.execute(SETUP.encode())
    connection.execute("ANALYZE features")
    return bench


def start(bench: Bench, operation: dict[str, Any] = SPLIT, **options: Any) -> Run:
    document = {"operations": [{"split_table": operation}]}
    return Run(bench.request(bench.write("001_split", document), **{**FAST, **options}))


def forward(run: Run, *stages: str) -> Run:
    for stage in stages:
        if stage == "approve":
            run.approve()
        assert run.try_stage(stage), (stage, run.error)
    return run


BEGUN = ("plan", "approve", "backup", "pre_check", "rehearse", "migrate")


def test_a_table_is_split(features: Bench, rows: Rows) -> None:
    run = forward(start(features), *BEGUN, "backfill", "cutover", "validate", "contract")
    run.finish()
    assert run.outcome_error is None, run.outcome_error
    assert rows("SELECT count(*), count(state), min(start_date), max(quarters), bool_and(is_active) FROM station") == [
        (40, 27, date(2001, 1, 1), 80, True)
    ]
    columns = "SELECT string_agg(attname, ' ' ORDER BY attnum) FROM pg_attribute WHERE attnum > 0 AND NOT attisdropped"
    assert rows(f"{columns} AND attrelid = 'features'::regclass") == [("id station_id year quarter temp",)]
    assert rows(
        "SELECT conname::text, convalidated FROM pg_constraint WHERE conrelid = 'features'::regclass AND contype = 'f'"
    ) == [("fk_station", True)]
    assert rows("SELECT indexname::text FROM pg_indexes WHERE tablename = 'station' ORDER BY 1") == [
        ("station_pkey",),
        ("station_state_idx",),
    ]
    assert rows("SELECT col_description('station'::regclass, 3), obj_description('station'::regclass)") == [
        ("Land", "Where it is measured")
    ]
    assert rows("SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal") == [(0,)]
    assert rows("SELECT count(*) FROM pg_proc WHERE pronamespace = 'schema_change'::regnamespace") == [(0,)]


def test_both_shapes_are_in_step(features: Bench, rows: Rows) -> None:
    run = forward(start(features), *BEGUN)
    # Before the backfill: a row of the old application makes the new row, with what the other rows say.
    rows("INSERT INTO features (station_id, year, quarter, station_name) VALUES ('S1', 1999, 1, 'Station 1')")
    assert rows("SELECT name, state, quarters FROM station") == [("Station 1", "L1", 81)]
    rows("UPDATE features SET station_name = 'Two' WHERE id = (SELECT min(id) FROM features WHERE station_id = 'S2')")
    rows("UPDATE features SET year = 1990 WHERE station_id = 'S3' AND year = 2001")
    forward(run, "backfill", "cutover")
    assert rows(DISAGREE) == [(0,)]
    assert rows(DERIVED) == [(0,)]
    assert rows("SELECT DISTINCT station_name FROM features WHERE station_id = 'S2'") == [("Two",)]
    # The old application: one row's write is every row's.
    rows("UPDATE features SET station_state = 'XX' WHERE id = (SELECT max(id) FROM features WHERE station_id = 'S2')")
    assert rows("SELECT state FROM station WHERE station_id = 'S2'") == [("XX",)]
    rows("INSERT INTO features (station_id, year, quarter, station_name, station_lat) VALUES ('N1', 2030, 1, 'New', 5)")
    assert rows("SELECT name, latitude, quarters FROM station WHERE station_id = 'N1'") == [("New", 5, 1)]
    rows("UPDATE features SET station_id = 'S5', quarter = 4, year = 2031 WHERE station_id = 'N1'")
    assert rows("SELECT station_name FROM features WHERE year = 2031") == [("Station 5",)]
    # The new application.
    rows("UPDATE station SET name = 'Vier', latitude = NULL WHERE station_id = 'S4'")
    assert rows("SELECT DISTINCT station_name, station_lat FROM features WHERE station_id = 'S4'") == [("Vier", None)]
    rows("INSERT INTO station (station_id, name, state) VALUES ('N2', 'Newer', 'Y')")
    rows("INSERT INTO features (station_id, year, quarter) VALUES ('N2', 2030, 1)")
    assert rows("SELECT station_name, station_state FROM features WHERE station_id = 'N2'") == [("Newer", "Y")]
    rows("DELETE FROM features WHERE station_id = 'S6' AND year < 2010")
    assert rows(DISAGREE) == [(0,)]
    assert rows(DERIVED) == [(0,)]
    forward(run, "validate", "contract")
    rows("INSERT INTO features (station_id, year, quarter) VALUES ('N2', 2030, 2)")


def test_a_rollback_gives_the_old_shape_back_with_what_both_wrote(features: Bench, rows: Rows) -> None:
    before = features.state(FEATURES)
    run = forward(start(features), *BEGUN, "backfill", "cutover")
    rows("UPDATE station SET name = 'Vier' WHERE station_id = 'S4'")
    rows("UPDATE features SET station_name = 'Two' WHERE station_id = 'S2'")
    run.finish()
    after = features.state(FEATURES)
    assert after["fingerprint"] == before["fingerprint"]
    written = "SELECT DISTINCT station_id, station_name FROM features WHERE station_name NOT LIKE 'Station%' ORDER BY 1"
    assert rows(written) == [("S2", "Two"), ("S4", "Vier")]
    rows("UPDATE features SET station_name = 'Station ' || substr(station_id, 2) WHERE station_id IN ('S2', 'S4')")
    assert features.state(FEATURES)["rows"] == before["rows"]


def test_backup_and_rehearsal(features: Bench) -> None:
    """The rehearsal proves forward, back and forward again on a copy."""
    run = start(features, skip_backup=False, skip_rehearsal=False)
    forward(run, *BEGUN, "backfill", "cutover", "validate", "contract")
    run.finish()
    assert run.outcome_error is None


# -- under load --------------------------------------------------------------------------------------------------------


class Applications:
    """Sessions on the old and on the new shape; each has stations of its own, and remembers what it wrote last."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.names: dict[str, str] = {}
        self.inserted: set[int] = set()
        self.refused: list[psycopg.Error] = []
        self.in_step = threading.Event()
        self.new_shape = threading.Event()
        self.resting = threading.Event()
        self._stop = threading.Event()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        threads = [threading.Thread(target=work, args=(n,)) for n, work in enumerate((self._old, self._old, self._new))]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()

    def _do(self, session: Connection, statement: str, *values: object) -> list[Any]:
        try:
            cursor = session.execute(statement.encode(), values)
            return cursor.fetchall() if cursor.description else []
        except psycopg.Error as error:
            self.refused.append(error)
            return []

    def _old(self, worker: int) -> None:
        with self.target.connect("old") as session:
            turn = 0
            while not self._stop.wait(0.003):
                turn += 1
                station, name = f"S{worker * 10 + 1 + turn % 10}", f"{worker}:{turn}"
                if turn % 3 == 0:
                    # Until both shapes are in step, all rows of a station are written at once: they must agree.
                    statement = "UPDATE public.features SET station_name = %s WHERE station_id = %s RETURNING id"
                    if self.in_step.is_set():
                        statement = (
                            "UPDATE public.features SET station_name = %s WHERE id ="
                            " (SELECT max(id) FROM public.features WHERE station_id = %s) RETURNING id"
                        )
                    if self._do(session, statement, name, station):
                        self.names[station] = name
                elif turn % 3 == 1:
                    statement = (
                        "INSERT INTO public.features (station_id, year, quarter, station_name)"
                        " VALUES (%s, %s, 1, %s) RETURNING id"
                    )
                    for (row,) in self._do(session, statement, f"N{worker}{turn % 50}", 3000 + turn, f"N{worker}"):
                        self.inserted.add(row)
                else:
                    statement = "UPDATE public.features SET temp = 7, year = year WHERE station_id = %s AND quarter = 2"
                    self._do(session, statement, f"S{(turn % 30) + 1}")

    def _new(self, worker: int) -> None:
        with self.target.connect("new") as session:
            turn = 0
            while not self._stop.wait(0.003):
                if not self.new_shape.is_set():
                    self.resting.set()
                    continue
                turn += 1
                station, name = f"S{21 + turn % 10}", f"{worker}:{turn}"
                if turn % 2:
                    statement = "UPDATE public.station SET name = %s WHERE station_id = %s RETURNING 1"
                    if self._do(session, statement, name, station):
                        self.names[station] = name
                else:
                    statement = (
                        "INSERT INTO public.features (station_id, year, quarter) VALUES (%s, %s, 1) RETURNING id"
                    )
                    for (row,) in self._do(session, statement, station, 5000 + turn):
                        self.inserted.add(row)


WRITTEN = "SELECT station_id, min(station_name), max(station_name) FROM features GROUP BY 1"


def test_writers_of_both_shapes_lose_nothing_when_it_lands(features: Bench, rows: Rows) -> None:
    run = start(features, batch_target_ms=10)
    forward(run, "plan", "approve", "backup", "pre_check", "rehearse")
    applications = Applications(features.target)
    with applications.at_work():
        forward(run, "migrate")
        applications.in_step.set()
        forward(run, "backfill", "cutover")
        applications.new_shape.set()
        until(lambda: len(applications.names) == 25)
        forward(run, "validate")
    assert applications.refused == []
    assert rows(DISAGREE) == [(0,)]
    assert rows(DERIVED) == [(0,)]
    found = {station: name for station, name, _ in rows(WRITTEN)}
    assert {s: found[s] for s in applications.names} == applications.names
    assert applications.inserted <= {row for (row,) in rows("SELECT id FROM features")}
    forward(run, "contract")


def test_writers_of_both_shapes_lose_nothing_when_it_is_rolled_back(features: Bench, rows: Rows) -> None:
    fingerprint = features.state(FEATURES)["fingerprint"]
    run = start(features, batch_target_ms=10)
    forward(run, "plan", "approve", "backup", "pre_check", "rehearse")
    applications = Applications(features.target)
    with applications.at_work():
        forward(run, "migrate")
        applications.in_step.set()
        forward(run, "backfill", "cutover")
        applications.new_shape.set()
        until(lambda: len(applications.names) == 25)
        applications.new_shape.clear()
        applications.resting.clear()
        until(applications.resting.is_set)
        applications.in_step.clear()
        run.finish()
    assert applications.refused == []
    assert features.state(FEATURES)["fingerprint"] == fingerprint
    latest = "SELECT DISTINCT ON (station_id) station_id, station_name FROM features ORDER BY station_id, id DESC"
    found = dict(rows(latest))
    assert {s: found[s] for s in applications.names} == applications.names
    assert applications.inserted <= {row for (row,) in rows("SELECT id FROM features")}
    # The new application gave no copies; the rollback found them filled.
    assert rows("SELECT count(*) FROM features WHERE station_name IS NULL") == [(0,)]


def test_an_application_needs_no_right_of_its_own_to_keep_them_in_step(features: Bench, rows: Rows) -> None:
    """The old application knows nothing of the new table; the new one has the rights it has on the original."""
    rows("CREATE ROLE split_table_application")
    try:
        rows("GRANT SELECT, INSERT, UPDATE ON features TO split_table_application")
        run = forward(start(features), *BEGUN)
        rows("REVOKE ALL ON station FROM split_table_application")
        rows("SET ROLE split_table_application")
        insert = "INSERT INTO features (id, station_id, year, quarter, station_name) OVERRIDING SYSTEM VALUE"
        rows(f"{insert} VALUES (-1, 'R', 1, 1, 'role')")
        rows("RESET ROLE")
        assert rows("SELECT name FROM station WHERE station_id = 'R'") == [("role",)]
        run.finish()
        forward(start(features), *BEGUN)
        right = "SELECT has_table_privilege('split_table_application', 'station', '{}')"
        assert [rows(right.format(name)) for name in ("SELECT", "DELETE")] == [[(True,)], [(False,)]]
    finally:
        rows("RESET ROLE")
        rows("DROP OWNED BY split_table_application")
        rows("DROP ROLE split_table_application")


#: What two sessions do at the same time, the first in a transaction that ends last.
MEETINGS = {
    "a row comes while its station is changed": (
        "UPDATE station SET name = 'X' WHERE station_id = 'S1'",
        "INSERT INTO features (station_id, year, quarter) VALUES ('S1', 3000, 1)",
    ),
    "a station is changed while a row comes": (
        "INSERT INTO features (station_id, year, quarter) VALUES ('S1', 3000, 1)",
        "UPDATE station SET name = 'X' WHERE station_id = 'S1'",
    ),
    "a row with the old values comes while one row is changed": (
        "UPDATE features SET station_name = 'X' WHERE station_id = 'S1' AND year = 2003 AND quarter = 1",
        "INSERT INTO features (station_id, year, quarter, station_name) VALUES ('S1', 3000, 1, 'Station 1')",
    ),
    "two rows of a new station": (
        "INSERT INTO features (station_id, year, quarter, station_name) VALUES ('N', 3000, 1, 'one')",
        "INSERT INTO features (station_id, year, quarter, station_name) VALUES ('N', 1000, 1, 'two')",
    ),
    "a row comes, another goes": (
        "DELETE FROM features WHERE station_id = 'S1' AND year = 2001",
        "INSERT INTO features (station_id, year, quarter) VALUES ('S1', 1000, 1)",
    ),
    "two rows go": (
        "DELETE FROM features WHERE station_id = 'S1' AND year = 2001",
        "DELETE FROM features WHERE station_id = 'S1' AND year = 2002",
    ),
    "a row moves to a station that is changed": (
        "UPDATE station SET name = 'X' WHERE station_id = 'S1'",
        "UPDATE features SET station_id = 'S1', year = 3000 WHERE station_id = 'S2' AND year = 2020 AND quarter = 1",
    ),
}


@pytest.mark.parametrize("backfilled", [True, False], ids=["after the backfill", "before it"])
def test_two_sessions_meet(features: Bench, rows: Rows, *, backfilled: bool) -> None:
    run = forward(start(features), *BEGUN)
    if backfilled:
        forward(run, "backfill")
    for name, (first, second) in MEETINGS.items():
        with features.target.connect("one") as one, features.target.connect("two") as two:
            for session in (one, two):
                session.execute("SET search_path = public")
                session.execute("SET lock_timeout = 0")
            with one.transaction():
                one.execute(first.encode())
                thread = threading.Thread(target=two.execute, args=[second.encode()])
                thread.start()
                # Long enough for it to have done its work, or to wait.
                thread.join(0.3)
            thread.join()
        left = "SELECT 1 FROM features f WHERE NOT EXISTS (SELECT FROM station s WHERE s.station_id = f.station_id)"
        assert rows(DISAGREE if backfilled else f"{DISAGREE} AND s.station_id IS NOT NULL") == [(0,)], name
        assert rows(DERIVED) == [(0,)], name
        assert not backfilled or rows(left) == [], name
        rows("DELETE FROM features WHERE year IN (1000, 3000)")
    if not backfilled:
        forward(run, "backfill")
    forward(run, "cutover", "validate")


# -- names, keys, contradictions ---------------------------------------------------------------------------------------

NASTY = """
CREATE SCHEMA "Other";
CREATE TYPE "Other"."Mood" AS ENUM ('good', 'bad');
CREATE TABLE "Other"."order" (
    "Key one" text COLLATE "C", "select" uuid, "Name with "" quote" text DEFAULT 'none', mood "Other"."Mood",
    payload json, tags text[], price numeric(10,2), day timestamptz
);
INSERT INTO "Other"."order"
SELECT 'k' || g % 5, md5((g % 3)::text)::uuid, 'n' || g % 15 % 5, 'bad', '{"a": 1}', '{x,y}', g, '2024-01-01'
FROM generate_series(1, 600) g;
INSERT INTO "Other"."order" (price) VALUES (1);
UPDATE "Other"."order" SET "Name with "" quote" = NULL WHERE "Key one" IS NULL;
"""
NASTY_SPLIT: dict[str, Any] = {
    "table": '"Other"."order"',
    "into": {
        "table": '"Other"."group"',
        "key": ["Key one", "select"],
        "columns": [
            {"name": "select name", "from": 'Name with " quote'},
            {"name": "mood", "from": "mood"},
            {"name": "payload", "from": "payload"},
            {"name": "tags", "from": "tags"},
            {"name": "sum", "from": 'sum("order".price)', "type": "numeric"},
        ],
    },
}


def test_nasty_names_types_and_no_key(bench: Bench, rows: Rows) -> None:
    rows(NASTY)
    table = Table("Other", "order")
    before = bench.state(table)
    run = forward(start(bench, NASTY_SPLIT), *BEGUN, "backfill", "cutover")
    name = '"Name with "" quote"'
    rows(f'UPDATE "Other"."order" SET {name} = \'x\', payload = \'{{"a":  1}}\' WHERE "Key one" = \'k1\'')
    rows('INSERT INTO "Other"."order" SELECT "Key one", "select" FROM "Other"."order" WHERE "Key one" = \'k2\' LIMIT 1')
    assert rows(f'SELECT count(DISTINCT {name}) FROM "Other"."order" WHERE "Key one" = \'k2\'') == [(1,)]
    rows('UPDATE "Other"."group" SET tags = NULL, mood = \'good\' WHERE "Key one" = \'k3\'')
    rows('DELETE FROM "Other"."order" WHERE "Key one" = \'k4\' AND price < 300')
    assert rows('SELECT DISTINCT tags, mood::text FROM "Other"."order" WHERE "Key one" = \'k3\'') == [(None, "good")]
    totals = 'SELECT sum(price) FROM "Other"."order" WHERE "Key one" IS NOT NULL'
    assert rows('SELECT sum("sum") FROM "Other"."group"') == rows(totals)
    assert run.try_stage("validate"), run.error
    run.finish()
    assert bench.state(table)["fingerprint"] == before["fingerprint"]


def contradict(rows: Rows) -> None:
    rows(
        "UPDATE features SET station_name = 'Other', year = 2100"
        " WHERE station_id = 'S7' AND year = 2005 AND quarter = 1"
    )


def test_contradictions_are_counted_and_shown_before_anything_is_touched(features: Bench, rows: Rows) -> None:
    contradict(rows)
    run = forward(start(features), "plan", "approve", "backup")
    assert not run.try_stage("pre_check")
    assert "1 row" in str(run.error)
    assert "Station 7" in str(run.error)


@pytest.mark.parametrize(("conflicts", "name"), [("first", "Station 7"), ({"latest": "features.year"}, "Other")])
def test_or_one_row_wins(features: Bench, rows: Rows, conflicts: object, name: str) -> None:
    contradict(rows)
    before = features.state(FEATURES)
    run = forward(start(features, {**SPLIT, "conflicts": conflicts}), *BEGUN, "backfill", "cutover", "validate")
    assert rows("SELECT name FROM station WHERE station_id = 'S7'") == [(name,)]
    run.finish()
    assert features.state(FEATURES) == before


def test_the_values_that_lost_are_kept(features: Bench, rows: Rows) -> None:
    contradict(rows)
    run = forward(start(features, {**SPLIT, "conflicts": "first"}), *BEGUN, "backfill", "cutover", "validate")
    rows("INSERT INTO station (station_id, name) VALUES ('N', 'n')")
    forward(run, "contract")
    rows("INSERT INTO features (station_id, year, quarter) VALUES ('N', 1, 1)")
    [(kept,)] = rows("SELECT kept_name FROM schema_change.retired WHERE column_name = 'station_name'")
    assert rows(f"SELECT station_name FROM schema_change_retired.\"{kept}\" WHERE station_name = 'Other'") == [
        ("Other",)
    ]


def test_values_without_a_key_are_counted(features: Bench, rows: Rows) -> None:
    rows("ALTER TABLE features ALTER station_id DROP NOT NULL")
    rows("INSERT INTO features (year, quarter, station_name) VALUES (1, 1, 'lost')")
    run = forward(start(features), "plan", "approve", "backup")
    assert not run.try_stage("pre_check")
    assert "lost" in str(run.error)


def test_a_row_that_is_not_inserted_makes_no_row(features: Bench, rows: Rows) -> None:
    forward(start(features), *BEGUN, "backfill", "cutover")
    rows(
        "INSERT INTO features (id, station_id, year, quarter, station_name) OVERRIDING SYSTEM VALUE"
        " VALUES (1, 'ghost', 1, 1, 'x') ON CONFLICT DO NOTHING"
    )
    assert rows("SELECT count(*) FROM station WHERE station_id = 'ghost'") == [(0,)]


def test_a_key_without_rows_has_nothing_derived(features: Bench, rows: Rows) -> None:
    forward(start(features), *BEGUN, "backfill", "cutover")
    derived = "SELECT quarters, start_date FROM station WHERE station_id = '{}'"
    rows("DELETE FROM features WHERE station_id = 'S1'")
    rows("UPDATE features SET station_id = 'S1' WHERE station_id = 'S2'")
    assert rows(derived.format("S1")) == [(80, date(2001, 1, 1))]
    assert rows(derived.format("S2")) == [(0, None)]
    rows("TRUNCATE features")
    assert rows(derived.format("S3")) == [(0, None)]


def test_a_write_of_an_equal_value_that_reads_differently_is_handed_over(bench: Bench, rows: Rows) -> None:
    rows("CREATE TABLE m (id integer PRIMARY KEY, k integer, i interval, q numeric, f float8)")
    rows("INSERT INTO m SELECT g, g % 5, '24 hours', 1.0, '0' FROM generate_series(1, 50) g")
    columns = [{"name": c, "from": c} for c in ("i", "q", "f")]
    operation = {"table": "m", "into": {"table": "o", "key": ["k"], "columns": columns}}
    run = forward(start(bench, operation), *BEGUN, "backfill", "cutover")
    rows("UPDATE m SET i = '1 day' WHERE id = 1")
    rows("UPDATE o SET q = 1.00 WHERE k = 1")
    rows("UPDATE m SET f = '-0' WHERE id = 6")
    same = [("1 day", "1.00", "-0")]
    assert rows("SELECT i::text, q::text, f::text FROM o WHERE k = 1") == same
    assert rows("SELECT DISTINCT i::text, q::text, f::text FROM m WHERE k = 1") == same
    forward(run, "validate", "contract")


def test_values_that_a_collation_calls_equal_are_handed_over(bench: Bench, rows: Rows, any_case: str) -> None:
    rows(f"CREATE TABLE m (id integer PRIMARY KEY, k integer, n text COLLATE {any_case})")
    rows("INSERT INTO m SELECT g, g % 5, CASE WHEN g = 5 THEN 'Alice' ELSE 'alice' END FROM generate_series(1, 50) g")
    operation = {"table": "m", "into": {"table": "o", "key": ["k"], "columns": [{"name": "n", "from": "n"}]}}
    run = forward(start(bench, operation), "plan", "approve", "backup")
    assert not run.try_stage("pre_check")
    assert "contradict each other" in str(run.error)
    run.finish()
    rows("UPDATE m SET n = 'alice'")
    run = forward(start(bench, operation), *BEGUN, "backfill", "cutover")
    rows("UPDATE m SET n = 'ALICE' WHERE id = 1")
    assert rows('SELECT n COLLATE "C" FROM o WHERE k = 1') == [("ALICE",)]
    assert rows('SELECT DISTINCT n COLLATE "C" FROM m WHERE k = 1') == [("ALICE",)]
    forward(run, "validate", "contract")


def test_rows_that_a_unique_index_would_refuse_are_counted(features: Bench, rows: Rows) -> None:
    into = {**SPLIT["into"], "indexes": [{"columns": ["state"], "unique": True}]}
    run = forward(start(features, {**SPLIT, "into": into}), "plan", "approve", "backup")
    assert not run.try_stage("pre_check")
    assert "public.station that share (state)" in str(run.error)
