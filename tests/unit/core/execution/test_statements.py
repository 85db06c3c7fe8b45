from __future__ import annotations

import psycopg
import pytest
from psycopg import errors

from schema_change.core.execution.blockers import Blocker, describe
from schema_change.core.execution.statements import Clock, first_line, statement_failed


@pytest.mark.parametrize(
    ("statement", "line"),
    [
        ("SELECT 1", "SELECT 1"),
        ("\n  -- why\n\n  ALTER TABLE t\n  ADD c int", "ALTER TABLE t"),
        ("x" * 200, "x" * 119 + "…"),
        ("-- nothing else", "-- nothing else"),
    ],
)
def test_first_line(statement: str, line: str) -> None:
    assert first_line(statement) == line


def test_our_own_time_out_is_told_from_a_cancel_request() -> None:
    clock = Clock()
    clock.start("SELECT 1", bound_ms=60_000)
    assert not clock.ran_out(errors.QueryCanceled())
    clock.start("SELECT 1", bound_ms=0)
    assert not clock.ran_out(errors.QueryCanceled())
    clock._started -= 100
    clock._bound_ms = 60_000
    assert clock.ran_out(errors.QueryCanceled())
    assert not clock.ran_out(errors.SyntaxError())


def test_a_lost_connection_is_retryable_and_an_error_is_not() -> None:
    assert statement_failed("SELECT 1", psycopg.OperationalError("server closed the connection")).retryable
    assert statement_failed("SELECT 1", errors.AdminShutdown("terminating connection")).retryable
    failed = statement_failed("SELEC 1", errors.SyntaxError("syntax error"))
    assert not failed.retryable
    assert failed.message == "SELEC 1: syntax error (SQLSTATE 42601)"


def test_blockers_are_named_with_what_to_do() -> None:
    session = Blocker(7, "ann", "psql", "active", 1.25, None, "session", "1/2")
    prepared = Blocker(None, "bob", None, None, 60.0, "gid", "session", "0/3")
    vacuum = Blocker(9, None, "", None, None, None, "wraparound", "2/2")
    assert describe([session, prepared, vacuum]) == (
        "session 7 (user ann, psql, active, transaction open for 1.2 s); "
        "prepared transaction 'gid' (user bob, transaction open for 60.0 s); "
        "autovacuum to prevent wraparound, pid 9"
    )
    assert "pg_terminate_backend(7)" in session.remedy
    assert "ROLLBACK PREPARED 'gid'" in prepared.remedy
    assert "pg_terminate_backend" not in vacuum.remedy
    assert describe([]) == "nobody who could be named"
