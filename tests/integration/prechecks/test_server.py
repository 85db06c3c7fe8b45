"""Checks of the server, on a real one."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import replace

import pytest
from psycopg import sql

from schema_change.core.changes.spec import Window
from schema_change.core.database import Connection, Target
from schema_change.core.model import Backfill, Phase, Step
from schema_change.core.prechecks import CheckContext
from tests.integration.prechecks.conftest import ADD, PLAN, STEP, Ask, T, change

FILL = Step(Phase.BACKFILL, "fill t.extra", (T,), backfill=Backfill(T, "extra", "'x'", "extra IS NULL"))


def test_read_only_by_default_fails(ask: Ask, connection: Connection, target: Target) -> None:
    assert ask("writable").message == "primary, read-write"
    name = sql.Identifier(target.database)
    connection.execute(sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = on").format(name))
    with target.connect("test") as session:  # which sets the default back for itself
        found = ask("writable", connection=session)
    assert (found.status, "RESET" in found.remedy) == ("fail", True)


def test_version_and_pooler(ask: Ask, connection: Connection) -> None:
    found = ask("server_version")
    assert (found.status, found.message.startswith("PostgreSQL 1")) == ("pass", True)
    assert ask("pooler").status == "pass"


def test_extensions(ask: Ask, connection: Connection) -> None:
    needs = change(extensions=("pg_trgm",))
    found = ask("extensions", change=needs)
    assert (found.status, found.remedy) == ("fail", 'CREATE EXTENSION "pg_trgm"')
    creating = replace(STEP, statements=("CREATE EXTENSION IF NOT EXISTS pg_trgm", ADD))
    assert ask("extensions", change=needs, plan=replace(PLAN, steps=(creating,))).status == "pass"
    connection.execute(found.remedy)
    assert ask("extensions", change=needs).status == "pass"
    absent = ask("extensions", change=change(extensions=("no_such",)))
    assert (absent.status, "not available" in absent.message) == ("fail", True)


@pytest.fixture
def slot(connection: Connection) -> Iterator[str]:
    connection.execute("SELECT pg_create_physical_replication_slot('precheck_idle', true)")
    yield "precheck_idle"
    connection.execute("SELECT pg_drop_replication_slot('precheck_idle')")


def test_an_idle_slot_warns(ask: Ask, slot: str) -> None:
    found = ask("replication")
    assert found.status == "warn"
    assert f"slot {slot} is not read and holds back" in found.message


def test_disk_space_is_known_on_this_machine(ask: Ask, context: CheckContext) -> None:
    found = ask("disk_space")
    assert (found.status, "free, about" in found.message) == ("pass", True)
    relation = replace(context.catalog.relations[T], bytes=1 << 60)
    huge = context.catalog.with_relation(relation)
    plan = replace(PLAN, steps=(STEP, FILL))
    assert ask("disk_space", catalog=huge, plan=plan).status == "fail"


def test_window(ask: Ask) -> None:
    now = dt.datetime.now(dt.UTC)
    hour = dt.timedelta(hours=1)
    open_now = Window((now - hour).time(), (now + hour).time())
    closed = Window((now + hour).time(), (now + 2 * hour).time())
    assert ask("window").status == "skipped"
    assert ask("window", change=change(window=open_now)).status == "pass"
    assert ask("window", change=change(window=closed)).status == "warn"
    assert ask("window", change=change(window=replace(closed, outside="refuse"))).status == "fail"
