"""Several sessions fill one column side by side, each beginning with a key range of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from typing import Any

import psycopg
import pytest

from schema_change.core.backfill import control
from schema_change.core.backfill.courtesy import Courtesy
from schema_change.core.backfill.engine import BackfillSettings, Progress, run_backfill
from schema_change.core.backfill.keyset import ranges_of
from schema_change.core.backfill.pace import BatchSize
from schema_change.core.backfill.shards import Shards, ShardStopped
from schema_change.core.backfill.throttle import Sample, ThrottleSettings, Watcher
from schema_change.core.errors import BackfillError, ExecutionError
from schema_change.core.execution.waiting import TransactionWait
from schema_change.core.model import Backfill, Batch, NewRows
from tests.integration.backfill.filling import NUMBERS, SMALL, Filling, doubled

ROWS = 3_000
CUT = "SELECT array_agg(upper_bound ORDER BY shard) FROM schema_change.backfill"


def once_more() -> Backfill:
    """Count how often a row is filled."""
    return doubled(column="fills", expression="numbers.fills + 1", pending="true")


@pytest.fixture
def numbers(filling: Filling) -> Filling:
    filling.connection.execute("CREATE TABLE numbers (id integer PRIMARY KEY, c integer, fills integer DEFAULT 0)")
    filling.connection.execute("INSERT INTO numbers (id) SELECT generate_series(1, %s)", [ROWS])
    return filling


@pytest.fixture(autouse=True)
def every_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Progress after every batch and not once a second."""
    from schema_change.core.backfill.pace import Meter

    monkeypatch.setattr("schema_change.core.backfill.engine.Meter", lambda tell: Meter(tell, every_s=0))


def silent(_progress: Progress) -> None:
    """Tell nobody."""


def fill(
    filling: Filling,
    backfill: Backfill,
    shard: int,
    shards: int,
    on_progress: Callable[[Progress], None] = silent,
    *,
    settings: BackfillSettings = SMALL,
) -> int:
    """Fill with sessions of our own."""
    with filling.target.connect("work") as work, filling.target.connect("side") as side:
        return run_backfill(
            work,
            side,
            run_id=filling.run_id,
            seq=1,
            backfill=backfill,
            settings=replace(settings, shards=shards, shard=shard),
            on_progress=on_progress,
        )


def together(filling: Filling, backfill: Backfill, shards: int, **more: Any) -> list[Future[int]]:
    """Fill with as many sessions as shards; wait for the end of all of them."""
    with ThreadPoolExecutor(shards) as pool:
        return [pool.submit(fill, filling, backfill, shard, shards, **more) for shard in range(shards)]


def sampled(filling: Filling) -> Sample | None:
    """Look at the server as a session that fills does."""
    watcher = Watcher(filling.run_id, 1, NUMBERS, ThrottleSettings(), since=filling.one("SELECT now()"))
    watcher.reason(filling.side, paused=False)
    return watcher.sample


def filled_once(filling: Filling) -> bool:
    return bool(filling.one("SELECT min(fills) = 1 AND max(fills) = 1 FROM numbers"))


class Barrier:
    """Hold every shard after its first batch until all of them have had one, and something is done meanwhile."""

    def __init__(self, shards: int, meanwhile: Callable[[], None] | None = None) -> None:
        self._all = threading.Barrier(shards, meanwhile)
        self._seen: set[str] = set()

    def __call__(self, progress: Progress) -> None:
        if progress.batches and progress.shard not in self._seen:
            self._seen.add(progress.shard)
            self._all.wait(20)


@pytest.mark.parametrize("shards", [2, 4])
def test_every_row_is_filled_once_side_by_side(numbers: Filling, shards: int) -> None:
    done = together(numbers, once_more(), shards, on_progress=Barrier(shards))
    assert [future.result() for future in done] == [ROWS] * shards
    assert filled_once(numbers)
    recorded = (
        "SELECT count(*), sum(rows_done), bool_and(status = 'done'), sum(rows_estimated) FROM schema_change.backfill"
    )
    assert numbers.connection.execute(recorded).fetchone() == (shards, ROWS, True, ROWS)


