from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import psycopg
import pytest

from schema_change.core.backfill.engine import BackfillSettings, Progress, remaining
from schema_change.core.backfill.throttle import ThrottleSettings
from schema_change.core.database import Connection
from schema_change.core.errors import BackfillError, ExecutionError, LockNotAvailable
from schema_change.core.model import Backfill, Batch, NewRows
from schema_change.core.names import Table
from tests.integration.backfill.filling import Filling, doubled


@pytest.fixture
def numbers(filling: Filling) -> Filling:
    filling.connection.execute("CREATE TABLE numbers (id integer PRIMARY KEY, c integer, fills integer DEFAULT 0)")
    filling.connection.execute("INSERT INTO numbers (id) SELECT i FROM generate_series(-20, 79) AS i")
    return filling


@contextmanager
def in_thread(work: Callable[[], object]) -> Iterator[list[BaseException]]:
    """Run beside the test; what it raises is raised at the end."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    yield errors
    thread.join(20)
    assert not thread.is_alive()


def commit_later(session: Connection) -> None:
    time.sleep(0.3)
    session.commit()


class Killed(Exception):
    pass


def kill_after(batches: int) -> Callable[[Progress], None]:
    def on_progress(progress: Progress) -> None:
        if progress.batches >= batches and not progress.done:
            raise Killed

    return on_progress


@pytest.fixture
def every_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Progress after every batch and not once a second."""
    original = "schema_change.core.backfill.engine.Meter"
    from schema_change.core.backfill.pace import Meter

    monkeypatch.setattr(original, lambda on_progress: Meter(on_progress, every_s=0))


def test_fills_along_an_integer_key_and_reports(numbers: Filling) -> None:
    assert numbers.run(doubled()) == 100
    assert numbers.one("SELECT bool_and(c = id * 2) FROM numbers")
    assert remaining(numbers.connection, doubled()) == 0
    last = numbers.seen[-1]
    assert (last.done, last.fraction, last.rows_done, last.rows_estimated, last.batches) == (True, 1.0, 100, 100, 10)
    assert numbers.one("SELECT status = 'done' AND rows_done = 100 FROM schema_change.backfill")


def test_running_again_after_the_end_does_nothing(numbers: Filling) -> None:
    numbers.run(doubled())
    numbers.connection.execute("UPDATE numbers SET c = NULL WHERE id = 1")
    assert numbers.run(doubled()) == 100
    assert numbers.one("SELECT c IS NULL FROM numbers WHERE id = 1")


def test_an_empty_table_is_done_at_once(numbers: Filling) -> None:
    numbers.connection.execute("TRUNCATE numbers")
    assert numbers.run(doubled()) == 0
    assert numbers.seen[-1].done


KEYS = [
    ("a uuid, b text", "a, b", "gen_random_uuid(), 'it''s %s {x} \\ ' || i % 7"),
    ("a uuid, b text", "b, a", "gen_random_uuid(), 'key ' || i % 3"),
    ('a text COLLATE "POSIX"', "a", "chr(60 + i) || i"),
    ("a numeric(12), b timestamptz", "a, b", "i % 5 / 3.0, '2024-01-01'::timestamptz + i * '1 hour'::interval"),
    ("a float8", "a", "i / 3.0"),
    ("a char(5)", "a", "i::text"),
    ("a integer[]", "a", "ARRAY[i % 4, i]"),
    ("a mood, b integer", "a, b", "(ARRAY['sad', 'ok', 'happy'])[1 + i % 3]::mood, i"),
    ("a public.citext", "a", "CASE WHEN i % 2 = 0 THEN 'A' ELSE 'a' END || i"),
    ("a public.citext, b integer", "a, b", "CASE WHEN i % 2 = 0 THEN 'A' ELSE 'a' END || i % 9, i"),
]


