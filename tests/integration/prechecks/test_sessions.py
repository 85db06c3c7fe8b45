"""Other people's sessions, for real."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from schema_change.core.catalog.read import read_catalog
from schema_change.core.database import Connection, Target
from tests.integration.prechecks.conftest import Ask, options

NOW = options(long_transaction_s=0)
CHECKS = ("long_transactions", "idle_in_transaction", "blocking_chains", "prepared_transactions", "wraparound")


@pytest.fixture
def other(target: Target) -> Iterator[Connection]:
    with target.connect("somebody") as session:
        session.autocommit = False
        yield session
        session.rollback()


def test_pass_when_nobody_is_there(ask: Ask) -> None:
    for name in CHECKS:
        assert ask(name, options=NOW).status == "pass", name


def test_a_transaction_that_holds_our_table_fails(ask: Ask, other: Connection) -> None:
    other.execute("UPDATE public.t SET v = 'y' WHERE id = 1")
    for name in ("long_transactions", "idle_in_transaction"):
        found = ask(name, options=NOW)
        assert found.status == "fail", found
        assert f"session {other.info.backend_pid} of postgres (schema_change:somebody)" in found.message
        assert "holding public.t" in found.message
        assert f"pg_terminate_backend({other.info.backend_pid})" in found.remedy
    assert ask("long_transactions").status == "pass"
    assert ask("long_transactions", options=options(long_transaction_s=0, terminate_blockers=True)).status == "warn"


def test_a_transaction_elsewhere_warns(ask: Ask, other: Connection, connection: Connection) -> None:
    connection.execute("CREATE TABLE elsewhere (a integer)")
    other.execute("SELECT FROM public.elsewhere")
    for name in ("long_transactions", "idle_in_transaction"):
        found = ask(name, options=NOW)
        assert found.status == "warn", found
        assert "holding" not in found.message


def test_a_transaction_on_a_partition_counts(ask: Ask, other: Connection, connection: Connection) -> None:
    connection.execute("CREATE TABLE child () INHERITS (t)")
    other.execute("INSERT INTO public.child (id) VALUES (1)")
    assert "holding public.child" in ask("long_transactions", options=NOW).message


@pytest.mark.parametrize("statement", ["LOCK public.t", "UPDATE public.t SET v = 'z' WHERE id = 1"])
def test_blocking_chains(ask: Ask, other: Connection, target: Target, statement: str) -> None:
    with target.connect("reader") as reader:
        catalog = read_catalog(reader)
    other.execute("UPDATE public.t SET v = 'y' WHERE id = 1")
    with target.connect("waiter") as waiter:
        waiter.execute("SET lock_timeout = 0")

        def wait() -> None:
            with waiter.transaction():
                waiter.execute(statement)

        thread = threading.Thread(target=wait)
        thread.start()
        try:
            until(lambda: ask("blocking_chains", options=NOW, catalog=catalog).status == "fail")
            found = ask("blocking_chains", options=NOW, catalog=catalog)
            assert f"session {waiter.info.backend_pid} has waited" in found.message
            assert "on public.t" in found.message
            assert f"begins at {other.info.backend_pid}" in found.remedy
        finally:
            other.rollback()
            thread.join()


def until(condition: object, seconds: float = 5) -> None:
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_prepared_transactions(ask: Ask, other: Connection, connection: Connection) -> None:
    other.execute("UPDATE public.t SET v = 'y' WHERE id = 1")
    other.execute("PREPARE TRANSACTION 'for''gotten'")
    other.commit()
    try:
        found = ask("prepared_transactions", options=NOW)
        assert found.status == "fail"
        assert "holding public.t" in found.message
        assert found.remedy == "COMMIT PREPARED 'for''gotten' or ROLLBACK PREPARED 'for''gotten'"
        assert ask("prepared_transactions").status == "pass"
    finally:
        connection.execute("ROLLBACK PREPARED 'for''gotten'")


def test_prepared_elsewhere_warns(ask: Ask, other: Connection, connection: Connection) -> None:
    other.execute("SELECT pg_current_xact_id()")
    other.execute("PREPARE TRANSACTION 'elsewhere'")
    other.commit()
    try:
        assert ask("prepared_transactions", options=NOW).status == "warn"
    finally:
        connection.execute("ROLLBACK PREPARED 'elsewhere'")


def test_wraparound_is_announced(ask: Ask, connection: Connection) -> None:
    connection.execute("ALTER TABLE t SET (autovacuum_freeze_max_age = 100000, autovacuum_enabled = off)")
    connection.execute("CREATE TEMP TABLE burnt (a integer)")
    connection.execute(
        "DO $$ BEGIN FOR i IN 1..100100 LOOP BEGIN INSERT INTO burnt VALUES (1);"
        " EXCEPTION WHEN division_by_zero THEN NULL; END; END LOOP; END $$"
    )
    found = ask("wraparound")
    assert found.status == "warn"
    assert "public.t" in found.message
    assert "VACUUM (FREEZE) public.t" in found.remedy


def test_hidden_sessions_are_not_called_none(
    ask: Ask, other: Connection, target: Target, connection: Connection
) -> None:
    connection.execute(
        "DO $$ BEGIN CREATE ROLE precheck_blind LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$"
    )
    blind = Target("target", {**target.parameters, "user": "precheck_blind"})
    with blind.connect("test", read_only=True) as session:
        found = ask("long_transactions", connection=session)
    assert found.status == "unknown"
    assert "hidden from this role" in found.message
