from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import psycopg
import pytest

from schema_change.core.database import Connection, Target
from schema_change.core.errors import ExecutionError, LockNotAvailable
from schema_change.core.execution.blockers import look
from schema_change.core.execution.locks import LockSafeExecutor, LockSettings
from schema_change.core.execution.waiting import Parked, Parking
from schema_change.core.model import LockMode
from schema_change.core.names import Table

BUSY = Table("public", "busy")
ADD = ("ALTER TABLE public.busy ADD COLUMN added integer",)
EXCLUSIVE = LockMode.ACCESS_EXCLUSIVE
WAITERS = "SELECT count(*) FROM pg_locks WHERE relation = 'public.busy'::regclass AND NOT granted"

Build = Callable[[LockSettings], LockSafeExecutor]
Open = Callable[[str], Connection]


@pytest.fixture
def notes() -> list[str]:
    return []


@pytest.fixture
def build(target: Target, connection: Connection, notes: list[str]) -> Iterator[Build]:
    """Makes an executor for table busy."""
    connection.execute("CREATE TABLE busy (id integer PRIMARY KEY, n integer)")
    connection.execute("INSERT INTO busy SELECT i, i FROM generate_series(1, 100) AS i")
    with target.connect("work") as work, target.connect("side") as side:
        yield lambda settings: LockSafeExecutor(work, side, settings, notes.append)


@pytest.fixture
def opened(target: Target) -> Iterator[Open]:
    """Opens a session of an application whose transaction stays open after one statement."""
    sessions: list[Connection] = []

    def begin(statement: str) -> Connection:
        session = psycopg.connect(**{**target.parameters, "application_name": "reporting"})
        sessions.append(session)
        session.execute(statement.encode())
        return session

    yield begin
    for session in sessions:
        session.close()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as threads:
        yield threads


def columns(connection: Connection) -> set[str]:
    rows = connection.execute(
        "SELECT attname FROM pg_attribute WHERE attrelid = 'busy'::regclass AND attnum > 0 AND NOT attisdropped"
    )
    return {row[0] for row in rows}


def until(connection: Connection, query: str) -> None:
    for _ in range(500):
        row = connection.execute(query.encode()).fetchone()
        if row and row[0]:
            return
        time.sleep(0.01)
    pytest.fail(f"never true: {query}")


def test_statements_and_the_journal_entry_are_one_transaction(build: Build, connection: Connection) -> None:
    def record(work: Connection, attempts: int) -> None:
        work.execute("INSERT INTO public.busy (id, added) VALUES (0, %s)", [attempts])

    assert build(LockSettings()).transaction(ADD, tables=[BUSY], lock=EXCLUSIVE, within=record) == 1
    assert connection.execute("SELECT added FROM busy WHERE id = 0").fetchone() == (1,)


def test_a_failure_of_the_journal_entry_takes_the_statements_back(build: Build, connection: Connection) -> None:
    def fail(_work: Connection, _attempts: int) -> None:
        raise ValueError("the journal is full")

    with pytest.raises(ValueError, match="journal is full"):
        build(LockSettings()).transaction(ADD, tables=[BUSY], lock=EXCLUSIVE, within=fail)
    assert "added" not in columns(connection)


def test_a_failing_statement_leaves_nothing_and_says_what_failed(build: Build, connection: Connection) -> None:
    statements = (*ADD, "-- a comment\nALTER TABLE public.busy ADD COLUMN n integer")
    with pytest.raises(ExecutionError, match=r"^ALTER TABLE .*ADD COLUMN n integer: .*SQLSTATE 42701") as info:
        build(LockSettings()).transaction(statements, tables=[BUSY], lock=EXCLUSIVE)
    assert isinstance(info.value.__cause__, psycopg.errors.DuplicateColumn)
    assert not info.value.retryable
    assert columns(connection) == {"id", "n"}
    build(LockSettings()).transaction(ADD, tables=[BUSY], lock=EXCLUSIVE)
    assert columns(connection) == {"id", "n", "added"}


def test_tables_that_do_not_exist_yet_are_not_locked(build: Build, connection: Connection) -> None:
    create = ("CREATE TABLE public.fresh (id integer)",)
    build(LockSettings()).transaction(create, tables=[Table("public", "fresh"), BUSY], lock=EXCLUSIVE)
    assert connection.execute("SELECT count(*) FROM fresh").fetchone() == (0,)


