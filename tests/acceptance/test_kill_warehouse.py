"""A change of the warehouse killed before any statement: a new try finishes, or reconcile rolls back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql

from demo.postgres import Server
from schema_change.core.names import Table
from schema_change.core.stages.reconcile import reconcile
from schema_change.core.stages.request import Request
from schema_change.core.stages.runner import Runner
from tests.acceptance.test_kill import BEFORE, CHANGING, die_at, server
from tests.bench import Bench, Run
from tests.integration.warehouse.test_change import ADD, YEARS
from tests.integration.warehouse.warehouse import FIRST, TEMPLATE, TENANTS, TODAY, Warehouse, empty, sources, warehouse

__all__ = ["empty", "server", "sources", "warehouse"]

_DAYS = (TODAY - FIRST).days + 1
_YEARS = [Table(schema, f"{TEMPLATE}_{year}") for schema in TENANTS.values() for year in YEARS]


@dataclass(frozen=True)
class Victim:
    """A copy of a warehouse in which a run stands right before migrate."""

    request: Request
    before: dict[str, Any]

    def one(self, statement: str) -> Any:
        with self.request.target.connect("look") as session:
            row = session.execute(statement.encode()).fetchone()
            return row[0] if row else None

    def leftovers(self) -> list[Any]:
        return [
            self.one("SELECT array_agg(nspname) FROM pg_namespace WHERE nspname ~ '^_wh_'"),
            self.one("SELECT array_agg(template_name) FROM _wh.changes"),
            self.one("SELECT count(*) FROM _wh.change_work"),
            self.one("SELECT array_agg(table_name) FROM schema_change.owner"),
        ]

    def goes_on(self, number: int) -> None:
        run = Run(self.request)
        with self.request.target.connect("look") as session:
            stages = session.execute("SELECT stage, status FROM schema_change.stage").fetchall()
        ended = {stage for stage, status in stages if status != "started"}
        for stage in CHANGING:
            if stage not in ended:
                assert run.try_stage(stage), (number, stage, run.error)
        assert self.one("SELECT status FROM schema_change.run") == "applied", number
        counts = f"SELECT waste_category AS c, count(*) AS n FROM public.{TEMPLATE} GROUP BY 1"
        values = f"SELECT jsonb_object_agg(c, n) FROM ({counts}) AS x"
        assert self.one(values) == {"UNKNOWN": 8, "peel": 4 * _DAYS, "rest": 6 * _DAYS}, number
        assert self.one(f"SELECT count(*) FROM _wh.parts_of('{TEMPLATE}')") == 2 * _DAYS + 4, number
        assert self.leftovers() == [None, None, 0, None], number

    def _reconciled(self) -> bool:
        """Let reconcile end the run; return whether it is over."""
        reconcile(
            self.request.target,
            is_over=lambda run: True,
            build=lambda run: replace(self.request, change=None, run_id=run.run_id),
            progress=lambda line: None,
        )
        return bool(self.one("SELECT status FROM schema_change.run") in {"applied", "rolled_back", "stopped"})

    def is_reconciled(self, number: int) -> None:
        was = self.one("SELECT status FROM schema_change.run")
        # What the killed session was at goes on in the server for a moment; its lock is not free then.
        deadline = time.monotonic() + 20
        while not self._reconciled() and time.monotonic() < deadline:
            time.sleep(0.2)
        status = self.one("SELECT status FROM schema_change.run")
        if was in {"contracting", "applied"}:
            assert status == "applied", number
        else:
            assert status in {"rolled_back", "stopped"}, number
            assert Bench(self.request.target, Path()).state(*_YEARS) == self.before, number
        assert self.leftovers() == [None, None, 0, None], number


@pytest.fixture
def prepared(warehouse: Warehouse, tmp_path: Path, server: Server) -> Iterator[Callable[[], Victim]]:
    bench = Bench(server.target(warehouse.one("SELECT current_database()")), tmp_path)
    before = bench.state(*_YEARS)
    change = bench.write("001_killed", {"operations": [{"warehouse_add_column": ADD}]})
    request = bench.request(change, skip_rehearsal=True)
    for stage in BEFORE:
        for approval in Runner(request).approvals() if stage != "plan" else ():
            Runner(request).record_approval(role=approval.role, user="somebody else")
        Runner(request).run(stage)
    warehouse.session.close()
    names: list[str] = []
    with server.target().connect("kill") as admin:

        def copy() -> Victim:
            name = f"{bench.target.database}_{len(names)}"
            words = sql.Identifier(name), sql.Identifier(bench.target.database)
            admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(*words))
            names.append(name)
            return Victim(replace(request, target=server.target(name)), before)

        yield copy
        for name in names:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


ENDINGS = pytest.mark.parametrize("ending", [Victim.goes_on, Victim.is_reconciled], ids=["goes_on", "is_reconciled"])


@ENDINGS
def test_killed_at_some_statements(prepared: Callable[[], Victim], ending: Callable[[Victim, int], None]) -> None:
    """A sample of what test-all runs in full."""
    for number in (20, 70, 110, 150, 190, 230):
        victim = prepared()
        assert die_at(number, victim.request, CHANGING), number
        ending(victim, number)


@ENDINGS
@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_killed_at_every_third_statement(prepared: Callable[[], Victim], ending: Callable[[Victim, int], None]) -> None:
    """Every third of as many kills as the change sends statements."""
    for number in count(1, 3):
        victim = prepared()
        if not die_at(number, victim.request, CHANGING):
            break
        ending(victim, number)
    assert number > 200
