"""Checks of what a role may do, and of the tools and places a run needs."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from psycopg import sql
from upath import UPath

from schema_change.core import binaries
from schema_change.core.binaries import installations
from schema_change.core.database import Connection, Target
from schema_change.core.journal import registry
from schema_change.core.prechecks import CheckContext
from tests.integration.prechecks.conftest import PLAN, STEP, Ask, T, options

INDEX = replace(STEP, statements=("CREATE INDEX CONCURRENTLY t_v ON public.t (v)",))
_numbers = itertools.count(1)


@pytest.fixture
def role(connection: Connection) -> Iterator[str]:
    """A role of its own for each test, without any privilege."""
    name = f"precheck_{next(_numbers)}"
    identifier = sql.Identifier(name)
    connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(identifier))
    yield name
    connection.execute(sql.SQL("DROP OWNED BY {} CASCADE").format(identifier))
    connection.execute(sql.SQL("DROP ROLE {}").format(identifier))


@pytest.fixture
def as_role(target: Target, role: str) -> Iterator[Connection]:
    with Target("target", {**target.parameters, "user": role}).connect("test") as session:
        yield session


def test_superuser_passes(ask: Ask) -> None:
    assert ask("privileges").message == "postgres is a superuser"


def test_every_missing_privilege_is_named_and_its_remedy_works(
    ask: Ask, connection: Connection, as_role: Connection, role: str
) -> None:
    connection.execute("CREATE ROLE precheck_owner")
    connection.execute("ALTER TABLE t OWNER TO precheck_owner")
    try:
        plan = replace(PLAN, steps=(INDEX,))
        found = ask("privileges", connection=as_role, plan=plan)
        assert found.status == "fail"
        for problem in ("does not own public.t", "in schema public", "may not read public.t", "schema schema_change"):
            assert problem in found.message
        for remedy in found.remedy.split("; "):
            connection.execute(remedy)
        found = ask("privileges", connection=as_role, plan=plan)
        assert (found.status, f'GRANT pg_monitor TO "{role}"' in found.remedy) == ("warn", True)
        connection.execute(found.remedy)
        assert ask("privileges", connection=as_role, plan=plan).status == "pass"
    finally:
        connection.execute("DROP OWNED BY precheck_owner CASCADE")
        connection.execute("DROP ROLE precheck_owner")


def test_without_a_backup_other_tables_need_not_be_readable(
    ask: Ask, connection: Connection, as_role: Connection, role: str
) -> None:
    connection.execute("CREATE TABLE secret (a integer)")
    connection.execute(sql.SQL("ALTER TABLE t OWNER TO {}").format(sql.Identifier(role)))
    connection.execute(
        sql.SQL("GRANT CREATE ON DATABASE {} TO {}").format(
            sql.Identifier(connection.info.dbname), sql.Identifier(role)
        )
    )
    assert "may not read public.secret" in ask("privileges", connection=as_role).message
    assert ask("privileges", connection=as_role, options=options(skip_backup=True)).status == "warn"


def test_a_registry_of_another_role(ask: Ask, connection: Connection, as_role: Connection) -> None:
    registry.install(connection)
    assert "may not write schema_change" in ask("privileges", connection=as_role).message
    assert ask("ownership", connection=as_role).status == "unknown"


def test_row_security(ask: Ask, connection: Connection, as_role: Connection, role: str) -> None:
    connection.execute("ALTER TABLE t ENABLE ROW LEVEL SECURITY")
    assert ask("row_security").status == "pass"
    found = ask("row_security", connection=as_role)
    assert (found.status, "or as the owner" in found.remedy) == ("fail", True)
    connection.execute(sql.SQL("ALTER TABLE t OWNER TO {}").format(sql.Identifier(role)))
    assert ask("row_security", connection=as_role).status == "pass"
    connection.execute("ALTER TABLE t FORCE ROW LEVEL SECURITY")
    assert ask("row_security", connection=as_role).remedy == "connect as a role with BYPASSRLS"


def test_backup_client(ask: Ask, connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    major = connection.info.server_version // 10000
    assert ask("backup_client").message == f"pg_dump {major} for server {major}"
    assert ask("backup_client", options=options(skip_backup=True)).status == "skipped"
    others = tuple(i for i in installations() if i.major != major)
    monkeypatch.setattr(binaries, "installations", lambda: others)
    found = ask("backup_client")
    expected = "warn" if any(i.major > major for i in others) else "fail"
    assert (found.status, f"postgresql-client-{major}" in found.remedy) == (expected, True)


def test_storage(ask: Ask, context: CheckContext, tmp_path: Path) -> None:
    assert ask("storage").status == "pass"
    assert list(context.artifacts.iterdir()) == []
    (tmp_path / "file").touch()
    blocked = UPath(tmp_path / "file" / "below")
    assert ask("storage", artifacts=blocked).status == "fail"
    assert ask("storage", artifacts=blocked, options=options(dry_run=True)).status == "skipped"


def test_scratch_on_the_targets_own_server(ask: Ask, context: CheckContext, as_role: Connection) -> None:
    assert ask("scratch").status == "pass"
    assert ask("scratch", options=options(skip_backup=True)).status == "skipped"
    denied = ask("scratch", connection=as_role)
    assert (denied.status, "CREATEDB" in denied.remedy) == ("fail", True)
    huge = context.catalog.with_relation(replace(context.catalog.relations[T], bytes=3 << 30))
    found = ask("scratch", catalog=huge)
    assert found.status == "fail"
    assert found.message == "3.0 GB would be restored on the target's own server; the limit is 1.0 GB"


def test_scratch_elsewhere(ask: Ask, new_database: Callable[[], Target], role: str, context: CheckContext) -> None:
    elsewhere = new_database()
    huge = context.catalog.with_relation(replace(context.catalog.relations[T], bytes=3 << 30))
    assert ask("scratch", scratch=elsewhere, catalog=huge).status == "pass"
    limited = Target("limited", {**elsewhere.parameters, "user": role})
    assert ask("scratch", scratch=limited).status == "fail"
    nowhere = Target("nowhere", {**elsewhere.parameters, "port": "1"})
    found = ask("scratch", scratch=nowhere)
    assert (found.status, "cannot connect to nowhere" in found.message) == ("fail", True)
