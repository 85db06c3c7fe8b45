"""The table that B1, B2 and B6 fill, copied afresh for every contender, and our own fill of it as a run does it.

It is like the tables of the written runbooks: an integer key, texts, numbers, a time, one more index, about 150 bytes a
row, no room left in its pages. Autovacuum is off on it, for everybody: it would come at random. It is made once, with
its indexes and our registry, in a database that is copied file by file for each contender; the copy is then on disk,
and the table in the server's cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock
from uuid import UUID, uuid4

from psycopg.types.json import Jsonb

from benchmarks.bench import Bench
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

_TABLE = b"""
CREATE TABLE orders WITH (autovacuum_enabled = false) AS
SELECT
    i::bigint AS id, md5(i::text) AS customer, (i %% 1000)::integer AS region, round(i %% 100000 / 7.0, 2) AS amount,
    timestamptz '2024-01-01' + i * interval '1 second' AS created_at, repeat('x', 40 + i %% 40) AS note
FROM generate_series(1, %s) AS i
"""
_READY = (
    b"ALTER TABLE orders ADD PRIMARY KEY (id)",
    b"CREATE INDEX ON orders (created_at)",
    b"VACUUM (ANALYZE) orders",
)
_READ_ALL = b"SELECT sum(region) FROM orders"
_RESULT = f"""
SELECT count(*), count(*) FILTER (WHERE gross = {EXPRESSION}), sum(id), sum(hashtext(customer || note)::bigint),
    sum(region + amount), max(created_at)
FROM orders
"""


class Filling:
    """A fresh copy of the table, its database, and a session on it such as people have."""

    def __init__(self, bench: Bench, rows: int) -> None:
        self.rows = rows
        self._bench = bench
        self.copy()
        self.sizes = {
            "rows": rows,
            "bytes": self.one("SELECT pg_table_size('orders')"),
            "index_bytes": self.one("SELECT pg_indexes_size('orders')"),
        }

    def copy(self) -> None:
        """Make the table anew, with nothing left to write to disk."""
        self.target = self._bench.database("filling", template="prepared")
        self._bench.checkpoint()
        self.session = _session(self.target)
        self.session.execute(_READ_ALL)

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
def prepared(bench: Bench, rows: int) -> Iterator[Filling]:
    """Make the table and our registry in the database that is copied; yield a first copy."""
    with _session(bench.database("prepared")) as session:
        session.execute(_TABLE, [rows])
        for statement in _READY:
            session.execute(statement)
        registry.install(session)
    filling = Filling(bench, rows)
    try:
        yield filling
    finally:
        filling.session.close()


def _session(target: Target) -> Connection:
    session = target.connect("bench")
    session.execute("SET search_path = public")
    session.execute("SET lock_timeout = 0")
    return session