def test_keys_of_any_type(filling: Filling) -> None:
    execute = filling.connection.execute
    execute("CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy')")
    execute("CREATE EXTENSION citext")
    for seq, (columns, key, values) in enumerate(KEYS, start=1):
        table = f"t{seq}"
        execute(f"CREATE TABLE {table} ({columns}, c integer, fills integer DEFAULT 0, PRIMARY KEY ({key}))")
        names = ", ".join(part.split()[0] for part in columns.split(", "))
        execute(f"INSERT INTO {table} ({names}) SELECT {values} FROM generate_series(1, 95) AS i")
        backfill = Backfill(
            table=Table("public", table),
            column="fills",
            expression=f"{table}.fills + 1",
            pending="c IS NULL",
            key=tuple(key.split(", ")),
        )
        assert filling.run(backfill, seq=seq) == 95, columns
        assert filling.one(f"SELECT count(*) FROM {table} WHERE fills = 1") == 95, columns


def test_quoted_mixed_case_and_reserved_names(filling: Filling) -> None:
    filling.connection.execute('CREATE SCHEMA "Sales Dept"')
    filling.connection.execute(
        'CREATE TABLE "Sales Dept"."Order" ("group" text, "Id" integer, "select" text, PRIMARY KEY ("group", "Id"))'
    )
    filling.connection.execute(
        'INSERT INTO "Sales Dept"."Order" SELECT \'%(x)s {}\', i FROM generate_series(1, 35) AS i'
    )
    backfill = Backfill(
        table=Table("Sales Dept", "Order"),
        column="select",
        expression='"Order"."group" || \'100%\' || "Order"."Id" -- with a comment',
        pending='"select" IS NULL',
        key=("group", "Id"),
        remember=True,
    )
    assert filling.run(backfill) == 35
    assert filling.one('SELECT bool_and("select" = "group" || \'100%\' || "Id") FROM "Sales Dept"."Order"')
    assert filling.undo(backfill) == 35
    assert filling.one('SELECT count("select") FROM "Sales Dept"."Order"') == 0


def test_null_can_be_the_right_answer(numbers: Filling) -> None:
    backfill = doubled(expression="CASE WHEN numbers.id % 2 = 0 THEN numbers.id END", new_rows=NewRows.SWEEP)
    numbers.run(backfill)
    assert numbers.one("SELECT count(c) FROM numbers") == 50
    assert remaining(numbers.connection, backfill) == 0


def test_a_table_without_a_key_whose_rows_move(filling: Filling, every_batch: None) -> None:
    filling.connection.execute("CREATE TABLE numbers (id integer, c integer, pad text DEFAULT repeat('x', 400))")
    filling.connection.execute("INSERT INTO numbers (id) SELECT i FROM generate_series(1, 600) AS i")

    def move_rows(progress: Progress) -> None:
        # Rows behind and before us get a new place, and their value is lost: only a sweep finds them.
        if progress.batches == 5:
            filling.connection.execute("UPDATE numbers SET c = NULL, pad = repeat('y', 500) WHERE id % 3 = 0")

    settings = BackfillSettings(min_rows=10, max_rows=50, throttle=ThrottleSettings(interval_s=0))
    filling.run(doubled(key=(), expression="nullif(numbers.id, 7) * 2"), settings, on_progress=move_rows)
    assert filling.one("SELECT count(*) FROM numbers WHERE c = id * 2") == 599


def test_what_the_application_writes_is_never_overwritten(numbers: Filling, every_batch: None) -> None:
    numbers.connection.execute("INSERT INTO numbers (id) SELECT i FROM generate_series(80, 1500) AS i")
    written = list(range(0, 1500, 3))
    writer = psycopg.connect(**numbers.target.parameters, autocommit=True)

    def application() -> None:
        for i in reversed(written):
            writer.execute("UPDATE public.numbers SET c = -1 WHERE id = %s", [i])

    with in_thread(application) as failures:
        numbers.run(doubled())
    writer.close()
    assert not failures
    assert numbers.one("SELECT count(*) FROM numbers WHERE id >= 0 AND id % 3 = 0 AND id < 1500 AND c <> -1") == 0
    assert numbers.one("SELECT count(*) FROM numbers WHERE (id < 0 OR id % 3 <> 0) AND c = id * 2") > 900


