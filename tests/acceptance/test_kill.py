"""Killed after any statement: a new try finishes, or reconcile rolls back, and nothing is left behind.

The victim is a forked process that kills itself right before its n-th statement on the target. Statements are
counted on every session, so the journal's own are kill points too.
"""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from demo.postgres import Server
from schema_change.core.database import Connection
from schema_change.core.stages.reconcile import reconcile
from schema_change.core.stages.request import Request
from schema_change.core.stages.runner import Runner
from tests.bench import FORWARD, Bench, Run

CHANGE: dict[str, Any] = {
    "operations": [
        {
            "add_column": {
                "table": "readings",
                "column": {"name": "fahrenheit", "type": "numeric(6,2)", "nullable": False},
                "fill": "readings.celsius * 9 / 5 + 32",
            }
        },
        {"create_index": {"table": "readings", "columns": ["fahrenheit"], "name": "by_fahrenheit"}},
        {"set_not_null": {"table": "readings", "column": "note", "nulls": {"fill": "'none'"}}},
    ]
}
BEFORE = FORWARD[: FORWARD.index("migrate")]
CHANGING = FORWARD[FORWARD.index("migrate") :]


def prepare(bench: Bench, change_id: str) -> Request:
    """Bring a run to the point before migrate."""
    request = bench.request(bench.write(change_id, CHANGE), skip_rehearsal=True, batch_target_ms=10)
    for stage in BEFORE:
        for approval in Runner(request).approvals() if stage != "plan" else ():
            Runner(request).record_approval(role=approval.role, user="somebody else")
        Runner(request).run(stage)
    return request


def die_at(number: int, request: Request, stages: tuple[str, ...]) -> bool:
    """Run stages in a fork that kills itself at its ``number``-th statement; return whether it got that far."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        return os.WIFSIGNALED(status)
    statements = count(1)
    execute = psycopg.Cursor.execute

    def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        if next(statements) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return execute(self, *args, **kwargs)

    psycopg.Cursor.execute = counted  # type: ignore[method-assign]
    try:
        for stage in stages:
            Runner(request, progress=lambda line: None).run(stage)
    finally:
        os._exit(0)


@pytest.fixture
def server(server_18: Server) -> Server:
    """One version is enough: what is tested is ours, not PostgreSQL's."""
    return server_18


@pytest.fixture
def prepared(bench: Bench, connection: Connection, server: Server) -> Iterator[Callable[[], Victim]]:
    """Copies of a database in which a run stands right before migrate."""
    before = bench.state()
    request = prepare(bench, "001_killed")
    connection.close()
    names: list[str] = []
    with server.target().connect("kill") as admin:

        def copy() -> Victim:
            name = f"{bench.target.database}_{len(names)}"
            admin.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
                    sql.Identifier(name), sql.Identifier(bench.target.database)
                )
            )
            names.append(name)
            return Victim(replace(request, target=server.target(name)), before)

        yield copy
        for name in names:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@dataclass(frozen=True)
class Victim:
    request: Request
    before: dict[str, Any]

    def rows(self, statement: str) -> list[Any]:
        with self.request.target.connect("look") as session:
            session.execute("SET search_path = public")
            return session.execute(statement.encode()).fetchall()

    def leftovers(self) -> list[Any]:
        return [
            self.rows("SELECT tgname FROM pg_trigger WHERE tgrelid = 'readings'::regclass"),
            self.rows("SELECT proname FROM pg_proc WHERE pronamespace = 'schema_change'::regnamespace"),
            self.rows("SELECT indexrelid FROM pg_index WHERE NOT indisvalid"),
            self.rows("SELECT table_name FROM schema_change.owner"),
            self.rows("SELECT conname FROM pg_constraint WHERE conname LIKE 'schema_change%notnull'"),
        ]

    def goes_on(self, number: int) -> None:
        """Run the stages that the journal does not call done, as retried and cleared tasks would."""
        run = Run(self.request)
        ended = {s for s, status in self.rows("SELECT stage, status FROM schema_change.stage") if status != "started"}
        for stage in CHANGING:
            if stage not in ended:
                assert run.try_stage(stage), (number, stage, run.error)
        assert self.rows("SELECT status FROM schema_change.run") == [("applied",)], number
        wrong = "SELECT count(*) FROM readings WHERE fahrenheit IS DISTINCT FROM celsius * 9 / 5 + 32"
        assert self.rows(wrong) == [(0,)], number
        assert self.rows("SELECT count(*), count(note) FROM readings") == [(5000, 5000)], number
        assert self.leftovers() == [[], [], [], [], []], number

    def is_reconciled(self, number: int) -> None:
        """Let reconcile end the run: undone, or finished when it was past the point of no return."""
        was = self.rows("SELECT status FROM schema_change.run")[0][0]
        reconcile(
            self.request.target,
            is_over=lambda run: True,
            build=lambda run: replace(self.request, change=None, run_id=run.run_id),
            progress=lambda line: None,
        )
        ((status,),) = self.rows("SELECT status FROM schema_change.run")
        if was in {"contracting", "applied"}:
            assert status == "applied", number
        else:
            assert status in {"rolled_back", "stopped"}, number
            assert Bench(self.request.target, Path()).state() == self.before, number
        assert self.leftovers() == [[], [], [], [], []], number


ENDINGS = pytest.mark.parametrize("ending", [Victim.goes_on, Victim.is_reconciled], ids=["goes_on", "is_reconciled"])
Ending = Callable[[Victim, int], None]


@ENDINGS
def test_killed_at_some_statements(prepared: Callable[[], Victim], ending: Ending) -> None:
    """A sample of the matrix that test-all runs in full."""
    for number in (2, 25, 40, 60, 80, 100):
        victim = prepared()
        assert die_at(number, victim.request, CHANGING)
        ending(victim, number)


@ENDINGS
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_at_every_statement(prepared: Callable[[], Victim], ending: Ending) -> None:
    """As many kills as the change sends statements."""
    for number in count(1):
        victim = prepared()
        if not die_at(number, victim.request, CHANGING):
            break
        ending(victim, number)
    assert number > 100
