from __future__ import annotations

import pytest

from schema_change.core.database import Connection
from schema_change.core.errors import PlanError
from schema_change.core.names import Table, quote
from tests.bench import Bench
from tests.integration.operations.running import comes_back, forward, lands
from tests.integration.stages.test_run import Rows

SETUP = """
CREATE TABLE station (code text PRIMARY KEY);
INSERT INTO station VALUES ('S1'), ('S2');
CREATE SCHEMA "My Schema";
CREATE TABLE "My Schema"."Order ""x"" y" (
    id serial PRIMARY KEY,
    again integer GENERATED ALWAYS AS IDENTITY UNIQUE,
    station text REFERENCES station ON DELETE CASCADE,
    parent integer REFERENCES "My Schema"."Order ""x"" y",
    "user" text CHECK ("user" <> '')
);
CREATE INDEX "by user" ON "My Schema"."Order ""x"" y" (lower("user")) WHERE "user" IS NOT NULL;
CREATE STATISTICS "My Schema".both ON station, "user" FROM "My Schema"."Order ""x"" y";
CREATE TRIGGER calm BEFORE UPDATE ON "My Schema"."Order ""x"" y" FOR EACH ROW EXECUTE FUNCTION
suppress_redundant_updates_trigger();
ALTER TABLE "My Schema"."Order ""x"" y" ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON "My Schema"."Order ""x"" y" USING ("user" = current_user);
COMMENT ON TABLE "My Schema"."Order ""x"" y" IS 'what was ordered';
COMMENT ON CONSTRAINT "Order ""x"" y_station_fkey" ON "My Schema"."Order ""x"" y" IS 'where';
GRANT SELECT ON "My Schema"."Order ""x"" y" TO PUBLIC;
INSERT INTO "My Schema"."Order ""x"" y" (station, "user")
SELECT 'S' || 1 + g % 2, 'u' || g FROM generate_series(1, 50) AS g;
"""
ORDER = Table("My Schema", 'Order "x" y')
DROP = [{"drop_table": {"table": ORDER.quoted}}]


def test_a_dropped_table_is_kept_and_a_rollback_gives_it_back(bench: Bench, connection: Connection, rows: Rows) -> None:
    connection.execute(SETUP)
    comes_back(bench, DROP, ORDER)
    lands(bench, DROP, skip_backup=False, skip_rehearsal=False)
    assert rows('SELECT to_regclass(\'"My Schema"."Order ""x"" y"\')') == [(None,)]
    ((kept, keys),) = rows("SELECT kept_name, key_columns FROM schema_change.retired")
    assert keys == ["id"]
    assert rows(f"SELECT count(*) FROM schema_change_retired.{quote(kept)}") == [(50,)]
    # Nobody is kept from deleting what the dropped table referred to.
    connection.execute("DELETE FROM station")
    assert rows(f"SELECT count(*) FROM schema_change_retired.{quote(kept)}") == [(50,)]


def test_two_tables_whose_parts_have_the_same_names_are_dropped(
    bench: Bench, connection: Connection, rows: Rows
) -> None:
    connection.execute("CREATE SCHEMA other; CREATE TABLE other.readings (id serial PRIMARY KEY)")
    connection.execute("CREATE TABLE child (id serial PRIMARY KEY, reading integer REFERENCES readings)")
    tables = ["other.readings", "child", "readings"]
    lands(bench, [{"drop_table": {"table": table}} for table in tables])
    assert rows("SELECT table_schema, table_name FROM schema_change.retired ORDER BY id") == [
        ("other", "readings"),
        ("public", "child"),
        ("public", "readings"),
    ]
    assert rows("SELECT count(*) FROM pg_tables WHERE schemaname IN ('public', 'other')") == [(0,)]


def test_a_partitioned_table_goes_with_its_partitions(bench: Bench, connection: Connection, rows: Rows) -> None:
    connection.execute("CREATE TABLE event (day date, kind text, PRIMARY KEY (day, kind)) PARTITION BY RANGE (day)")
    connection.execute("CREATE TABLE event_24 PARTITION OF event FOR VALUES FROM ('2024-01-01') TO ('2025-01-01')")
    connection.execute("CREATE TABLE event_rest PARTITION OF event DEFAULT")
    connection.execute("INSERT INTO event VALUES ('2024-02-02', 'a'), ('2025-02-02', 'b')")
    operations = [{"drop_table": {"table": "event"}}]
    comes_back(bench, operations, Table("public", "event_24"), Table("public", "event_rest"))
    lands(bench, operations)
    assert rows("SELECT count(*) FROM pg_tables WHERE schemaname = 'public' AND tablename LIKE 'event%'") == [(0,)]
    ((kept,),) = rows("SELECT kept_name FROM schema_change.retired")
    assert rows(f"SELECT count(*) FROM schema_change_retired.{quote(kept)}") == [(2,)]


USED = """
CREATE TABLE child (id integer PRIMARY KEY, reading integer CONSTRAINT "to it" REFERENCES readings);
CREATE VIEW warm AS SELECT id FROM readings;
CREATE FUNCTION coldest() RETURNS numeric LANGUAGE sql BEGIN ATOMIC SELECT min(celsius) FROM readings; END;
ALTER TABLE child ENABLE ROW LEVEL SECURITY;
CREATE POLICY few ON child USING (EXISTS (SELECT FROM readings));
CREATE PUBLICATION feed FOR TABLE readings;
CREATE PUBLICATION everything FOR ALL TABLES;
CREATE SEQUENCE numbers OWNED BY readings.note;
ALTER TABLE child ADD COLUMN n bigint DEFAULT nextval('numbers');
"""


def test_what_uses_the_table_is_named(bench: Bench, connection: Connection) -> None:
    connection.execute(USED)
    run = forward(bench, bench.write("001_drop", {"operations": [{"drop_table": {"table": "readings"}}]}))
    assert isinstance(run.error, PlanError)
    for user in ("view public.warm", "function public.coldest()", "policy few on public.child", "publication feed"):
        assert user in run.error.message
    assert "foreign key to it of public.child" in run.error.message
    assert "the default of public.child.n" in run.error.message
    assert "everything" not in run.error.message


@pytest.mark.parametrize("table", ["parent", "child"])
def test_inherited_rows_are_not_dropped(bench: Bench, connection: Connection, table: str) -> None:
    connection.execute("CREATE TABLE parent (id integer PRIMARY KEY); CREATE TABLE child () INHERITS (parent)")
    run = forward(bench, bench.write("001_drop", {"operations": [{"drop_table": {"table": table}}]}))
    assert isinstance(run.error, PlanError), run.error


def test_users_dropped_by_the_same_change_are_not_in_the_way(bench: Bench, connection: Connection, rows: Rows) -> None:
    connection.execute("CREATE VIEW warm AS SELECT id FROM readings")
    operations = [{"drop_view": {"view": "warm"}}, {"drop_table": {"table": "readings"}}]
    comes_back(bench, operations)
    lands(bench, operations)
    assert rows("SELECT to_regclass('warm'), to_regclass('readings')") == [(None, None)]