def test_a_killed_fill_goes_on_exactly_once(numbers: Filling, every_batch: None) -> None:
    once_more = doubled(column="fills", expression="numbers.fills + 1", pending="true")
    for batches in (1, 4, 7):
        with pytest.raises(Killed):
            numbers.run(once_more, on_progress=kill_after(batches))
        numbers.reconnect()
    assert numbers.run(once_more) == 100
    assert numbers.one("SELECT min(fills) = 1 AND max(fills) = 1 FROM numbers")


def test_a_batch_that_a_killed_try_left_running_is_not_done_twice(numbers: Filling, every_batch: None) -> None:
    """The old server process commits its batch only after the new try has read the checkpoint."""
    once_more = doubled(column="fills", expression="numbers.fills + 1", pending="true")
    with pytest.raises(Killed):
        numbers.run(once_more, on_progress=kill_after(3))
    zombie = psycopg.connect(**numbers.target.parameters)
    zombie.execute("UPDATE public.numbers SET fills = 1 WHERE id BETWEEN 10 AND 19")
    zombie.execute(
        """UPDATE schema_change.backfill SET cursor = jsonb_set(cursor, '{after}', '["19"]'), rows_done = 40,
        batches = 4"""
    )
    with in_thread(partial(commit_later, zombie)):
        assert numbers.run(once_more) == 100
    zombie.close()
    assert numbers.one("SELECT min(fills) = 1 AND max(fills) = 1 FROM numbers")


def test_the_server_ending_our_session_is_a_retryable_error(numbers: Filling, every_batch: None) -> None:
    def terminate(progress: Progress) -> None:
        if progress.batches == 2:
            numbers.connection.execute("SELECT pg_terminate_backend(%s)", [numbers.work.info.backend_pid])

    with pytest.raises(ExecutionError, match="connection to the database was lost") as info:
        numbers.run(doubled(), on_progress=terminate)
    assert info.value.retryable
    numbers.reconnect()
    assert numbers.run(doubled()) == 100


@pytest.mark.parametrize("key", [("id",), ()], ids=["key", "no key"])
def test_a_poison_row_is_found_and_named(numbers: Filling, key: tuple[str, ...]) -> None:
    backfill = doubled(expression="100 / (numbers.id - 33)", key=key)
    settings = BackfillSettings(throttle=ThrottleSettings(interval_s=0.02))
    with pytest.raises(BackfillError, match="division by zero") as info:
        numbers.run(backfill, settings)
    assert ("id = 33" if key else "ctid = (0,54)") in info.value.message
    assert isinstance(info.value.__cause__, psycopg.errors.DivisionByZero)
    assert numbers.one("SELECT count(c) FROM numbers") == 0
    numbers.connection.execute("DELETE FROM numbers WHERE id = 33")
    assert numbers.run(backfill, settings) == 99


def test_the_detail_with_other_columns_is_not_shown(numbers: Filling) -> None:
    numbers.connection.execute("ALTER TABLE numbers ADD COLUMN secret text DEFAULT 'hunter2', ADD CHECK (c <> 84)")
    with pytest.raises(BackfillError, match=r"id = 42\b.*check constraint") as info:
        numbers.run(doubled())
    assert "hunter2" not in str(info.value)


def test_a_row_refused_only_at_commit_is_named(numbers: Filling) -> None:
    numbers.connection.execute("CREATE TABLE even (id integer PRIMARY KEY)")
    numbers.connection.execute("INSERT INTO even SELECT i FROM generate_series(-40, 158, 2) AS i WHERE i <> 66")
    numbers.connection.execute("ALTER TABLE numbers ADD FOREIGN KEY (c) REFERENCES even DEFERRABLE INITIALLY DEFERRED")
    with pytest.raises(BackfillError, match=r"id = 33 .*foreign key"):
        numbers.run(doubled())


def test_rows_that_fail_only_together_are_reported(numbers: Filling) -> None:
    numbers.connection.execute("ALTER TABLE numbers ADD UNIQUE (c)")
    with pytest.raises(BackfillError, match="contradict each other"):
        numbers.run(doubled(expression="numbers.id / 2 * 2"))


def test_a_statement_that_cannot_run_says_so(numbers: Filling) -> None:
    with pytest.raises(BackfillError, match=r"fill public.numbers.c: .*SQLSTATE 42703"):
        numbers.run(doubled(expression="numbers.missing"))


