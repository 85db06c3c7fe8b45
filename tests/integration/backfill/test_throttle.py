"""Each signal, provoked on a real server: what is seen, the reason, and that it goes on afterwards."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import psycopg
import pytest

from schema_change.core.backfill.engine import BackfillSettings
from schema_change.core.backfill.throttle import ThrottleSettings, Watcher
from schema_change.core.errors import ConfigurationError
from schema_change.core.model import Backfill
from schema_change.core.names import Table
from schema_change.core.surroundings.models import Metric
from tests.integration.backfill.filling import Filling
from tests.web import Web, serving

NUMBERS = Table("public", "numbers")
MB = 1 << 20

Watch = Callable[..., Watcher]


@pytest.fixture
def numbers(filling: Filling) -> Filling:
    """A table whose backfill has begun."""
    filling.connection.execute("CREATE TABLE numbers (id integer PRIMARY KEY, c integer)")
    filling.connection.execute("ALTER TABLE numbers SET (autovacuum_vacuum_threshold = 10)")
    filling.connection.execute("INSERT INTO numbers SELECT i FROM generate_series(1, 1000) AS i")
    filling.run(Backfill(NUMBERS, column="c", expression="numbers.id", pending="c IS NULL", key=("id",)))
    return filling


@pytest.fixture
def watch(numbers: Filling) -> Watch:
    def watcher(**limits: object) -> Watcher:
        settings = ThrottleSettings.model_validate(limits)
        return Watcher(numbers.run_id, 1, NUMBERS, settings, work_pid=numbers.work.info.backend_pid)

    return watcher


def reason(watcher: Watcher, numbers: Filling, *, paused: bool = False) -> str | None:
    return watcher.reason(numbers.side, paused=paused)


def vacuumed(numbers: Filling, statement: str | None = None) -> None:
    """Let the statistics know of a statement, or of a vacuum, at once."""
    numbers.connection.execute((statement or "VACUUM public.numbers").encode())
    numbers.connection.execute("SELECT pg_stat_force_next_flush()")
    numbers.connection.execute("SELECT 1")


def test_a_quiet_server_is_no_reason(numbers: Filling, watch: Watch) -> None:
    watcher = watch()
    assert reason(watcher, numbers) is None
    sample = watcher.sample
    assert sample is not None
    assert sample.bytes is not None
    assert numbers.one("SELECT bytes_before FROM schema_change.backfill") > 0
    assert sample.bytes >= numbers.one("SELECT bytes_before FROM schema_change.backfill")


def test_a_table_that_is_gone_is_no_reason(numbers: Filling, watch: Watch) -> None:
    numbers.connection.execute("DROP TABLE numbers")
    watcher = watch()
    assert reason(watcher, numbers) is None
    assert watcher.sample is None


def test_dead_rows_are_waited_for_until_they_are_vacuumed(numbers: Filling, watch: Watch) -> None:
    watcher = watch(dead_rows=500, dead_rows_ratio=0.1)
    numbers.connection.execute("ANALYZE numbers")
    numbers.connection.execute("ALTER TABLE numbers SET (autovacuum_enabled = off)")
    vacuumed(numbers, "UPDATE public.numbers SET c = c")
    assert reason(watcher, numbers) is None  # there is no autovacuum to wait for
    numbers.connection.execute("ALTER TABLE numbers RESET (autovacuum_enabled)")
    numbers.connection.execute("ALTER TABLE numbers SET (autovacuum_vacuum_scale_factor = 100)")
    assert reason(watcher, numbers) is None  # and here it would not come for long
    numbers.connection.execute("ALTER TABLE numbers RESET (autovacuum_vacuum_scale_factor)")
    assert "dead rows wait for autovacuum (limit 500)" in str(reason(watcher, numbers))
    vacuumed(numbers)
    assert reason(watcher, numbers, paused=True) is None


def test_growth_is_waited_for_while_a_vacuum_can_make_room(numbers: Filling, watch: Watch) -> None:
    watcher = watch(growth_mb=1, growth_ratio=0.01)
    numbers.connection.execute("ALTER TABLE numbers ADD COLUMN pad text")
    vacuumed(numbers, "UPDATE public.numbers SET pad = repeat('x', 1500)")
    assert "the table has grown by" in str(reason(watcher, numbers))
    assert "(limit 1.0 MB) and waits for autovacuum" in str(reason(watcher, numbers))
    vacuumed(numbers)
    assert reason(watcher, numbers, paused=True) is None


def test_the_partitions_of_a_table_count(filling: Filling) -> None:
    execute = filling.connection.execute
    execute("CREATE TABLE numbers (id integer PRIMARY KEY, c integer) PARTITION BY RANGE (id)")
    execute("CREATE TABLE low PARTITION OF numbers FOR VALUES FROM (0) TO (500)")
    execute("CREATE TABLE high PARTITION OF numbers FOR VALUES FROM (500) TO (2000)")
    execute("ALTER TABLE low SET (autovacuum_vacuum_threshold = 10)")
    execute("INSERT INTO numbers SELECT i FROM generate_series(1, 1000) AS i")
    watcher = Watcher(filling.run_id, 1, NUMBERS, ThrottleSettings(dead_rows=100, dead_rows_ratio=0.1))
    vacuumed(filling, "UPDATE public.low SET c = 1")
    assert "dead rows wait for autovacuum" in str(reason(watcher, filling))
    sample = watcher.sample
    assert sample is not None
    assert sample.bytes == filling.one("SELECT pg_total_relation_size('low') + pg_total_relation_size('high')")
    assert sample.live_rows >= 500


def test_a_transaction_that_holds_back_vacuum_is_waited_for(numbers: Filling, watch: Watch) -> None:
    watcher = watch(long_transaction_s=1e-9, dead_rows=500, dead_rows_ratio=100)
    holder = psycopg.connect(**numbers.target.parameters)
    holder.execute("INSERT INTO public.numbers VALUES (-1)")
    vacuumed(numbers, "UPDATE public.numbers SET c = c WHERE id > 0")
    assert "keeps" in str(reason(watcher, numbers))
    holder.execute("PREPARE TRANSACTION 'forgotten'")
    try:
        assert "dead rows from being vacuumed" in str(reason(watcher, numbers))
    finally:
        numbers.connection.execute("ROLLBACK PREPARED 'forgotten'")
    holder.close()
    assert reason(watcher, numbers, paused=True) is None


def test_a_slot_that_nobody_reads_is_named(numbers: Filling, watch: Watch) -> None:
    watcher = watch(slot_wal_mb=1)
    numbers.connection.execute("CHECKPOINT")  # a slot begins at the last one
    numbers.connection.execute("SELECT pg_create_physical_replication_slot('forgotten', true)")
    try:
        assert reason(watcher, numbers) is None
        numbers.connection.execute("CREATE TABLE wal AS SELECT repeat('x', 1000) FROM generate_series(1, 3000)")
        said = str(reason(watcher, numbers))
        assert said.startswith("replication slot forgotten (not in use) holds back")
        assert said.endswith("(limit 1.0 MB)")
    finally:
        numbers.connection.execute("SELECT pg_drop_replication_slot('forgotten')")
    assert reason(watcher, numbers, paused=True) is None


def test_the_wal_written_between_two_looks_counts(numbers: Filling, watch: Watch) -> None:
    watcher = watch(wal_mb_per_s=0.001)
    assert reason(watcher, numbers) is None
    numbers.connection.execute("CREATE TABLE wal AS SELECT repeat('x', 1000) FROM generate_series(1, 3000)")
    assert "ahead of the limit of 0.001 MB/s" in str(reason(watcher, numbers))
    assert reason(watch(), numbers) is None


def test_who_waits_for_the_table_or_has_it_is_not_queued_behind(numbers: Filling, watch: Watch) -> None:
    """The size of a table needs a lock, which a look must not wait for."""
    holder = psycopg.connect(**numbers.target.parameters)
    holder.execute("LOCK TABLE public.numbers IN ACCESS EXCLUSIVE MODE")
    numbers.side.execute("SET lock_timeout = '20ms'")
    watcher = watch()
    assert reason(watcher, numbers) is None
    assert watcher.sample is not None
    assert watcher.sample.bytes is None
    holder.close()


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("SELECT count(*) > 0 FROM numbers", "throttle.sql says so"),
        ("SELECT 'too busy' WHERE 1 = 1", "too busy"),
        ("SELECT count(*) FROM numbers", "throttle.sql gives 1000; expected a boolean, or a text"),
        ("SELECT pg_sleep(5)::text", "throttle.sql cannot be asked: canceling statement due to statement timeout"),
        ("SELECT nextval('s') > 0", "throttle.sql cannot be asked: cannot execute nextval() in a read-only"),
        ("SELECT true FROM nowhere", 'throttle.sql cannot be asked: relation "nowhere" does not exist'),
        ("SELECT false", None),
        ("SELECT NULL::text", None),
        ("SELECT ''", None),
        ("SELECT 'too busy' WHERE 1 = 2", None),
    ],
)
def test_the_changes_own_condition(numbers: Filling, watch: Watch, query: str, words: str | None) -> None:
    numbers.connection.execute("CREATE SEQUENCE s")
    found = reason(watch(sql=query), numbers)
    assert (found is None) if words is None else (words in str(found))
    assert numbers.one("SELECT last_value FROM s") == 1


@pytest.fixture
def web() -> Iterator[Web]:
    with serving() as web:
        yield web


def vector(value: float) -> tuple[int, object]:
    data = {"resultType": "vector", "result": [{"metric": {}, "value": [0, str(value)]}]}
    return (200, {"status": "success", "data": data})


def test_a_metric_out_of_its_bounds(numbers: Filling, watch: Watch, web: Web) -> None:
    metric = Metric.model_validate({"url": web.url, "query": "latency", "max": 0.2})
    watcher = watch(prometheus=metric)
    web.answers["/api/v1/query"] = vector(0.5)
    assert reason(watcher, numbers) == "prometheus latency: 0.5; expected at most 0.2"
    web.answers["/api/v1/query"] = (503, "down")
    assert "no answer that Prometheus would give" in str(reason(watcher, numbers))
    web.answers["/api/v1/query"] = vector(0.1)
    assert reason(watcher, numbers, paused=True) is None
    with pytest.raises(ConfigurationError, match="TOKEN_OF_NOBODY"):
        reason(watch(prometheus={**metric.model_dump(), "headers": {"x": "${TOKEN_OF_NOBODY}"}}), numbers)


def test_every_reason_is_given(numbers: Filling, watch: Watch) -> None:
    numbers.control(paused=True)
    assert reason(watch(sql="SELECT true"), numbers) == "paused by ann; throttle.sql says so"


def test_a_backfill_keeps_to_the_wal_it_may_write(numbers: Filling) -> None:
    numbers.connection.execute("ALTER TABLE numbers ADD COLUMN pad text")
    fill = Backfill(NUMBERS, column="pad", expression="repeat('x', 1500)", pending="pad IS NULL", key=("id",))
    settings = BackfillSettings(min_rows=10, max_rows=10, throttle=ThrottleSettings(interval_s=0.02, wal_mb_per_s=2))
    before, started = numbers.one("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')"), time.monotonic()
    assert numbers.run(fill, settings, seq=2) == 1000
    written = float(numbers.one("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')") - before) / MB
    # One interval's worth of batches may be ahead at the end.
    assert written / (time.monotonic() - started) < 2 * 2
    assert numbers.one("SELECT throttled_ms > 0 FROM schema_change.backfill WHERE seq = 2")
