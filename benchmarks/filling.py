"""The table that B1 and B6 fill, copied afresh for every contender, and our own fill of it as a run does it.

It is like the tables of the written runbooks: an integer key, texts, numbers, a time, one more index, about 150 bytes a
row, no room left in its pages. Autovacuum is off on the copies, for everybody: it would come at random.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock
from uuid import UUID, uuid4

from psycopg.types.json import Jsonb

from schema_change.core.backfill import engine
from schema_change.core.backfill.pace import Meter, Progress
from schema_change.core.catalog.read import read_catalog
from schema_change.core.database import Connection, Target
from schema_change.core.journal import registry
from schema_change.core.journal.journal import Journal
from schema_change.core.model import Plan, Step
from schema_change.core.operations.add_column import AddColumn
from schema_change.core.operations.base import PlanContext

#: What every contender computes; never NULL, so that the runbooks' loop comes to an end.
EXPRESSION = "round(amount * 1.19, 2)"

_TEMPLATE = b"""
CREATE TABLE template AS
SELECT
    i::bigint AS id, md5(i::text) AS customer, (i %% 1000)::integer AS region, round(i %% 100000 / 7.0, 2) AS amount,
    timestamptz '2024-01-01' + i * interval '1 second' AS created_at, repeat('x', 40 + i %% 40) AS note
FROM generate_series(1, %s) AS i
"""
_COPY = (
    b"DROP TABLE IF EXISTS orders",
    b"CREATE TABLE orders WITH (autovacuum_enabled = false) AS SELECT * FROM template",
    b"ALTER TABLE orders ADD PRIMARY KEY (id)",
    b"CREATE INDEX ON orders (created_at)",
    b"VACUUM (ANALYZE) orders",
    b"CHECKPOINT",
)
_RESULT = f"""
SELECT count(*), count(*) FILTER (WHERE gross = {EXPRESSION}), sum(id), sum(hashtext(customer || note)::bigint),
    sum(region + amount), max(created_at)
FROM orders
"""


@dataclass(frozen=True)
class Filling:
    """A database with the template, our registry, and a session such as people have."""

    target: Target
    session: Connection
    rows: int

    def copy(self) -> None:
        """Make the table anew, as the template is, with nothing left to write to disk."""
        for statement in _COPY:
            self.session.execute(statement)

    def add_column(self) -> None:
        """Add the column as a person would; ours adds its own."""
        self.session.execute("ALTER TABLE orders ADD COLUMN gross numeric(12,2)")

    def one(self, query: str) -> Any:
        """Return the first value of a query."""
        row = self.session.execute(query.encode()).fetchone()
        assert row is not None
        return row[0]

    def result(self) -> tuple[Any, ...]:
        """Return a checksum of every column, and how many rows are filled rightly: all of them, or this fails."""
        row = self.session.execute(_RESULT.encode()).fetchone()
        assert row is not None
        assert row[:2] == (self.rows, self.rows), f"{row[1]} of {row[0]} rows are filled rightly, not {self.rows}"
        return row

    def planned(self) -> Run:
        """Plan an ``add_column`` with a fill, and run the steps before its backfill, trigger included."""
        operation = AddColumn.model_validate(
            {"table": "public.orders", "column": {"name": "gross", "type": "numeric(12,2)"}, "fill": EXPRESSION}
        )
        steps = operation.plan(read_catalog(self.session), PlanContext("1")).steps
        (seq,) = (number for number, step in enumerate(steps, 1) if step.backfill)
        run_id = uuid4()
        names = ("change_version", "change_name", "description", "checksum", "parent_checksum", "checksum_algorithm")
        columns = dict.fromkeys((*names, "files_sha256", "conn_id", "requested_by", "requested_from"), "bench")
        json = dict.fromkeys(("options", "change", "catalog_before"), Jsonb({}))
        Journal(self.session, run_id).record_plan(Plan(steps=steps), **columns, **json)
        for step in steps[: seq - 1]:
            for statement in step.statements:
                self.session.execute(statement.encode())
        return Run(run_id, seq, steps[seq - 1])


@dataclass(frozen=True)
class Run:
    """One run at its backfill."""

    run_id: UUID
    seq: int
    step: Step

    def fill(
        self,
        target: Target,
        on_progress: Callable[[Progress], None] = lambda _: None,
        settings: engine.BackfillSettings | None = None,
    ) -> list[float]:
        """Fill, from the checkpoint on, and record that the step is done; return the seconds of each batch."""
        seconds: list[float] = []

        class Recorder(Meter):
            def batch(self, rows: int, took: float) -> None:
                seconds.append(took)
                super().batch(rows, took)

        assert self.step.backfill is not None
        with (
            target.connect("work") as work,
            target.connect("side") as side,
            mock.patch.object(engine, "Meter", Recorder),
        ):
            rows = engine.run_backfill(
                work,
                side,
                run_id=self.run_id,
                seq=self.seq,
                backfill=self.step.backfill,
                settings=settings,
                on_progress=on_progress,
            )
            Journal(work, self.run_id).set_step(self.seq, "done", rows=rows)
        return seconds


@contextmanager
def prepared(target: Target, rows: int) -> Iterator[Filling]:
    """Create the template in a database, and our registry."""
    with target.connect("bench") as session:
        session.execute("SET search_path = public")
        session.execute("SET lock_timeout = 0")
        session.execute(_TEMPLATE, [rows])
        registry.install(session)
        yield Filling(target, session, rows)