def test_cancelled_and_resumed(numbers: Filling, every_batch: None) -> None:
    def cancel(progress: Progress) -> None:
        if progress.batches == 3:
            numbers.control(cancelled=True)
            time.sleep(0.02)

    with pytest.raises(BackfillError, match="cancelled by ann"):
        numbers.run(doubled(), on_progress=cancel)
    assert 0 < numbers.one("SELECT count(c) FROM numbers") < 100
    numbers.control()
    assert numbers.run(doubled()) == 100


def test_paused_with_the_reason_visible_until_resumed(numbers: Filling, every_batch: None) -> None:
    reasons = []

    def resume(progress: Progress) -> None:
        if progress.throttle_reason:
            reasons.append(
                (progress.throttle_reason, numbers.one("SELECT throttle_reason FROM schema_change.backfill"))
            )
            if len(reasons) == 3:
                numbers.control(paused=False)

    numbers.control(paused=True)
    assert numbers.run(doubled(), on_progress=resume) == 100
    assert set(reasons) == {("paused by ann", "paused by ann")}
    assert numbers.one("SELECT throttle_reason IS NULL AND throttled_ms >= 60 FROM schema_change.backfill")


def test_a_speed_limit_makes_batches_smaller(numbers: Filling) -> None:
    numbers.control(rows_per_second=200)
    settings = BackfillSettings(throttle=ThrottleSettings(interval_s=0.02))
    assert numbers.run(doubled(), settings) == 100
    assert numbers.seen[-1].batches == 2


def test_sessions_that_wait_for_the_table_make_it_pause(numbers: Filling, every_batch: None) -> None:
    reader = psycopg.connect(**numbers.target.parameters)
    waiter = psycopg.connect(**numbers.target.parameters)
    reader.execute("SELECT 1 FROM public.numbers")
    reasons: list[str] = []
    queued = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'numbers'::regclass"
    started = threading.Event()

    def alter() -> None:
        started.wait()
        waiter.execute("ALTER TABLE public.numbers ADD COLUMN added integer")
        waiter.commit()

    def on_progress(progress: Progress) -> None:
        if progress.throttle_reason:
            reasons.append(progress.throttle_reason)
            reader.commit()
        elif progress.batches == 3:
            started.set()
            while not numbers.one(queued):
                time.sleep(0.01)
            time.sleep(0.02)

    with in_thread(alter) as failures:
        assert numbers.run(doubled(), on_progress=on_progress) == 100
    reader.close()
    waiter.close()
    assert not failures
    assert reasons[0] == "1 session(s) wait for a lock on the table"


def test_a_row_locked_by_the_application_is_tried_again(numbers: Filling) -> None:
    holder = psycopg.connect(**numbers.target.parameters)
    holder.execute("UPDATE public.numbers SET fills = 5 WHERE id = 15")
    settings = BackfillSettings(lock_timeout_ms=20, throttle=ThrottleSettings(interval_s=0.02))
    with in_thread(partial(commit_later, holder)):
        assert numbers.run(doubled(), settings) == 100
    holder.close()
    assert numbers.one("SELECT c = 30 AND fills = 5 FROM numbers WHERE id = 15")


def test_who_keeps_rows_locked_is_named(numbers: Filling) -> None:
    holder = psycopg.connect(**numbers.target.parameters)
    holder.execute("UPDATE public.numbers SET fills = 5 WHERE id = 15")
    settings = BackfillSettings(lock_timeout_ms=50, lock_wait_s=0.3)
    with pytest.raises(LockNotAvailable, match=f"blocked by session {holder.info.backend_pid}"):
        numbers.run(doubled(), settings)
    holder.close()
    assert numbers.run(doubled()) == 100