def test_views_are_locked_in_the_order_in_which_they_are_read(target: Target, connection: Connection) -> None:
    """Else who reads through a view would hold its lock, and wait for the table that we have."""
    connection.execute("CREATE TABLE below (id integer)")
    connection.execute("CREATE VIEW middle AS SELECT id FROM below")
    connection.execute("CREATE VIEW above AS SELECT id FROM middle")
    above, below, middle = (Table("public", name) for name in ("above", "below", "middle"))
    with target.connect("side") as side:
        assert look(side, 0, [above, below, middle], EXCLUSIVE).lockable == (above, middle, below)
        # A view that is changed by itself leaves the table to the application.
        assert look(side, 0, [above], EXCLUSIVE).lockable == ()
    with target.connect("work") as work, target.connect("side") as side:
        executor = LockSafeExecutor(work, side, LockSettings())
        statements = ("DROP VIEW public.above, public.middle", "ALTER TABLE public.below RENAME TO renamed")
        assert executor.transaction(statements, tables=[below, middle, above], lock=EXCLUSIVE) == 1
    assert connection.execute("SELECT to_regclass('renamed') IS NOT NULL").fetchone() == (True,)


def test_nobody_ever_waits_behind_us_while_a_transaction_is_open(
    build: Build, opened: Open, connection: Connection, pool: ThreadPoolExecutor, notes: list[str]
) -> None:
    reader = opened("SELECT count(*) FROM public.busy")
    pid = reader.info.backend_pid
    # Older than one attempt, so that we do not take it for one that is about to end.
    until(connection, f"SELECT clock_timestamp() - xact_start > '0.15 s' FROM pg_stat_activity WHERE pid = {pid}")
    change = pool.submit(build(LockSettings()).transaction, ADD, tables=[BUSY], lock=EXCLUSIVE)
    waiting = set()
    for _ in range(40):
        waiting.add(connection.execute(WAITERS).fetchone())
        connection.execute("SELECT count(*) FROM busy")
        time.sleep(0.01)
    assert waiting == {(0,)}
    assert not change.done()
    reader.commit()
    assert change.result() == 1
    assert "added" in columns(connection)
    assert any(f"session {pid} (user postgres, reporting, idle in transaction" in note for note in notes)


def test_an_attempt_waits_no_longer_than_its_bound_and_leaves_the_queue(
    build: Build, opened: Open, connection: Connection, pool: ThreadPoolExecutor
) -> None:
    # The owner's lock comes up inside the attempt: the statement needs a table that it does not name.
    connection.execute("CREATE TABLE child (id integer, busy_id integer)")
    holder = opened("LOCK TABLE public.busy IN ROW EXCLUSIVE MODE")
    key = ("ALTER TABLE public.child ADD CONSTRAINT c FOREIGN KEY (busy_id) REFERENCES public.busy NOT VALID",)
    child = Table("public", "child")
    change = pool.submit(build(LockSettings()).transaction, key, tables=[child], lock=LockMode.SHARE_ROW_EXCLUSIVE)
    until(connection, WAITERS)
    until(connection, f"SELECT NOT EXISTS ({WAITERS.replace('count(*)', '1')})")
    holder.commit()
    assert change.result() > 1
    assert connection.execute("SELECT count(*) FROM pg_constraint WHERE conname = 'c'").fetchone() == (1,)


def test_giving_up_names_the_blocker_and_the_remedy(build: Build, opened: Open, connection: Connection) -> None:
    reader = opened("SELECT 'a secret', count(*) FROM public.busy")
    with pytest.raises(LockNotAvailable) as info:
        build(LockSettings(lock_timeout_ms=20, wait_s=0.3)).transaction(ADD, tables=[BUSY], lock=EXCLUSIVE)
    message = str(info.value)
    assert f"session {reader.info.backend_pid} (user postgres, reporting, idle in transaction" in message
    assert f"pg_terminate_backend({reader.info.backend_pid})" in message
    assert "ACCESS EXCLUSIVE lock on public.busy within 0.3 s" in message
    assert "secret" not in message
    assert info.value.retryable
    assert "added" not in columns(connection)


def test_a_prepared_transaction_is_named_by_its_gid(build: Build, opened: Open, connection: Connection) -> None:
    session = opened("UPDATE public.busy SET n = 0 WHERE id = 1")
    session.execute("PREPARE TRANSACTION 'left over'")
    session.commit()
    try:
        with pytest.raises(LockNotAvailable, match=r"prepared transaction 'left over'.*\n.*ROLLBACK PREPARED"):
            build(LockSettings(lock_timeout_ms=20, wait_s=0.2)).transaction(ADD, tables=[BUSY], lock=EXCLUSIVE)
    finally:
        connection.execute("ROLLBACK PREPARED 'left over'")


def test_blockers_are_terminated_only_when_asked_and_it_is_said(
    build: Build, opened: Open, connection: Connection, notes: list[str]
) -> None:
    reader = opened("SELECT count(*) FROM public.busy")
    settings = LockSettings(lock_timeout_ms=20, wait_s=1, terminate_blockers=True)
    build(settings).transaction(ADD, tables=[BUSY], lock=EXCLUSIVE)
    assert "added" in columns(connection)
    assert any(note.startswith(f"terminated session {reader.info.backend_pid}") for note in notes)


