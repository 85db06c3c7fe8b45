"""The application keeps writing while a change lands or is taken back; every write it was promised is there."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from schema_change.core.database import Connection, Target
from schema_change.core.errors import ChangeRolledBack, ValidationFailed
from tests.bench import Bench, Run

#: Values of rows by id: what the application calls its own.
State = dict[int, tuple[Decimal, str | None]]

CHANGE: dict[str, Any] = {
    "operations": [
        {
            "add_column": {
                "table": "readings",
                "column": {"name": "fahrenheit", "type": "numeric(6,2)"},
                "fill": "readings.celsius * 9 / 5 + 32",
            }
        },
        {"set_not_null": {"table": "readings", "column": "note", "nulls": {"fill": "'none'"}}},
        {"create_index": {"table": "readings", "columns": ["fahrenheit"]}},
    ],
}
NEVER = """
name: readings
table: public.readings
expectations:
  - {type: expect_column_min_to_be_between, kwargs: {column: celsius, min_value: 500}, meta: {check_id: never}}
"""


@dataclass
class Application:
    """Sessions that insert rows and update them, each its own rows, and remember what the server acknowledged."""

    target: Target
    workers: int = 3
    acknowledged: State = field(default_factory=dict)
    refused: list[psycopg.Error] = field(default_factory=list)
    writes: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        threads = [threading.Thread(target=self._work, args=(n,)) for n in range(self.workers)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()

    def _work(self, worker: int) -> None:
        mine: State = {}
        writes = 0
        with self.target.connect("application") as session:
            while not self._stop.wait(0.002):
                writes += 1
                celsius, note = Decimal(writes % 400), f"{worker}:{writes}"
                try:
                    if writes % 3:
                        # Every third of 5,000 rows, so that most are updated before, and some after, they are filled.
                        row = (writes * 37 % 1600) * self.workers + worker + 1
                        statement = b"UPDATE public.readings SET celsius = %s, note = %s WHERE id = %s RETURNING id"
                        cursor = session.execute(statement, [celsius, note, row])
                    else:
                        statement = (
                            b"INSERT INTO public.readings (station, celsius, note) VALUES ('n', %s, %s) RETURNING id"
                        )
                        cursor = session.execute(statement, [celsius, note])
                except psycopg.Error as error:
                    self.refused.append(error)
                else:
                    mine[cursor.fetchall()[0][0]] = (celsius, note)
        self.acknowledged |= mine
        self.writes += writes


def state(connection: Connection) -> State:
    rows = connection.execute("SELECT id, celsius, note FROM readings").fetchall()
    return {row[0]: (row[1], row[2]) for row in rows}


@pytest.fixture
def before(bench: Bench, connection: Connection) -> State:
    return state(connection)


def begin(bench: Bench, **document: Any) -> Run:
    """Bring a run to the point before migrate."""
    bench.write("001_load", {**CHANGE, **document})
    run = Run(bench.request("001_load", skip_rehearsal=True, batch_target_ms=10))
    assert run.try_stage("plan"), run.error
    run.approve()
    for stage in ("backup", "pre_check", "rehearse"):
        assert run.try_stage(stage), run.error
    return run


def test_a_rollback_loses_no_write(bench: Bench, connection: Connection, before: State) -> None:
    bench.expectations("never.yaml", NEVER)
    run = begin(bench, expectations="never.yaml")
    fingerprint = bench.state()["fingerprint"]
    application = Application(bench.target)
    with application.at_work():
        for stage in ("migrate", "backfill", "cutover"):
            assert run.try_stage(stage), run.error
        assert not run.try_stage("validate")
        run.finish()
    assert isinstance(run.error, ValidationFailed)
    assert isinstance(run.outcome_error, ChangeRolledBack), run.outcome_error
    assert application.refused == []
    assert len(application.acknowledged) > 50
    assert state(connection) == before | application.acknowledged
    assert bench.state()["fingerprint"] == fingerprint
    rows = connection.execute("SELECT result -> 'tables' FROM schema_change.stage WHERE stage = 'verify_rollback'")
    assert rows.fetchall() == [({"public.readings": "written by others"},)]
    # Taking back n remembered rows reads some n of them, not n times n.
    ((read,),) = connection.execute(
        "SELECT idx_tup_read FROM pg_stat_user_indexes WHERE indexrelname = 'filled_row_pkey'"
    ).fetchall()
    assert read < 100 * len(before)


def test_a_change_that_lands_loses_no_write(bench: Bench, connection: Connection, before: State) -> None:
    run = begin(bench)
    application = Application(bench.target)
    with application.at_work():
        for stage in ("migrate", "backfill", "cutover", "validate"):
            assert run.try_stage(stage), run.error
    in_step = "SELECT count(*) FROM readings WHERE fahrenheit IS DISTINCT FROM celsius * 9 / 5 + 32"
    assert connection.execute(in_step.encode()).fetchall() == [(0,)]
    late = Application(bench.target)
    with late.at_work():
        assert run.try_stage("contract"), run.error
        run.finish()
    assert run.outcome_error is None
    assert [*application.refused, *late.refused] == []
    filled = {row: (celsius, note or "none") for row, (celsius, note) in before.items()}
    assert state(connection) == filled | application.acknowledged | late.acknowledged
