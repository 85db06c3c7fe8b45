from __future__ import annotations

import pytest
from psycopg import errors

from schema_change.core.database import Connection
from schema_change.core.errors import PreCheckFailed
from tests.bench import Bench
from tests.integration.operations.running import comes_back, forward, lands
from tests.integration.stages.test_run import Rows


def test_a_dropped_index_is_the_same_again_after_a_rollback(bench: Bench, connection: Connection, rows: Rows) -> None:
    connection.execute('CREATE INDEX "INDEX on ""it""" ON readings (lower(station), celsius DESC) WHERE note IS NULL')
    connection.execute('COMMENT ON INDEX "INDEX on ""it""" IS \'its odd\'')
    operations = [{"drop_index": {"index": '"INDEX on ""it"""'}}]
    comes_back(bench, operations)
    lands(bench, operations)
    assert rows("SELECT count(*) FROM pg_indexes WHERE tablename = 'readings'") == [(1,)]


def test_a_unique_index_is_dropped_in_contract_so_that_no_duplicate_can_come_in_before(
    bench: Bench, connection: Connection, rows: Rows
) -> None:
    connection.execute("CREATE UNIQUE INDEX only_once ON readings (station, id)")
    operations = [{"drop_index": {"index": "only_once"}}]
    comes_back(bench, operations)
    run = forward(bench, "900_back", stop_before="contract")
    assert rows("SELECT indisvalid FROM pg_index WHERE indexrelid = 'only_once'::regclass") == [(True,)]
    assert run.try_stage("contract")
    assert rows("SELECT to_regclass('only_once')") == [(None,)]


def test_the_index_of_a_partitioned_table_goes_with_those_of_its_partitions(
    bench: Bench, connection: Connection, rows: Rows
) -> None:
    connection.execute("CREATE TABLE event (day date, kind text) PARTITION BY RANGE (day)")
    connection.execute("CREATE TABLE event_1 PARTITION OF event FOR VALUES FROM ('2024-01-01') TO ('2025-01-01')")
    connection.execute("INSERT INTO event VALUES ('2024-02-02', 'a')")
    connection.execute("CREATE INDEX event_kind ON event (kind)")
    refused = forward(bench, bench.write("900_part", {"operations": [{"drop_index": {"index": "event_1_kind_idx"}}]}))
    assert isinstance(refused.error, PreCheckFailed)
    assert "event_kind" in refused.error.message
    lands(bench, [{"drop_index": {"index": "event_kind"}}])
    assert rows("SELECT count(*) FROM pg_indexes WHERE schemaname = 'public' AND tablename LIKE 'event%'") == [(0,)]


def test_what_an_interrupted_build_left_is_dropped_in_contract(
    bench: Bench, connection: Connection, rows: Rows
) -> None:
    with pytest.raises(errors.UniqueViolation):
        connection.execute("CREATE UNIQUE INDEX CONCURRENTLY wreck ON readings (station)")
    connection.execute("CREATE INDEX CONCURRENTLY plain ON readings (station)")
    connection.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'plain'::regclass")
    operations = [{"drop_index": {"index": "wreck"}}, {"drop_index": {"index": "plain"}}]
    comes_back(bench, operations)
    lands(bench, operations)
    assert rows("SELECT count(*) FROM pg_indexes WHERE tablename = 'readings'") == [(1,)]


def test_what_an_index_could_not_get_back_is_told_before_it_is_dropped(bench: Bench, connection: Connection) -> None:
    connection.execute("CREATE INDEX odd ON readings (lower(station))")
    connection.execute("ALTER INDEX odd ALTER COLUMN 1 SET STATISTICS 500")
    run = forward(bench, bench.write("900_odd", {"operations": [{"drop_index": {"index": "odd"}}]}))
    assert isinstance(run.error, PreCheckFailed)
    assert "public.odd could not be built again as it is" in run.error.message
