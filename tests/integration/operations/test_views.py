from __future__ import annotations

from typing import Any

import pytest

from schema_change.core.database import Connection
from schema_change.core.errors import PlanError
from tests.bench import Bench
from tests.integration.operations.running import comes_back, forward, lands
from tests.integration.stages.test_run import Rows

SETUP = """
DO $$ BEGIN
    IF to_regrole('view_owner') IS NULL THEN CREATE ROLE "view reader"; CREATE ROLE view_owner; END IF;
END $$;
CREATE SCHEMA "My Schema";
ALTER DEFAULT PRIVILEGES IN SCHEMA "My Schema" GRANT DELETE ON TABLES TO "view reader";
GRANT CREATE ON SCHEMA "My Schema" TO view_owner;
GRANT SELECT ON readings TO view_owner;
CREATE VIEW "My Schema"."Warm ""1"" ones" WITH (check_option = local, security_barrier = true)
AS SELECT id, station AS "order", celsius FROM readings WHERE celsius > 0;
ALTER VIEW "My Schema"."Warm ""1"" ones" OWNER TO view_owner;
REVOKE DELETE ON "My Schema"."Warm ""1"" ones" FROM "view reader";
GRANT SELECT, UPDATE ON "My Schema"."Warm ""1"" ones" TO "view reader" WITH GRANT OPTION;
GRANT SELECT ON "My Schema"."Warm ""1"" ones" TO PUBLIC;
GRANT INSERT (celsius) ON "My Schema"."Warm ""1"" ones" TO "view reader";
COMMENT ON VIEW "My Schema"."Warm ""1"" ones" IS 'it''s warm';
COMMENT ON COLUMN "My Schema"."Warm ""1"" ones"."order" IS 'which';
ALTER VIEW "My Schema"."Warm ""1"" ones" ALTER COLUMN celsius SET DEFAULT 1;
CREATE TRIGGER "do nothing" INSTEAD OF DELETE ON "My Schema"."Warm ""1"" ones" FOR EACH ROW EXECUTE FUNCTION
suppress_redundant_updates_trigger();
"""
VIEW = '"My Schema"."Warm ""1"" ones"'


@pytest.fixture
def view(bench: Bench, connection: Connection) -> None:
    connection.execute(SETUP)


def test_a_view_and_a_materialized_view_come_and_go(bench: Bench, connection: Connection, rows: Rows) -> None:
    connection.execute(SETUP)
    warm: dict[str, Any] = {
        "view": '"My Schema"."user"',
        "query": "SELECT r.id, r.note FROM readings AS r WHERE r.celsius > 10 -- warm ones",
        "options": {"security_invoker": True, "check_option": "cascaded"},
        "comment": "it's here",
        "grants": {"view reader": ["select", "update"], "public": ["select"]},
    }
    query = "SELECT station, min(celsius) FROM readings GROUP BY 1"
    coldest = {"view": "coldest", "materialized": True, "query": query}
    operations = [
        {"create_view": warm},
        {"create_view": coldest},
        {"create_index": {"table": "coldest", "columns": ["station"], "unique": True}},
        {"comment": {"table": "coldest", "column": "min", "text": "°C"}},
    ]
    comes_back(bench, operations)
    lands(bench, operations, skip_backup=False, skip_rehearsal=False)
    assert rows("SELECT count(*) FROM coldest") == [(7,)]
    assert rows("SELECT has_table_privilege('view reader', '\"My Schema\".\"user\"', 'UPDATE')") == [(True,)]
    assert rows('SELECT obj_description(\'"My Schema"."user"\'::regclass)') == [("it's here",)]