def test_what_the_application_writes_meanwhile_is_kept(numbers: Filling) -> None:
    stop = threading.Event()
    written: list[int] = []

    def application() -> None:
        with psycopg.connect(**numbers.target.parameters, autocommit=True) as session:
            for i in range(ROWS, 0, -7):
                if stop.is_set():
                    return
                session.execute("UPDATE public.numbers SET c = -1 WHERE id = %s", [i])
                written.append(i)

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(application)
        done = together(numbers, doubled(), 3)
        stop.set()
    writing.result()
    assert len([future.result() for future in done]) == 3
    assert written
    numbers.connection.execute("CREATE TABLE written AS SELECT unnest(%s::integer[]) AS id", [written])
    assert numbers.one("SELECT count(*) FROM numbers JOIN written USING (id) WHERE c <> -1") == 0
    assert numbers.one("SELECT count(*) FROM numbers WHERE c = id * 2") == ROWS - len(written)


KEYS = {
    "integer, skewed": ("a bigint", "a", "CASE WHEN i % 10 = 0 THEN i::bigint * 1000000000 ELSE i END"),
    "uuid": ("a uuid", "a", "gen_random_uuid()"),
    "text": ('a text COLLATE "POSIX"', "a", "'it''s %s {x} ' || md5(i::text)"),
    "composite": ("a text, b integer", "a, b", "CASE WHEN i % 10 = 0 THEN 'b' ELSE 'a' END, i"),
    "composite, of an extension": ("a public.citext, b timestamptz", "a, b", "i % 3, now() + i * interval '1 s'"),
}


