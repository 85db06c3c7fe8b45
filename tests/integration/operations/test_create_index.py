from __future__ import annotations

import pytest

from schema_change.core.database import Connection
from schema_change.core.names import Table
from tests.bench import Bench
from tests.integration.operations.running import comes_back, forward, lands
from tests.integration.stages.test_run import Rows

EVENT = Table("My Schema", "Event")


@pytest.fixture
def partitioned(connection: Connection) -> None:
    connection.execute(
        """
        CREATE SCHEMA "My Schema";
        CREATE TABLE "My Schema"."Event" (day date, "order" text, n integer) PARTITION BY RANGE (day);
        CREATE TABLE "My Schema"."Event 24" PARTITION OF "My Schema"."Event"
        FOR VALUES FROM ('2024-01-01') TO ('2025-01-01') PARTITION BY LIST ("order");
        CREATE TABLE "My Schema".a_partition_whose_name_is_as_long_as_postgresql_lets_it_be_or_64
        PARTITION OF "My Schema"."Event 24" FOR VALUES IN ('a');
        CREATE TABLE "My Schema"."rest 24" PARTITION OF "My Schema"."Event 24" DEFAULT;
        CREATE TABLE "My Schema".rest PARTITION OF "My Schema"."Event" DEFAULT;
        INSERT INTO "My Schema"."Event"
        SELECT '2023-06-01'::date + g, CASE WHEN g % 2 = 0 THEN 'a' ELSE 'b' END, g FROM generate_series(1, 800) AS g
        """
    )


@pytest.mark.usefixtures("partitioned")
def test_a_partitioned_table_is_indexed_partition_by_partition(
    bench: Bench, connection: Connection, rows: Rows
) -> None:
    operations = [{"create_index": {"table": '"My Schema"."Event"', "columns": ["order", "n DESC"], "name": "by n"}}]
    comes_back(bench, operations, EVENT)
    lands(bench, operations, skip_backup=False, skip_rehearsal=False)
    assert rows(
        "SELECT bool_and(i.indisvalid), count(*) FROM pg_index AS i"
        ' WHERE i.indexrelid IN (SELECT t.relid FROM pg_partition_tree(\'"My Schema"."by n"\') AS t)'
    ) == [(True, 5)]
    connection.execute('CREATE TABLE "My Schema".later PARTITION OF "My Schema"."Event 24" FOR VALUES IN (\'c\')')
    assert rows("SELECT count(*) FROM pg_index WHERE indrelid = '\"My Schema\".later'::regclass") == [(1,)]


@pytest.mark.usefixtures("partitioned")
def test_a_failed_build_of_one_partition_takes_everything_back(bench: Bench, connection: Connection) -> None:
    connection.execute("INSERT INTO \"My Schema\".\"Event\" VALUES ('2024-05-05', 'x', -1), ('2024-05-06', 'x', 1)")
    before = bench.state(EVENT)
    operation = {"table": '"My Schema"."Event"', "columns": ["sqrt(n)"], "name": "roots"}
    run = forward(bench, bench.write("001_roots", {"operations": [{"create_index": operation}]}))
    assert run.error
    assert "square root" in run.error.message
    assert bench.state(EVENT) == before


@pytest.mark.usefixtures("partitioned")
def test_a_partition_is_indexed_alone(bench: Bench, rows: Rows) -> None:
    lands(bench, [{"create_index": {"table": '"My Schema".rest', "columns": ["n"], "unique": True}}])
    assert rows("SELECT count(*) FROM pg_indexes WHERE schemaname = 'My Schema'") == [(1,)]