def test_batches_bypass_our_own_trigger(numbers: Filling) -> None:
    numbers.connection.execute(
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.fills = NEW.fills + 1; RETURN NEW; END'"
    )
    numbers.connection.execute(
        "CREATE TRIGGER t BEFORE UPDATE ON numbers FOR EACH ROW"
        " WHEN (current_setting('schema_change.bypass', true) IS DISTINCT FROM 'on') EXECUTE FUNCTION f()"
    )
    numbers.run(doubled())
    assert numbers.one("SELECT max(fills) FROM numbers") == 0
    assert numbers.work.execute("SELECT current_setting('schema_change.bypass', true)").fetchone() in {(None,), ("",)}


def test_a_sweep_finds_rows_inserted_beyond_the_frozen_bound(numbers: Filling, every_batch: None) -> None:
    def insert(progress: Progress) -> None:
        if progress.batches == 3:
            numbers.connection.execute("INSERT INTO numbers (id) VALUES (-1000), (5000)")

    assert numbers.run(doubled(new_rows=NewRows.SWEEP), on_progress=insert) == 102
    assert numbers.one("SELECT bool_and(c = id * 2) FROM numbers")


def test_undo_takes_back_only_what_still_holds_our_value(numbers: Filling) -> None:
    numbers.connection.execute("UPDATE numbers SET c = 7 WHERE id = 0")
    backfill = doubled(remember=True)
    assert numbers.run(backfill) == 99
    numbers.connection.execute("UPDATE numbers SET c = -5 WHERE id IN (10, 11)")
    numbers.connection.execute("DELETE FROM numbers WHERE id = 12")
    assert numbers.undo(backfill) == 96
    assert numbers.one("SELECT array_agg(id ORDER BY id) FROM numbers WHERE c IS NOT NULL") == [0, 10, 11]
    assert numbers.one("SELECT count(*) FROM schema_change.filled_row") == 0
    assert numbers.undo(backfill) == 0
    assert numbers.run(backfill) == 96


def test_an_interrupted_undo_goes_on(numbers: Filling) -> None:
    backfill = doubled(remember=True)
    numbers.run(backfill)
    numbers.connection.execute("CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'not now'; END$$")
    numbers.connection.execute(
        "CREATE TRIGGER t BEFORE UPDATE ON numbers FOR EACH ROW WHEN (OLD.id = 25) EXECUTE FUNCTION f()"
    )
    with pytest.raises(BackfillError, match="not now"):
        numbers.undo(backfill)
    half = numbers.one("SELECT count(c) FROM numbers")
    numbers.connection.execute("DROP TRIGGER t ON numbers")
    assert numbers.undo(backfill) == half
    assert numbers.one("SELECT count(c) FROM numbers") == 0


def test_remembering_needs_a_key(numbers: Filling) -> None:
    with pytest.raises(BackfillError, match="has no key"):
        numbers.run(doubled(key=(), remember=True))


def test_a_batch_deletes_rows_and_its_drain_puts_them_back(numbers: Filling, every_batch: None) -> None:
    """A statement of its own runs per range; the undo repeats until nothing is left to put back."""
    numbers.connection.execute("CREATE TABLE kept (LIKE numbers)")
    before = numbers.one("SELECT array_agg(n ORDER BY n)::text FROM numbers n")
    batch = Batch(
        "WITH gone AS (DELETE FROM public.numbers WHERE ",
        " RETURNING *) INSERT INTO public.kept SELECT * FROM gone",
        (
            "WITH back AS (DELETE FROM public.kept WHERE id IN (SELECT id FROM public.kept ORDER BY id LIMIT ",
            (
                ") RETURNING *), put AS (INSERT INTO public.numbers SELECT * FROM back RETURNING 1)"
                " SELECT (SELECT count(*) FROM back), (SELECT count(*) FROM put)"
            ),
        ),
        "deleted",
    )
    backfill = Backfill(Table("public", "numbers"), "", "true", "numbers.id % 3 = 0", ("id",), batch=batch)
    gone = numbers.one("SELECT count(*) FROM numbers WHERE id % 3 = 0")
    assert numbers.run(backfill) == gone == numbers.one("SELECT count(*) FROM kept")
    assert numbers.one("SELECT count(*) FROM numbers WHERE id % 3 = 0") == 0
    assert numbers.undo(backfill) == gone
    assert numbers.one("SELECT array_agg(n ORDER BY n)::text FROM numbers n") == before
