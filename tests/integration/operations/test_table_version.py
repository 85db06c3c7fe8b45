"""A new version of a table beside the old one: whoever writes which, both have it; readers switch through a view."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from schema_change.core.database import Target
from schema_change.core.errors import PlanError
from schema_change.core.names import Table
from tests.bench import Bench, Run
from tests.integration.operations.running import until

Rows = Callable[[str], list[Any]]

FAST: dict[str, Any] = {"skip_backup": True, "skip_rehearsal": True, "batch_target_ms": 20}
FEATURES = Table("public", "features")
BEGUN = ("plan", "approve", "backup", "pre_check", "rehearse", "migrate")
SETUP = """
CREATE TABLE features (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, place text NOT NULL DEFAULT 'nowhere',
    low numeric(5,2), high numeric(5,2), tags text[]
);
COMMENT ON COLUMN features.low IS 'coldest';
INSERT INTO features (place, low, high, tags)
SELECT 'P' || g % 50 || '/' || g % 7, g % 20, g % 20 + 5, '{a,b}' FROM generate_series(1, 3000) g;
CREATE VIEW features_now AS SELECT id, place, low, high FROM features;
GRANT SELECT ON features TO PUBLIC;
"""
VERSION: dict[str, Any] = {
    "table": "features",
    "to": "features_v2",
    "columns": [
        {"name": "feature_id", "from": "id"},
        {"name": "city", "from": "split_part(place, '/', 1)", "type": "text", "nullable": False},
        {"name": "street", "from": "split_part(place, '/', 2)", "type": "text"},
        {"name": "low", "from": "low"},
        {"name": "span", "from": "high - low", "type": "numeric(5,2)"},
        {"name": "tags", "from": "tags"},
        {"name": "source", "type": "text", "default": "'v1'"},
    ],
    "down": {"place": "city || '/' || street", "high": "low + span"},
    "view": "features_now",
}
WRONG = """
SELECT count(*) FROM features a FULL JOIN features_v2 b ON a.id = b.feature_id
WHERE (a.place, a.low, a.high, a.tags) IS DISTINCT FROM (b.city || '/' || b.street, b.low, b.low + b.span, b.tags)
"""


@pytest.fixture
def features(bench: Bench, rows: Rows) -> Bench:
    rows(SETUP)
    rows("ANALYZE features")
    return bench


def start(bench: Bench, operation: dict[str, Any] = VERSION, **options: Any) -> Run:
    document = {"operations": [{"table_version": operation}]}
    return Run(bench.request(bench.write("001_version", document), **{**FAST, **options}))


def forward(run: Run, *stages: str) -> Run:
    for stage in stages:
        if stage == "approve":
            run.approve()
        assert run.try_stage(stage), (stage, run.error)
    return run


def test_readers_switch_to_the_new_version(features: Bench, rows: Rows) -> None:
    run = forward(start(features), *BEGUN, "backfill", "cutover", "validate")
    assert rows("SELECT id, place, low, high FROM features_now WHERE id = 8") == [(8, "P8/1", 8, 13)]
    forward(run, "contract")
    run.finish()
    assert run.outcome_error is None, run.outcome_error
    assert rows("SELECT to_regclass('features') IS NULL, count(*) FROM features_v2") == [(True, 3000)]
    assert rows("INSERT INTO features_v2 (city, street) VALUES ('c', 's') RETURNING feature_id") == [(3001,)]
    identity = "SELECT attidentity::text FROM pg_attribute WHERE attrelid = 'features_v2'::regclass AND attnum = 1"
    assert rows(identity) == [("a",)]
    assert rows("SELECT place FROM features_now WHERE id = 3001") == [("c/s",)]
    assert rows("SELECT col_description('features_v2'::regclass, 4)") == [("coldest",)]
    assert rows("SELECT has_table_privilege('public', 'features_v2', 'SELECT')") == [(True,)]
    assert rows("SELECT kind, table_name FROM schema_change.retired") == [("table", "features")]
    assert rows("SELECT count(*) FROM pg_proc WHERE pronamespace = 'schema_change'::regnamespace") == [(0,)]


def test_both_versions_are_in_step(features: Bench, rows: Rows) -> None:
    run = forward(start(features), *BEGUN)
    rows("INSERT INTO features (place) VALUES ('early/1')")
    rows("UPDATE features SET low = 3 WHERE id IN (5, 6)")
    rows("DELETE FROM features WHERE id = 7")
    forward(run, "backfill", "cutover")
    assert rows(WRONG) == [(0,)]
    rows("INSERT INTO features (place, low, high) VALUES ('old/1', 1, 2)")
    rows("UPDATE features SET place = 'x/y' WHERE id = 9")
    rows("INSERT INTO features_v2 (city, street, low, span, source) VALUES ('new', '2', 5, 1, 'v2')")
    rows("UPDATE features_v2 SET span = 9 WHERE feature_id = 9")
    rows("DELETE FROM features_v2 WHERE feature_id = 10")
    rows("UPDATE features_v2 SET tags = '{z}' WHERE feature_id BETWEEN 20 AND 30")
    assert rows("SELECT place, high FROM features WHERE id = 9") == [("x/y", 18)]
    assert rows("SELECT id, high FROM features WHERE place = 'new/2'") == [(3003, 6)]
    assert rows(WRONG) == [(0,)]
    for table in ("features", "features_v2"):
        with pytest.raises(psycopg.Error, match="kept in step"):
            rows(f"TRUNCATE {table}")
    # What the two shapes cannot both say stays as its writer wrote it.
    rows("UPDATE features SET place = 'no street' WHERE id = 11")
    assert rows(
        "SELECT a.place, b.city, b.street FROM features a JOIN features_v2 b ON b.feature_id = 11 AND id = 11"
    ) == [("no street", "no street", "")]
    forward(run, "validate", "contract")


def test_a_rollback_gives_the_old_version_back_with_what_both_wrote(features: Bench, rows: Rows) -> None:
    before = features.state(FEATURES)
    run = forward(start(features), *BEGUN, "backfill", "cutover")
    rows("UPDATE features_v2 SET street = 'new' WHERE feature_id = 4")
    run.finish()
    after = features.state(FEATURES)
    assert after["fingerprint"] == before["fingerprint"]
    assert rows("SELECT place FROM features_now WHERE id = 4") == [("P4/new",)]


def test_backup_and_rehearsal(features: Bench) -> None:
    """The rehearsal proves forward, back and forward again on a copy."""
    run = start(features, skip_backup=False, skip_rehearsal=False)
    forward(run, *BEGUN, "backfill", "cutover", "validate", "contract")
    run.finish()
    assert run.outcome_error is None


class Applications:
    """Sessions that write the old version, and one that writes the new one, each its own rows."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.written: dict[int, str] = {}
        self.deleted: set[int] = set()
        self.new_writes = 0
        self.refused: list[psycopg.Error] = []
        self.new_shape = threading.Event()
        self.resting = threading.Event()
        self._stop = threading.Event()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        threads = [threading.Thread(target=self._work, args=(n,)) for n in range(3)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()

    def _work(self, worker: int) -> None:
        new = worker == 2
        written: dict[int, str] = {}
        deleted: set[int] = set()
        with self.target.connect("application") as session:
            turn = 0
            while not self._stop.wait(0.002):
                if new and not self.new_shape.is_set():
                    self.resting.set()
                    continue
                turn += 1
                self.new_writes += new
                row, value = (turn * 37 % 1000) * 3 + worker + 1, f"{worker}/{turn}"
                try:
                    if turn % 5 == 0:
                        statement = (
                            "DELETE FROM public.features_v2 WHERE feature_id = %s"
                            if new
                            else "DELETE FROM public.features WHERE id = %s"
                        )
                        session.execute(statement.encode(), [row])
                        deleted.add(row)
                        written.pop(row, None)
                        continue
                    if turn % 2:
                        statement = (
                            "UPDATE public.features_v2 SET city = %s, street = %s WHERE feature_id = %s"
                            " RETURNING feature_id"
                            if new
                            else "UPDATE public.features SET place = %s || '/' || %s WHERE id = %s RETURNING id"
                        )
                        cursor = session.execute(statement.encode(), [*value.split("/"), row])
                    else:
                        statement = (
                            "INSERT INTO public.features_v2 (city, street) VALUES (%s, %s) RETURNING feature_id"
                            if new
                            else "INSERT INTO public.features (place) VALUES (%s || '/' || %s) RETURNING id"
                        )
                        cursor = session.execute(statement.encode(), value.split("/"))
                except psycopg.Error as error:
                    self.refused.append(error)
                else:
                    written |= {found: value for (found,) in cursor.fetchall()}
        self.written |= written
        self.deleted |= deleted


@pytest.mark.parametrize("lands", [True, False], ids=["it lands", "it is rolled back"])
def test_writers_of_both_versions_lose_nothing(features: Bench, rows: Rows, *, lands: bool) -> None:
    run = start(features, batch_target_ms=10)
    forward(run, "plan", "approve", "backup", "pre_check", "rehearse")
    applications = Applications(features.target)
    with applications.at_work():
        forward(run, "migrate", "backfill", "cutover")
        applications.new_shape.set()
        until(lambda: applications.new_writes > 60)
        if lands:
            forward(run, "validate")
        else:
            applications.new_shape.clear()
            applications.resting.clear()
            until(applications.resting.is_set)
            run.finish()
    assert applications.refused == []
    assert len(applications.written) > 100
    if lands:
        assert rows(WRONG) == [(0,)]
    found = dict(rows("SELECT id, place FROM features"))
    assert {row: found.get(row) for row in applications.written} == applications.written
    assert not applications.deleted & set(found)


#: What two sessions do to a row, the first in a transaction that ends last, and the place it has afterwards.
MEETINGS = {
    5: (
        "UPDATE features SET place = 'a/1' WHERE id = 5",
        "UPDATE features_v2 SET city = 'b' WHERE feature_id = 5",
        "b/1",
    ),
    6: (
        "UPDATE features_v2 SET city = 'b' WHERE feature_id = 6",
        "UPDATE features SET place = 'a/1' WHERE id = 6",
        "a/1",
    ),
    7: ("DELETE FROM features WHERE id = 7", "UPDATE features_v2 SET city = 'b' WHERE feature_id = 7", None),
    8: ("DELETE FROM features_v2 WHERE feature_id = 8", "UPDATE features SET place = 'a/1' WHERE id = 8", None),
}


def test_the_latest_write_of_a_row_wins(features: Bench, rows: Rows) -> None:
    run = forward(start(features), *BEGUN, "backfill", "cutover")
    for row, (first, second, place) in MEETINGS.items():
        with features.target.connect("one") as one, features.target.connect("two") as two:
            for session in (one, two):
                session.execute("SET search_path = public")
                session.execute("SET lock_timeout = 0")
            with one.transaction():
                one.execute(first.encode())
                thread = threading.Thread(target=two.execute, args=[second.encode()])
                thread.start()
                thread.join(0.2)
                assert thread.is_alive()
            thread.join()
        assert rows(f"SELECT place FROM features WHERE id = {row}") == ([] if place is None else [(place,)])
    assert rows(WRONG) == [(0,)]
    forward(run, "validate")


ONE_WAY = {**VERSION, "down": None, "view": "features_next"}


def test_without_a_way_back_it_is_one_way(features: Bench, rows: Rows) -> None:
    before = features.state(FEATURES)
    rows("DROP VIEW features_now")
    run = forward(start(features, ONE_WAY), *BEGUN)
    assert "one-way" in str(run.results["plan"].data["risk_reasons"])
    assert rows("SELECT feature_id, city, span FROM features_next WHERE feature_id = 8") == [(8, "P8", 5)]
    forward(run, "backfill", "cutover")
    rows("INSERT INTO features (place) VALUES ('late/1')")
    assert rows("SELECT city FROM features_next WHERE feature_id = 3001") == [("late",)]
    run.finish()
    rows("CREATE VIEW features_now AS SELECT id, place, low, high FROM features")
    assert features.state(FEATURES)["fingerprint"] == before["fingerprint"]


def test_nasty_names_serial_and_composite_key(bench: Bench, rows: Rows) -> None:
    rows('CREATE SCHEMA "S"')
    rows(
        'CREATE TABLE "S"."select" ("Key" text, "order" serial, "a ""b" jsonb, price double precision,'
        ' PRIMARY KEY ("order", "Key"))'
    )
    rows(
        'INSERT INTO "S"."select" ("Key", "a ""b", price)'
        " SELECT 'k' || g % 3, '{}', g FROM generate_series(1, 500) g"
    )
    table = Table("S", "select")
    operation = {
        "table": '"S"."select"',
        "to": '"S"."Select two"',
        "columns": [
            {"name": "Key", "from": "Key"},
            {"name": "a", "from": 'a "b'},
            {"name": "number", "from": "order"},
            {"name": "price", "from": "price"},
        ],
        "view": '"S"."group"',
    }
    before = bench.state(table)
    run = forward(start(bench, operation), *BEGUN, "backfill", "cutover")
    rows("""INSERT INTO "S"."Select two" ("Key", a) VALUES ('new', '{}')""")
    rows("""UPDATE "S"."Select two" SET "Key" = 'moved' WHERE number = 5""")
    rows('DELETE FROM "S"."select" WHERE "order" = 501')
    rows("""UPDATE "S"."select" SET "Key" = 'k2' WHERE "order" = 5""")
    assert rows('SELECT count(*) FROM "S"."group"') == [(500,)]
    run.finish()
    assert bench.state(table) == before
    forward(start(bench, operation), *BEGUN, "backfill", "cutover", "validate", "contract")
    assert rows("""INSERT INTO "S"."Select two" ("Key") VALUES ('last') RETURNING number""") == [(502,)]


def test_a_key_that_is_only_spelled_another_way_is_handed_over(bench: Bench, rows: Rows) -> None:
    rows("CREATE EXTENSION citext")
    rows("CREATE TABLE city (name citext PRIMARY KEY, people integer)")
    rows("INSERT INTO city SELECT 'c' || g, g FROM generate_series(1, 10) g")
    columns = [{"name": name, "from": name} for name in ("name", "people")]
    forward(start(bench, {"table": "city", "to": "town", "columns": columns}), *BEGUN, "backfill", "cutover")
    rows("UPDATE city SET name = 'C1' WHERE people = 1")
    rows("UPDATE town SET name = 'C2', people = 20 WHERE people = 2")
    for table in ("city", "town"):
        assert rows(f"SELECT name::text, people FROM {table} WHERE name IN ('c1', 'c2') ORDER BY people") == [
            ("C1", 1),
            ("C2", 20),
        ]


def test_what_comes_behind_it_is_done_to_the_new_version(features: Bench, rows: Rows) -> None:
    rows("CREATE TABLE city (name text PRIMARY KEY)")
    rows("INSERT INTO city SELECT 'P' || g FROM generate_series(0, 49) g")
    before = features.state(FEATURES)
    operations = [
        {"table_version": {**VERSION, "indexes": [{"columns": ["lower(street)"]}, {"columns": ["span DESC"]}]}},
        {"add_check": {"table": "features_v2", "name": "wide", "check": "span < 100"}},
        {
            "add_foreign_key": {
                "table": "features_v2",
                "columns": ["city"],
                "references": {"table": "city", "columns": ["name"]},
            }
        },
    ]
    for end in ("validate", "contract"):
        run = Run(features.request(features.write("001_version", {"operations": operations}), **FAST))
        forward(run, *BEGUN, "backfill", "cutover", "validate", *(("contract",) if end == "contract" else ()))
        run.finish()
        if end == "validate":
            assert features.state(FEATURES) == before
    assert rows("SELECT count(*) FROM pg_indexes WHERE tablename = 'features_v2'") == [(3,)]
    constraints = "SELECT contype::text FROM pg_constraint WHERE conrelid = 'features_v2'::regclass AND contype <> 'n'"
    assert rows(f"{constraints} ORDER BY 1") == [("c",), ("f",), ("p",)]


def test_a_table_that_others_use_is_refused(features: Bench, rows: Rows) -> None:
    rows("CREATE VIEW other AS SELECT place FROM features")
    run = start(features)
    assert not run.try_stage("plan")
    assert isinstance(run.error, PlanError)
    assert "other" in run.error.message


@pytest.mark.parametrize(
    ("columns", "more", "said"),
    [
        ([{"name": "code", "from": "code", "type": "varchar(2)"}], {}, "do not fit character varying(2)"),
        ([{"name": "code", "from": "code || 'x'", "type": "varchar(3)"}], {}, "do not fit character varying(3)"),
        ([{"name": "code", "from": "code", "type": "integer"}], {}, "do not fit integer"),
        ([{"name": "code", "from": "code"}], {"indexes": [{"columns": ["code"], "unique": True}]}, "share (code)"),
    ],
)
def test_values_that_do_not_fit_are_counted_before_anything_is_touched(
    bench: Bench, rows: Rows, columns: list[Any], more: dict[str, Any], said: str
) -> None:
    rows("CREATE TABLE old (id integer PRIMARY KEY, code text)")
    rows("INSERT INTO old VALUES (1, 'abc'), (2, 'abc')")
    operation = {
        "table": "old",
        "to": "fresh",
        "columns": [{"name": "id", "from": "id"}, *columns],
        "down": {} if columns[0].get("type") is None else {"code": "code"},
        **more,
    }
    run = Run(bench.request(bench.write("001_v", {"operations": [{"table_version": operation}]}), **FAST))
    forward(run, "plan", "approve", "backup")
    assert not run.try_stage("pre_check")
    assert said in str(run.error)


def test_a_text_that_is_too_long_for_the_new_version_is_refused_not_cut(bench: Bench, rows: Rows) -> None:
    rows("CREATE TABLE old (id integer PRIMARY KEY, code text)")
    rows("INSERT INTO old SELECT g, 'a' || g FROM generate_series(1, 50) g")
    operation = {
        "table": "old",
        "to": "fresh",
        "down": {"code": "code"},
        "columns": [{"name": "id", "from": "id"}, {"name": "code", "from": "code", "type": "varchar(3)"}],
    }
    run = Run(bench.request(bench.write("001_v", {"operations": [{"table_version": operation}]}), **FAST))
    forward(run, *BEGUN, "backfill", "cutover")
    with pytest.raises(psycopg.errors.StringDataRightTruncation):
        rows("UPDATE old SET code = 'four' WHERE id = 1")
    rows("UPDATE fresh SET code = 'b' WHERE id = 1")
    forward(run, "validate", "contract")


def test_a_key_to_itself_that_deletes_rows_is_refused(bench: Bench, rows: Rows) -> None:
    rows("CREATE TABLE old (id integer PRIMARY KEY, up integer REFERENCES old ON DELETE CASCADE)")
    columns = [{"name": c, "from": c} for c in ("id", "up")]
    operation = {"table_version": {"table": "old", "to": "fresh", "columns": columns}}
    run = Run(bench.request(bench.write("001_v", {"operations": [operation]}), **FAST))
    assert not run.try_stage("plan")
    assert isinstance(run.error, PlanError)
    assert "old_up_fkey" in run.error.message
