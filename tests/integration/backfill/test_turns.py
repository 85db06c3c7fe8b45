"""A large table is filled in two turns: every other row first, so that the rest stay in their pages."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from psycopg import sql

from schema_change.core.backfill import turns
from schema_change.core.backfill.engine import BackfillSettings, Progress
from schema_change.core.backfill.keyset import ranges_of
from schema_change.core.backfill.throttle import ThrottleSettings
from schema_change.core.errors import BackfillError
from schema_change.core.model import Backfill
from schema_change.core.names import Table
from tests.integration.backfill.filling import Filling, doubled
from tests.integration.backfill.test_engine import KEYS, Killed, every_batch, kill_after, numbers

__all__ = ["every_batch", "numbers"]

pytestmark = pytest.mark.usefixtures("every_batch")
LARGE = """
CREATE TABLE numbers AS SELECT i AS id, NULL::integer AS c, 0 AS fills, repeat('x', 120) AS pad
FROM generate_series(1, 60000) AS i;
ALTER TABLE numbers ADD PRIMARY KEY (id);
ALTER TABLE numbers SET (autovacuum_enabled = false);
ANALYZE numbers
"""
USUAL = BackfillSettings(throttle=ThrottleSettings(interval_s=0.02))


@pytest.fixture
def any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take every table for a large one."""
    monkeypatch.setattr(turns, "_FROM_BYTES", 0)


@pytest.fixture
def large(filling: Filling) -> Filling:
    for statement in LARGE.split(";"):
        filling.connection.execute(statement.encode())
    return filling


def grown(filling: Filling, fill: Callable[[], object]) -> float:
    """Return how many times its size the table has grown by."""
    before: int = filling.one("SELECT pg_relation_size('numbers')")
    fill()
    return float(filling.one("SELECT pg_relation_size('numbers')") / before) - 1


def test_a_large_table_grows_by_little_more_than_half(large: Filling) -> None:
    assert grown(large, lambda: large.run(doubled(), USUAL)) < 0.75
    assert large.one("SELECT bool_and(c = id * 2) FROM numbers")
    assert large.one("SELECT rows_done FROM schema_change.backfill") == 60000


def test_a_small_table_is_filled_in_one_turn(numbers: Filling) -> None:
    assert not turns.pays(numbers.connection, doubled(), ranges_of(numbers.connection, doubled().table, ("id",)))


@pytest.mark.parametrize(
    "index", ["(c)", "(id) INCLUDE (c)", "(id) WHERE c > 0", "((c + 1))"], ids=["key", "include", "where", "expression"]
)
def test_a_column_in_an_index_is_filled_in_one_turn(large: Filling, index: str) -> None:
    ranges = ranges_of(large.connection, doubled().table, ("id",))
    assert turns.pays(large.connection, doubled(), ranges)
    large.connection.execute(f"CREATE INDEX ON numbers {index}".encode())
    assert not turns.pays(large.connection, doubled(), ranges)


@pytest.mark.usefixtures("any_size")
def test_killed_after_any_batch_it_goes_on_exactly_once(numbers: Filling) -> None:
    once_more = doubled(column="fills", expression="numbers.fills + 1", pending="true")
    for batches in range(1, 12):
        try:
            numbers.run(once_more, on_progress=kill_after(batches))
        except Killed:
            numbers.reconnect()
    assert numbers.run(once_more) == 100
    assert numbers.one("SELECT min(fills) = 1 AND max(fills) = 1 FROM numbers")


@pytest.mark.usefixtures("any_size")
def test_keys_of_any_type_are_halved_or_left_whole(filling: Filling) -> None:
    execute = filling.connection.execute
    execute("CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy')")
    execute("CREATE EXTENSION citext")
    keys = [
        *KEYS,
        ("a date, b money", "a, b", "'2024-01-01'::date + i, i::money"),
        ("a timetz", "a", "'0:0'::time + i * '1 s'::interval"),
    ]
    halved = 0
    for seq, (columns, key, values) in enumerate(keys, start=1):
        table = f"t{seq}"
        execute(f"CREATE TABLE {table} ({columns}, fills integer DEFAULT 0, PRIMARY KEY ({key}))".encode())
        names = ", ".join(part.split()[0] for part in columns.split(", "))
        execute(f"INSERT INTO {table} ({names}) SELECT {values} FROM generate_series(1, 95) AS i".encode())
        backfill = Backfill(
            table=Table("public", table),
            column="fills",
            expression=f"{table}.fills + 1",
            pending="true",
            key=tuple(key.split(", ")),
        )
        halved += turns.pays(filling.connection, backfill, ranges_of(filling.connection, backfill.table, backfill.key))
        assert filling.run(backfill, seq=seq) == 95, columns
        assert filling.one(f"SELECT count(*) FROM {table} WHERE fills = 1") == 95, columns
    assert halved >= len(KEYS) - 2


@pytest.mark.parametrize("step", [1, 2, 3, 10, 32, 1 << 22])
def test_whole_numbers_are_halved_page_by_page_however_far_apart(filling: Filling, step: int) -> None:
    filling.connection.execute("CREATE TABLE numbers (id bigint PRIMARY KEY, c integer)")
    half = ranges_of(filling.connection, doubled().table, ("id",)).every_other(0)
    assert half is not None
    query = sql.SQL(
        "SELECT count(*) FILTER (WHERE {half}) FROM (SELECT i, i * {step} - 5000 AS id FROM generate_series(0::bigint,"
        " 6399) AS i) AS n GROUP BY i / 64"
    ).format(half=half, step=sql.Literal(step))
    shares = [row[0] for row in filling.connection.execute(query)]
    assert all(20 <= share <= 44 for share in shares), shares


@pytest.mark.usefixtures("any_size")
def test_a_right_answer_that_is_null_is_written_once(numbers: Filling) -> None:
    assert numbers.run(doubled(expression="CASE WHEN numbers.id > 30 THEN numbers.id END")) == 100
    assert numbers.one("SELECT count(c) FROM numbers") == 49


@pytest.mark.usefixtures("any_size")
def test_a_poison_row_of_either_turn_is_named_and_the_others_can_be_filled_after_it(numbers: Filling) -> None:
    for row in (33, 34):
        with pytest.raises(BackfillError, match=f"the row with id = {row} cannot be filled"):
            numbers.run(doubled(expression=f"100 / (numbers.id - {row})"))
        numbers.undo(doubled())
        numbers.connection.execute("UPDATE numbers SET c = NULL")
    assert numbers.run(doubled()) == 100


@pytest.mark.usefixtures("any_size")
def test_rows_locked_between_the_turns_make_the_next_batches_smaller(numbers: Filling) -> None:
    blocker = numbers.target.connect("blocker")
    released = False

    def lock_then_release(progress: Progress) -> None:
        nonlocal released
        if progress.batches == 2 and not progress.throttle_reason and not blocker.info.transaction_status:
            blocker.execute("BEGIN")
            blocker.execute("SELECT FROM public.numbers WHERE id < 20 FOR UPDATE")
        elif progress.throttle_reason and not released:
            released = True
            blocker.execute("COMMIT")

    once_more = doubled(column="fills", expression="numbers.fills + 1", pending="true")
    assert numbers.run(once_more, on_progress=lock_then_release) == 100
    assert released
    assert numbers.one("SELECT min(fills) = 1 AND max(fills) = 1 FROM numbers")
    blocker.close()