@pytest.mark.parametrize("key", KEYS)
def test_keys_of_any_type_are_cut_evenly(filling: Filling, key: str) -> None:
    columns, names, values = KEYS[key]
    filling.connection.execute("CREATE EXTENSION citext")
    filling.connection.execute(
        f"CREATE TABLE numbers ({columns}, c integer, fills integer DEFAULT 0, PRIMARY KEY ({names}))"
    )
    filling.connection.execute(f"INSERT INTO numbers ({names}) SELECT {values} FROM generate_series(1, {ROWS}) AS i")
    backfill = replace(once_more(), key=tuple(names.split(", ")))
    assert [future.result() for future in together(filling, backfill, 4)] == [ROWS] * 4
    assert filled_once(filling)
    # A table of this size is read as a whole when it is cut, so the shards differ by a row at most.
    assert filling.one("SELECT array_agg(rows_done ORDER BY shard) FROM schema_change.backfill") == [ROWS // 4] * 4


def test_shards_leave_no_gap(numbers: Filling) -> None:
    fill(numbers, doubled(), 0, 4)
    bounds = numbers.connection.execute(
        "SELECT lower_bound, upper_bound FROM schema_change.backfill ORDER BY shard"
    ).fetchall()
    assert (bounds[0][0], bounds[-1][1]) == (None, [str(ROWS)])
    assert all(before[1] == after[0] for before, after in pairwise(bounds))


def test_a_sample_of_a_larger_table_cuts_it_about_evenly(filling: Filling, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("schema_change.core.backfill.keyset._SAMPLE_BYTES", 400 * 8192)
    filling.connection.execute("CREATE TABLE numbers (id integer PRIMARY KEY, c integer) WITH (fillfactor = 10)")
    filling.connection.execute("INSERT INTO numbers (id) SELECT generate_series(1, 20000)")
    ranges = ranges_of(filling.connection, NUMBERS, ("id",))
    (cut,) = ranges.cuts(filling.connection, 2, 1000)
    assert 7_000 < int(cut[0]) < 13_000


@pytest.mark.parametrize(
    ("rows", "backfill", "shards"),
    [
        pytest.param(0, doubled(), 1, id="empty"),
        pytest.param(3, doubled(), 1, id="fewer rows than shards"),
        pytest.param(25, doubled(), 2, id="a few batches"),
        pytest.param(500, doubled(key=()), 1, id="no key"),
        pytest.param(0, doubled(key=()), 1, id="no key, empty"),
        pytest.param(
            500,
            doubled(
                expression="true",
                batch=Batch(head="UPDATE public.numbers SET c = id * 2 WHERE "),
            ),
            1,
            id="a batch",
        ),
    ],
)
def test_what_cannot_be_cut_is_filled_by_one(numbers: Filling, rows: int, backfill: Backfill, shards: int) -> None:
    numbers.connection.execute("DELETE FROM numbers WHERE id > %s", [rows])
    numbers.connection.execute("VACUUM numbers")
    done = together(numbers, backfill, 4)
    assert [future.result() for future in done] == [
        numbers.one("SELECT sum(rows_done)::int FROM schema_change.backfill")
    ] * 4
    assert numbers.one("SELECT count(*) FROM schema_change.backfill") == shards
    assert numbers.one("SELECT count(*) FROM numbers WHERE c = id * 2") == rows


def test_rows_that_come_in_meanwhile_are_swept_wherever_they_are(numbers: Filling) -> None:
    inserted = threading.Event()

    def insert(progress: Progress) -> None:
        if progress.batches == 3 and not inserted.is_set():
            inserted.set()
            numbers.connection.execute("INSERT INTO numbers (id) VALUES (-5), (%s)", [ROWS + 5])
            numbers.connection.execute("UPDATE numbers SET c = NULL WHERE id IN (1, 1600)")

    for future in together(numbers, doubled(new_rows=NewRows.SWEEP), 3, on_progress=insert):
        future.result()
    assert numbers.one("SELECT count(*) FROM numbers WHERE c = id * 2") == ROWS + 2


def test_a_table_that_is_emptied_meanwhile_comes_to_an_end(numbers: Filling) -> None:
    def empty(progress: Progress) -> None:
        if progress.batches == 2:
            numbers.connection.execute("TRUNCATE numbers")

    assert 0 < fill(numbers, doubled(new_rows=NewRows.SWEEP), 0, 3, empty) < ROWS
    assert numbers.one("SELECT bool_and(status = 'done') FROM schema_change.backfill")


def test_one_session_alone_fills_every_shard(numbers: Filling) -> None:
    seen: list[str] = []
    assert fill(numbers, once_more(), 2, 4, lambda progress: seen.append(progress.shard)) == ROWS
    assert filled_once(numbers)
    assert list(dict.fromkeys(seen)) == [f"shard {n} of 4" for n in (3, 4, 1, 2)]
    assert fill(numbers, once_more(), 0, 4) == ROWS, "what is done is not done again"
    assert filled_once(numbers)


def test_a_later_try_keeps_the_first_cut(numbers: Filling) -> None:
    shards = Shards(numbers.work, numbers.side, numbers.run_id, 1, doubled())
    ranges = ranges_of(numbers.work, NUMBERS, ("id",))
    options: dict[str, Any] = {"least_rows": 10, "batch_rows": 10, "estimate": lambda: None, "retries": None}
    shards.cut(ranges, wanted=3, **options)
    cut = numbers.one(CUT)
    numbers.connection.execute("DELETE FROM numbers WHERE id < 2000")
    shards.cut(ranges, wanted=5, **options)
    assert numbers.one(CUT) == cut
    assert len(cut) == 3


def test_a_killed_shard_is_taken_over_and_nothing_is_done_twice(numbers: Filling) -> None:
    """The server ends one shard's session in the middle of its range; the others go on with it."""
    killed = threading.Event()

    def kill(progress: Progress) -> None:
        if progress.shard == "shard 2 of 3" and progress.batches == 20 and not killed.is_set():
            killed.set()
            holder = (
                "SELECT pg_terminate_backend(l.pid) FROM pg_locks l"
                " WHERE l.locktype = 'advisory' AND l.objsubid = 2 AND l.objid = 1"
            )
            assert numbers.one(holder)

    first, second, third = together(numbers, once_more(), 3, on_progress=kill)
    assert isinstance(error := second.exception(), ExecutionError)
    assert error.retryable
    assert first.result() == third.result() == ROWS
    assert filled_once(numbers)


def test_a_killed_shard_goes_on_when_it_is_tried_again(numbers: Filling) -> None:
    class Killed(Exception):
        pass

    def kill(progress: Progress) -> None:
        if progress.batches == 20:
            raise Killed

    for shard in range(3):
        with pytest.raises(Killed):
            fill(numbers, once_more(), shard, 3, kill)
    assert numbers.one("SELECT array_agg(rows_done ORDER BY shard) FROM schema_change.backfill") == [200, 200, 200]
    assert fill(numbers, once_more(), 1, 3) == ROWS
    assert filled_once(numbers)


def test_a_row_that_cannot_be_filled_ends_every_shard(numbers: Filling) -> None:
    """The row is near the end of its shard; the others are held until it has failed."""
    backfill = doubled(expression="100 / (numbers.id - 1100) + numbers.fills")
    failed = threading.Event()

    def wait(progress: Progress) -> None:
        if progress.shard != "shard 2 of 3" and progress.batches == 5:
            failed.wait(20)

    def session(shard: int) -> int:
        try:
            return fill(numbers, backfill, shard, 3, wait)
        finally:
            failed.set()

    with ThreadPoolExecutor(3) as pool:
        done = [pool.submit(session, shard) for shard in range(3)]
    errors = [future.exception() for future in done]
    assert isinstance(errors[1], BackfillError)
    assert "id = 1100" in errors[1].message
    for error in (errors[0], errors[2]):
        assert isinstance(error, ShardStopped)
        assert "another shard failed: public.numbers.c: the row with id = 1100" in error.message
    assert 100 <= numbers.one("SELECT sum(rows_done) FROM schema_change.backfill") < ROWS
    numbers.connection.execute("DELETE FROM numbers WHERE id = 1100")
    for future in together(numbers, backfill, 3):
        assert future.result() == ROWS - 1
    assert numbers.one("SELECT count(*) FROM schema_change.backfill WHERE error IS NOT NULL") == 0


def test_remembered_rows_of_every_shard_are_set_back(numbers: Filling) -> None:
    backfill = doubled(remember=True)
    for future in together(numbers, backfill, 3):
        future.result()
    numbers.connection.execute("UPDATE numbers SET c = -1 WHERE id IN (5, 2500)")
    assert numbers.undo(backfill) == ROWS - 2
    assert numbers.one("SELECT array_agg(id ORDER BY id) FROM numbers WHERE c IS NOT NULL") == [5, 2500]
    assert numbers.one("SELECT count(*) FROM schema_change.backfill") == 0


def test_cancelled_together(numbers: Filling) -> None:
    def cancel(progress: Progress) -> None:
        if progress.batches == 3:
            numbers_side = psycopg.connect(**numbers.target.parameters, autocommit=True)
            numbers_side.execute(
                "INSERT INTO schema_change.control (run_id, cancelled) VALUES (%s, true) ON CONFLICT DO NOTHING",
                [numbers.run_id],
            )
            numbers_side.close()

    for future in together(numbers, doubled(), 2, on_progress=cancel):
        assert isinstance(error := future.exception(), BackfillError)
        assert "cancelled" in error.message
    numbers.control()
    assert fill(numbers, doubled(), 0, 2) == ROWS


def test_the_speed_limit_is_divided_among_those_at_work(numbers: Filling) -> None:
    numbers.control(rows_per_second=1000)
    settings = BackfillSettings(min_rows=10, max_rows=10, throttle=ThrottleSettings(interval_s=0))
    samples: list[Sample | None] = []

    def look() -> None:
        samples.append(sampled(numbers))

    numbers.connection.execute("DELETE FROM numbers WHERE id > 60")
    for future in together(numbers, doubled(), 2, on_progress=Barrier(2, look), settings=settings):
        assert future.result() == 60
    look()
    shared, alone = samples
    assert shared
    assert alone
    assert (shared.rows_per_second, alone.rows_per_second) == (500, 1000)


def test_shards_do_not_give_way_to_each_other(numbers: Filling) -> None:
    courtesy = Courtesy(numbers.side, BatchSize(1_000, 500, 100, 50_000), 500)
    for future in together(numbers, doubled(), 2, on_progress=Barrier(2, courtesy.look)):
        assert future.result() == ROWS
    assert courtesy.others == 0


def test_the_batches_of_other_shards_are_no_reason_to_pause(numbers: Filling) -> None:
    """Another shard waits for a lock on the table, in a long transaction; so does an application."""
    locks = "SELECT pg_try_advisory_lock(hashtext('schema_change.shards:' || %s::text || ':1'), 1)"
    with (
        psycopg.connect(**numbers.target.parameters) as reader,
        psycopg.connect(**numbers.target.parameters) as shard,
        psycopg.connect(**numbers.target.parameters) as application,
        ThreadPoolExecutor(2) as pool,
    ):
        shard.execute(locks, [numbers.run_id])
        shard.execute("SELECT count(*) FROM public.numbers")
        reader.execute("LOCK TABLE public.numbers IN ROW EXCLUSIVE MODE")
        waiting = [pool.submit(s.execute, "LOCK TABLE public.numbers IN SHARE MODE") for s in (shard, application)]
        queued = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'numbers'::regclass"
        while numbers.one(queued) < 2:
            pass
        sample = sampled(numbers)
        reader.rollback()
        for future in waiting:
            future.result()
    assert sample
    assert sample.lock_waiters == 1


def test_a_shard_knows_whether_another_one_fills(numbers: Filling) -> None:
    """Then the WAL that is written counts against the limit of both."""
    seen: list[Sample | None] = []
    for future in together(numbers, doubled(), 2, on_progress=Barrier(2, lambda: seen.append(sampled(numbers)))):
        assert future.result() == ROWS
    seen.append(sampled(numbers))
    assert [sample and sample.beside for sample in seen] == [True, False]


def test_a_shard_that_failed_is_tried_first(numbers: Filling) -> None:
    """A task that begins after the failure does not fill its own range in vain."""
    for shard in (1, 0, 2):
        with pytest.raises(BackfillError, match="id = 1100"):
            fill(numbers, doubled(expression="100 / (numbers.id - 1100)"), shard, 3)
    filled = "SELECT array_agg(rows_done > 0 ORDER BY shard) FROM schema_change.backfill"
    assert numbers.one(filled) == [False, True, False]


def test_a_wait_for_rows_is_over_when_the_backfill_is_cancelled_or_a_shard_failed(numbers: Filling) -> None:
    fill(numbers, doubled(), 0, 2)
    with psycopg.connect(**numbers.target.parameters) as writer:
        writer.execute("UPDATE public.numbers SET fills = 1 WHERE id = 1")
        transaction = writer.execute("SELECT virtualtransaction FROM pg_locks WHERE pid = pg_backend_pid()").fetchone()
        assert transaction
        wait = TransactionWait(
            what="rows",
            reason="locked",
            since=numbers.one("SELECT now()"),
            transactions=transaction,
            backfill=(numbers.run_id, 1),
        )
        assert not wait.is_over(numbers.target)
        error = "UPDATE schema_change.backfill SET error = {}, updated_at = clock_timestamp() WHERE shard = 1"
        numbers.connection.execute(error.format("'poison'").encode())
        assert wait.is_over(numbers.target)
        numbers.connection.execute(error.format("NULL").encode())
        assert not wait.is_over(numbers.target)
        control.cancel(numbers.connection, numbers.run_id, "ann")
        assert wait.is_over(numbers.target)