def test_a_view_of_a_filled_column_waits_for_cutover(bench: Bench, rows: Rows) -> None:
    rows("CREATE VIEW hotter AS SELECT 1 AS one")
    column = {"name": "fahrenheit", "type": "numeric(6,2)"}
    operations: list[dict[str, Any]] = [
        {"add_column": {"table": "readings", "column": column, "fill": "celsius * 1.8 + 32"}},
        {"create_view": {"view": "hot", "query": "SELECT * FROM readings", "materialized": True}},
        {"create_index": {"table": "hot", "columns": ["id"], "unique": True}},
        {"replace_view": {"view": "hotter", "query": "SELECT h.id, h.fahrenheit FROM hot AS h"}},
        {"create_view": {"view": "hottest", "query": "SELECT max(fahrenheit) AS f, max(id) AS id FROM hotter"}},
        {"comment": {"table": "hottest", "text": "the hottest"}},
    ]
    comes_back(bench, operations)
    lands(bench, operations)
    assert rows("SELECT count(*) FROM hot WHERE fahrenheit IS NULL") == [(0,)]


@pytest.mark.usefixtures("view")
@pytest.mark.parametrize(
    "query",
    [
        'SELECT id, station AS "order", celsius FROM readings WHERE celsius > 5',
        'SELECT id, station AS "order", celsius, note FROM readings',
        "SELECT id AS number, celsius FROM readings",
    ],
    ids=["same columns", "one more", "others"],
)
def test_a_replaced_view_keeps_what_is_on_it_and_comes_back(bench: Bench, rows: Rows, query: str) -> None:
    about = (
        f"SELECT pg_get_userbyid(relowner), reloptions, obj_description(oid),"
        f" (SELECT count(*) FROM pg_trigger WHERE tgrelid = c.oid), (SELECT array_agg(a ORDER BY a::text)"
        f" FROM unnest(relacl) AS a) FROM pg_class AS c WHERE oid = '{VIEW}'::regclass"
    )
    before = rows(about)
    operations = [{"replace_view": {"view": VIEW, "query": query}}]
    comes_back(bench, operations)
    lands(bench, operations)
    assert rows(about) == before
    assert "readings" in rows(f"SELECT pg_get_viewdef('{VIEW}'::regclass)")[0][0]


@pytest.mark.usefixtures("view")
def test_a_column_of_another_type_needs_to_be_said(bench: Bench, rows: Rows) -> None:
    query = 'SELECT id::bigint AS id, station AS "order", celsius FROM readings'
    failed = forward(bench, bench.write("901_no", {"operations": [{"replace_view": {"view": VIEW, "query": query}}]}))
    assert failed.error
    assert "cannot change data type" in failed.error.message
    lands(bench, [{"replace_view": {"view": VIEW, "query": query, "recreate": True, "options": {}}}])
    assert rows(f"SELECT pg_typeof(id)::text FROM {VIEW} LIMIT 1") == [("bigint",)]
    assert rows(f"SELECT reloptions FROM pg_class WHERE oid = '{VIEW}'::regclass") == [(None,)]


def test_a_view_is_dropped_in_contract(bench: Bench, connection: Connection, rows: Rows) -> None:
    connection.execute("CREATE VIEW one AS SELECT 1 AS a; CREATE VIEW two AS SELECT a FROM one")
    connection.execute("CREATE MATERIALIZED VIEW three AS SELECT a FROM one")
    used = forward(bench, bench.write("901_used", {"operations": [{"drop_view": {"view": "one"}}]}))
    assert isinstance(used.error, PlanError)
    assert "public.two" in used.error.message
    operations = [{"drop_view": {"view": name}} for name in ("two", "three", "one")]
    comes_back(bench, operations)
    run = forward(bench, "900_back", stop_before="contract")
    assert rows("SELECT count(*) FROM one, two, three") == [(1,)]
    assert run.try_stage("contract")
    assert rows("SELECT to_regclass('one'), to_regclass('two'), to_regclass('three')") == [(None, None, None)]


def test_a_reader_of_the_table_does_not_hold_up_its_views(bench: Bench, connection: Connection) -> None:
    connection.execute("CREATE VIEW seen AS SELECT id FROM readings")
    with bench.target.connect("reader") as reader, reader.transaction():
        reader.execute("SELECT count(*) FROM public.readings")
        operations = [
            {"replace_view": {"view": "seen", "query": "SELECT id, note FROM readings"}},
            {"create_view": {"view": "more", "query": "SELECT note FROM readings"}},
        ]
        lands(bench, operations, lock_wait_s=3)