def test_a_role_that_may_not_see_other_sessions_still_waits_and_names_them(
    target: Target, build: Build, opened: Open, connection: Connection
) -> None:
    role = f"limited_{target.database}"
    connection.execute(f"CREATE ROLE {role} LOGIN; ALTER TABLE busy OWNER TO {role}".encode())
    limited = Target(target.conn_id, {**target.parameters, "user": role})
    reader = opened("SELECT count(*) FROM public.busy")
    try:
        with limited.connect("work") as work, limited.connect("side") as side:
            executor = LockSafeExecutor(work, side, LockSettings(lock_timeout_ms=20, wait_s=0.3))
            with pytest.raises(LockNotAvailable, match=f"session {reader.info.backend_pid} .user postgres, reporting"):
                executor.transaction(ADD, tables=[BUSY], lock=EXCLUSIVE)
            reader.commit()
            executor.transaction(ADD, tables=[BUSY], lock=EXCLUSIVE)
    finally:
        connection.execute(f"ALTER TABLE busy OWNER TO postgres; DROP ROLE {role}".encode())
    assert "added" in columns(connection)


def test_partitions_locked_by_others_count_as_well(build: Build, opened: Open, connection: Connection) -> None:
    connection.execute("CREATE TABLE parts (id integer) PARTITION BY RANGE (id)")
    connection.execute("CREATE TABLE part_1 PARTITION OF parts FOR VALUES FROM (0) TO (10)")
    reader = opened("SELECT * FROM public.part_1")
    add = ("ALTER TABLE public.parts ADD COLUMN added integer",)
    settings = LockSettings(lock_timeout_ms=20, wait_s=0.2)
    with pytest.raises(LockNotAvailable, match=f"session {reader.info.backend_pid}"):
        build(settings).transaction(add, tables=[Table("public", "parts")], lock=EXCLUSIVE)


def test_a_deadlock_is_tried_again(
    build: Build, opened: Open, connection: Connection, pool: ThreadPoolExecutor
) -> None:
    """The application holds other and waits for busy, which we hold while we want other: we are sacrificed."""
    connection.execute("CREATE TABLE other (id integer)")
    other = opened("LOCK TABLE public.other IN ACCESS EXCLUSIVE MODE; SET deadlock_timeout = '10s'")
    waiting: list[Future[None]] = []

    def read_busy_and_commit() -> None:
        other.execute("SELECT count(*) FROM public.busy")
        other.commit()

    def want_other(work: Connection, attempts: int) -> None:
        if attempts == 1:
            waiting.append(pool.submit(read_busy_and_commit))
            until(connection, WAITERS)
            work.execute("SET LOCAL lock_timeout = '9s'")
            work.execute("SET LOCAL deadlock_timeout = '10ms'")
            work.execute("LOCK TABLE public.other IN SHARE MODE")

    attempts = build(LockSettings()).transaction(ADD, tables=[BUSY], lock=EXCLUSIVE, within=want_other)
    assert attempts > 1
    waiting[0].result()
    assert "added" in columns(connection)


