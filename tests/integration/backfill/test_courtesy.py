from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import psycopg
import pytest
from psycopg import sql

from schema_change.core.backfill.courtesy import Courtesy
from schema_change.core.backfill.engine import BackfillSettings
from schema_change.core.backfill.pace import BatchSize
from schema_change.core.backfill.throttle import ThrottleSettings
from schema_change.core.database import Connection
from schema_change.core.model import Backfill
from schema_change.core.names import Table
from tests.integration.backfill.filling import Filling
from tests.integration.backfill.test_engine import in_thread

#: A millisecond per row, at least.
SLOW = Backfill(
    table=Table("public", "numbers"),
    column="c",
    expression="(SELECT numbers.id * 2 FROM pg_sleep(0.001 + 0 * numbers.id))",
    pending="c IS NULL",
    key=("id",),
)
SETTINGS = BackfillSettings(max_rows=40, min_rows=1)


@pytest.fixture
def numbers(filling: Filling) -> Filling:
    filling.connection.execute("CREATE TABLE numbers (id integer PRIMARY KEY, c integer)")
    filling.connection.execute("INSERT INTO numbers (id) SELECT i FROM generate_series(1, 100) AS i")
    return filling


@pytest.fixture
def application(numbers: Filling) -> Iterator[psycopg.Connection]:
    with psycopg.connect(**numbers.target.parameters, application_name="application") as session:
        yield session


def test_alone_batches_are_as_long_as_asked(numbers: Filling) -> None:
    assert numbers.run(SLOW, SETTINGS) == 100
    assert numbers.seen[-1].batches == 3


def test_while_others_are_at_work_batches_are_short(numbers: Filling, application: Connection) -> None:
    def work() -> None:
        with pytest.raises(psycopg.errors.QueryCanceled):
            application.execute("SELECT pg_sleep(60)")

    at_work = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'application' AND state = 'active'"
    with in_thread(work) as failures:
        while not numbers.one(at_work):
            pass
        assert numbers.run(SLOW, SETTINGS) == 100
        application.cancel_safe()
    assert not failures
    assert numbers.seen[-1].batches >= 4


def test_asked_not_to_give_way_it_does_not(numbers: Filling, application: Connection) -> None:
    application.execute("SELECT 1")  # within the last second, and in a transaction since
    settings = replace(SETTINGS, throttle=ThrottleSettings(give_way=False))
    assert numbers.run(SLOW, settings) == 100
    assert numbers.seen[-1].batches == 3


def test_whom_we_may_not_look_at_is_taken_to_be_at_work(numbers: Filling, application: Connection) -> None:
    role = sql.Identifier(f"blind_{numbers.target.database}")
    numbers.connection.execute(sql.SQL("CREATE ROLE {}").format(role))
    try:
        numbers.side.execute(sql.SQL("SET ROLE {}").format(role))
        courtesy = Courtesy(numbers.side, BatchSize(1_000, 500, 100, 50_000), 500)
        courtesy.look()
        assert courtesy.others >= 1
    finally:
        numbers.side.execute("RESET ROLE")
        numbers.connection.execute(sql.SQL("DROP ROLE {}").format(role))
