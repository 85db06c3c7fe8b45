"""A database with the registry, and runs in its journal."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID, uuid4

import pytest
from psycopg.types.json import Jsonb

from schema_change.core.database import Connection
from schema_change.core.journal import registry
from schema_change.core.journal.journal import Journal
from schema_change.core.model import LockMode, Phase, Plan, Step
from schema_change.core.names import Table

READINGS = Table("public", "readings")
STEP = Step(Phase.EXPAND, "add a column", (READINGS,), ("SELECT 1",), LockMode.ACCESS_EXCLUSIVE)
PLAN = Plan(steps=(STEP,), written=(READINGS,), scope=(READINGS,), fingerprint="f")
NewRun = Callable[..., Journal]


@pytest.fixture
def installed(connection: Connection) -> Connection:
    registry.install(connection)
    return connection


def plan_run(journal: Journal, plan: Plan = PLAN, version: str = "001", name: str = "first") -> None:
    """Record a plan as the stage does."""
    journal.record_plan(
        plan,
        change_version=version,
        change_name=name,
        description="a test",
        checksum="c",
        parent_checksum=None,
        checksum_algorithm="1",
        files_sha256="s",
        conn_id="target",
        requested_by="tester",
        requested_from="dag run 1",
        options=Jsonb({}),
        change=Jsonb({}),
        catalog_before=Jsonb({}),
    )


@pytest.fixture
def new_run(installed: Connection) -> NewRun:
    """A function that plans one more run."""

    def create(version: str = "001", name: str = "first", run_id: UUID | None = None) -> Journal:
        journal = Journal(installed, run_id or uuid4(), "tester")
        plan_run(journal, version=version, name=name)
        return journal

    return create
