"""A table, a plan that touches it, and a way to ask one check."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from upath import UPath

from schema_change.core.catalog.read import read_catalog
from schema_change.core.changes.spec import Change
from schema_change.core.database import Connection, Target
from schema_change.core.model import LockMode, Phase, Plan, Step
from schema_change.core.names import Table
from schema_change.core.prechecks import CHECKS, CheckContext, CheckResult, run_checks
from schema_change.core.stages.request import Options

T = Table("public", "t")
ADD = "ALTER TABLE public.t ADD COLUMN extra text"
STEP = Step(Phase.EXPAND, "add t.extra", (T,), (ADD,), LockMode.ACCESS_EXCLUSIVE)
PLAN = Plan(steps=(STEP,), written=(T,), scope=(T,))


def change(**fields: Any) -> Change:
    version = fields.pop("version", "20240208143002")
    return Change(
        version=version,
        name="add_extra",
        folder=Path("/nowhere") / f"{version}_add_extra",
        description="",
        conn_id="target",
        operations=(),
        **{"checksum": f"sum-{version}", **fields},
    )


def options(**fields: Any) -> Options:
    return Options().model_copy(update=fields)  # not validated: the tests look at transactions of no age


def make_role(connection: Connection, name: str) -> None:
    """Create a role that may only log in, unless an earlier test did; roles belong to the server."""
    create = sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(name))
    with contextlib.suppress(psycopg.errors.DuplicateObject):
        connection.execute(create)


@pytest.fixture
def side(target: Target, connection: Connection) -> Iterator[Connection]:
    connection.execute("CREATE TABLE t (id integer PRIMARY KEY, v text)")
    connection.execute("INSERT INTO t SELECT g, 'x' FROM generate_series(1, 100) AS g")
    with target.connect("test-side", read_only=True) as session:
        yield session


@pytest.fixture
def context(target: Target, side: Connection, tmp_path: Path) -> CheckContext:
    return CheckContext(
        connection=side,
        target=target,
        plan=PLAN,
        catalog=read_catalog(side),
        change=change(),
        options=options(),
        artifacts=UPath(tmp_path / "artifacts"),
        scratch=None,
        run_id=uuid.uuid4(),
    )


Ask = Callable[..., CheckResult]


@pytest.fixture
def ask(context: CheckContext) -> Ask:
    """Ask one check by name, with a fresh catalog and whatever else is given for the context."""

    def ask(name: str, **fields: Any) -> CheckResult:
        asked = replace(context, **fields)
        asked = replace(asked, catalog=fields.get("catalog") or read_catalog(asked.connection))
        assert name in {c.name for c in CHECKS}
        return next(r for r in run_checks(asked) if r.name == name)

    return ask