def test_work_that_takes_long_under_a_blocking_lock_is_stopped(
    build: Build, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("schema_change.core.execution.locks._WORK_MS", 50)
    slow = ("SELECT pg_sleep(5)",)
    with pytest.raises(ExecutionError, match=r"takes longer than 0.05 s while it blocks reads and writes"):
        build(LockSettings()).transaction(slow, tables=[BUSY], lock=EXCLUSIVE)
    long = ("SELECT pg_sleep(0.1)",)
    build(LockSettings()).transaction(long, tables=[BUSY], lock=LockMode.SHARE, long=True)


def test_a_cancel_request_is_not_tried_again(build: Build, connection: Connection, pool: ThreadPoolExecutor) -> None:
    slow = ("SELECT pg_sleep(20)",)
    change = pool.submit(build(LockSettings()).transaction, slow, tables=[BUSY], lock=EXCLUSIVE, long=True)
    sleeping = "FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(20)%' AND state = 'active'"
    until(connection, f"SELECT count(*) {sleeping}")
    connection.execute(f"SELECT pg_cancel_backend(pid) {sleeping}".encode())
    with pytest.raises(ExecutionError, match="SQLSTATE 57014"):
        change.result()


def test_a_concurrent_index_waits_for_its_blocker_and_says_for_whom(
    build: Build, opened: Open, connection: Connection, pool: ThreadPoolExecutor, notes: list[str]
) -> None:
    writer = opened("UPDATE public.busy SET n = 0 WHERE id = 1")
    index = ("CREATE INDEX CONCURRENTLY busy_n ON public.busy (n)",)
    change = pool.submit(build(LockSettings()).autocommit, index, tables=[BUSY], lock=LockMode.SHARE_UPDATE_EXCLUSIVE)
    for _ in range(300):
        if notes:
            break
        time.sleep(0.01)
    assert f"session {writer.info.backend_pid} (user postgres, reporting" in notes[0]
    connection.execute("UPDATE busy SET n = 2 WHERE id = 2")
    writer.commit()
    change.result()
    assert connection.execute("SELECT indisvalid FROM pg_index WHERE indexrelid = 'busy_n'::regclass").fetchone() == (
        True,
    )


def test_a_concurrent_index_gives_up_after_the_wait_and_names_the_blocker(
    build: Build, opened: Open, connection: Connection
) -> None:
    writer = opened("UPDATE public.busy SET n = 0 WHERE id = 1")
    executor = build(LockSettings(wait_s=0.3))
    mode = LockMode.SHARE_UPDATE_EXCLUSIVE
    with pytest.raises(LockNotAvailable, match=f"blocked by session {writer.info.backend_pid}"):
        executor.autocommit(["CREATE INDEX CONCURRENTLY busy_n ON public.busy (n)"], tables=[BUSY], lock=mode)
    writer.commit()
    executor.autocommit(
        ["DROP INDEX CONCURRENTLY public.busy_n", "CREATE INDEX CONCURRENTLY busy_n ON public.busy (n)"],
        tables=[BUSY],
        lock=mode,
    )
    executor.transaction(
        ["SELECT 1/(current_setting('lock_timeout') = '100ms')::integer"], tables=[], lock=LockMode.NONE
    )
    assert connection.execute("SELECT bool_and(indisvalid) FROM pg_index WHERE indrelid = 'busy'::regclass").fetchone()


def test_vacuum_full_is_attempted_briefly(build: Build, opened: Open, connection: Connection) -> None:
    reader = opened("SELECT count(*) FROM public.busy")
    executor = build(LockSettings(lock_timeout_ms=20, wait_s=0.2))
    with pytest.raises(LockNotAvailable, match=f"session {reader.info.backend_pid}"):
        executor.autocommit(["VACUUM FULL public.busy"], tables=[BUSY], lock=EXCLUSIVE)
    reader.commit()
    executor.autocommit(["VACUUM FULL public.busy"], tables=[BUSY], lock=EXCLUSIVE)
    with pytest.raises(ExecutionError, match="SQLSTATE 42P01"):
        executor.autocommit(["VACUUM public.missing"], tables=[BUSY], lock=LockMode.SHARE_UPDATE_EXCLUSIVE)


def test_an_open_transaction_is_refused(target: Target, connection: Connection) -> None:
    with target.connect("work") as work, target.connect("side") as side, work.transaction():
        executor = LockSafeExecutor(work, side, LockSettings())
        with pytest.raises(ExecutionError, match="inside a transaction"):
            executor.autocommit(["SELECT 1"], tables=[], lock=LockMode.NONE)


def test_a_lost_connection_may_be_tried_again(build: Build, connection: Connection, pool: ThreadPoolExecutor) -> None:
    slow = ("SELECT pg_sleep(21)",)
    change = pool.submit(build(LockSettings()).transaction, slow, tables=[BUSY], lock=EXCLUSIVE, long=True)
    sleeping = "FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(21)%' AND state = 'active'"
    until(connection, f"SELECT count(*) {sleeping}")
    connection.execute(f"SELECT pg_terminate_backend(pid) {sleeping}".encode())
    with pytest.raises(ExecutionError, match="connection to the database was lost") as info:
        change.result()
    assert info.value.retryable
    assert threading.active_count() < 10


@pytest.mark.usefixtures("build")
def test_who_waits_behind_the_first_statement_is_not_parked(
    target: Target, opened: Open, connection: Connection, pool: ThreadPoolExecutor, notes: list[str]
) -> None:
    """The next try would run the first one again, such as the build of an index."""
    with target.connect("work") as work, target.connect("side") as side:
        executor = LockSafeExecutor(work, side, LockSettings(), notes.append, parking=Parking(0))
        statements = ("SELECT pg_sleep(0.3)", "VACUUM FULL public.busy")
        change = pool.submit(executor.autocommit, statements, tables=[BUSY], lock=EXCLUSIVE)
        until(
            connection,
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND pid <> pg_backend_pid()",
        )
        reader = opened("SELECT count(*) FROM public.busy")
        while not notes:
            time.sleep(0.01)
        assert not change.done()
        reader.commit()
        change.result()
        opened("SELECT count(*) FROM public.busy")
        with pytest.raises(Parked):
            executor.autocommit(statements[1:], tables=[BUSY], lock=EXCLUSIVE)
