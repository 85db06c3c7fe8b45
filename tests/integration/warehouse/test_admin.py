"""A warehouse whose administrator is a member of wh_admin and no superuser, from its first connection to a rollback."""

from __future__ import annotations

import datetime as dt
import itertools
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import psycopg
import pytest

from demo.postgres import Server
from schema_change.cli.main import main
from schema_change.core.database import Target
from schema_change.core.errors import ConfigurationError, PreCheckFailed
from schema_change.core.names import Table
from tests.bench import Bench, Run
from tests.integration.warehouse.conftest import change_of
from tests.integration.warehouse.test_change import ADD, DAYS, OLD, YEARS, columns, landed, nothing_is_left
from tests.integration.warehouse.test_toolkit import test_the_runbooks_script_as_it_is_typed as type_the_runbooks_script
from tests.integration.warehouse.warehouse import (
    TEMPLATE,
    TENANTS,
    TODAY,
    Warehouse,
    install_with_a_stopped_clock,
)

ADMIN, OTHER_ADMIN, REPORT, SOURCE, ANALYST = "whadmin", "whadmin2", "whreport", "whsource", "whanalyst"
ROLES = {
    ADMIN: "IN ROLE wh_admin",
    OTHER_ADMIN: "IN ROLE wh_admin",
    REPORT: "IN ROLE wh_read",
    # What the tenants' databases know the warehouse as.
    SOURCE: "PASSWORD 's3cret' IN ROLE pg_read_all_data",
    ANALYST: "",
}
MODIFY = {"template": TEMPLATE, "column": "weight", "type": "double precision"}
REMOVE = {"template": TEMPLATE, "column": "store"}


def as_role(target: Target, role: str) -> Target:
    return replace(target, parameters={**target.parameters, "user": role})


@pytest.fixture
def roles(target: Target, server: Server) -> None:
    """Log-in roles; one has to give its password, without which PostgreSQL lets dblink in for superusers only."""
    with target.connect("superuser") as session:
        session.execute("SET search_path = public")
        install_with_a_stopped_clock(session)
        known = {name for (name,) in session.execute("SELECT rolname FROM pg_roles").fetchall()}
        for name, more in ROLES.items():
            if name not in known:
                session.execute(f"CREATE ROLE {name} LOGIN {more}".encode())
        rules = server.data / "pg_hba.conf"
        rule = f"host all {SOURCE} 127.0.0.1/32 scram-sha-256\n"
        if rule not in (text := rules.read_text(encoding="utf-8")):
            rules.write_text(rule + text, encoding="utf-8")
        session.execute("SELECT pg_reload_conf()")
    for _ in itertools.count():
        try:
            as_role(target, SOURCE).connect("without a password").close()
        except ConfigurationError:
            return


@dataclass(frozen=True)
class Managed(Warehouse):
    """A warehouse with its administrator's session, and what a run of it needs."""

    bench: Bench
    scratch: Target | None

    def run(self, kind: str, body: dict[str, Any], *, stop_before: str | None = None, **options: Any) -> Run:
        """Run a change as the administrator; copies are made by the superuser of a scratch server."""
        change = change_of(self.bench, scratch=self.scratch)
        return change(f"warehouse_{kind}_column", body, stop_before=stop_before, **options)


@pytest.fixture
def managed(roles: None, target: Target, sources: dict[str, Target], bench: Bench, server: Server) -> Iterator[Managed]:
    """What the administrator makes of an installed toolkit: connections, finished years by hand, days and views."""
    bench.target = as_role(target, ADMIN)
    with bench.target.connect("admin") as session:
        session.execute("SET search_path = public")
        managed = Managed(session, sources, bench, server.target())
        managed.describe(SOURCE)
        for schema in TENANTS.values():
            session.execute(f"CREATE SCHEMA {schema}".encode())
            for year in YEARS:
                managed.year_table(schema, year)
        managed.build()
        yield managed


def owners(managed: Managed) -> set[str]:
    """Return who owns the warehouse's views, tables, matviews and servers, and what is made beside them."""
    found = managed.session.execute(
        "SELECT pg_get_userbyid(c.relowner) FROM pg_class AS c WHERE c.relkind IN ('r', 'v', 'm')"
        " AND c.relnamespace::regnamespace::text IN ('landb', 'bistro', 'public')"
        " UNION SELECT pg_get_userbyid(s.srvowner) FROM pg_foreign_server AS s"
    ).fetchall()
    return {name for (name,) in found}


def where(target: Target, role: str) -> list[str]:
    p = target.parameters
    return ["--target", f"postgresql://{role}@{p['host']}:{p['port']}/{p['dbname']}"]


def test_the_runbooks_script(managed: Managed) -> None:
    type_the_runbooks_script(managed)
    assert owners(managed) == {"wh_admin"}
    assert managed.one("SELECT array_agg(DISTINCT usename::text) FROM pg_user_mappings") == ["wh_admin"]
    assert managed.one("SELECT array_agg(DISTINCT actor) FROM _wh.log") == [ADMIN]


def test_the_daily_work_and_an_emergency(managed: Managed, target: Target) -> None:
    first, last = dt.date(TODAY.year, 4, 1), dt.date(TODAY.year, 4, 30)
    for tenant, schema in TENANTS.items():
        window = "SELECT _wh.update_mv_window_by_template(%s, %s, %s, %s::date, %s::date)"
        assert managed.one(window, TEMPLATE, tenant, schema, first, last)["error_count"] == 0
    with managed.sources["landb"].connect("test") as source:
        source.execute("INSERT INTO public.foodlog VALUES (2000001, 1, 1.5, %s, 'peel')", [TODAY])
    # Who becomes a member later needs no more than that.
    for role in (ADMIN, OTHER_ADMIN):
        for command in (
            ["check"],
            ["refresh", "--days", "2"],
            ["fold", "--month", f"{first:%Y-%m}"],
            ["emergency", "--template", TEMPLATE, "--only-years"],
            ["emergency", "--template", TEMPLATE, "--schema", "landb"],
            ["normal", "--template", TEMPLATE],
        ):
            assert main(["warehouse", *command, *where(target, role)]) == 0, (role, command)
    assert managed.one(f"SELECT count(*) FROM public.{TEMPLATE} WHERE id = 2000001") == 1
    assert managed.one("SELECT count(*) FROM _wh.parts_of(%s) WHERE is_table", TEMPLATE) == 2 * (2 + 1)
    assert owners(managed) == {"wh_admin"}


@pytest.mark.parametrize("strategy", ["build_beside", pytest.param("rebuild_in_place", marks=pytest.mark.slow)])
def test_columns_are_added_modified_and_removed(managed: Managed, strategy: str) -> None:
    landed(managed.run("add", {**ADD, "strategy": strategy, "index": True}))
    found = managed.session.execute(
        f"SELECT waste_category, count(*) FROM public.{TEMPLATE} GROUP BY 1 ORDER BY 1".encode()
    ).fetchall()
    assert found == [("UNKNOWN", 8), ("peel", 4 * DAYS), ("rest", 6 * DAYS)]
    for kind, body in (("modify", MODIFY), ("remove", REMOVE)):
        landed(managed.run(kind, {**body, "strategy": strategy}, skip_backup=True))
    assert columns(managed, f"public.{TEMPLATE}") == ["id", "weight", "logged_time", "waste_category", "schema_name"]
    assert owners(managed) == {"wh_admin"}
    with as_role(managed.bench.target, REPORT).connect("report") as report:
        assert report.execute(f"SELECT count(*) FROM public.{TEMPLATE}".encode()).fetchall() == [(8 + 10 * DAYS,)]
    nothing_is_left(managed)


@pytest.mark.parametrize("strategy", ["build_beside", "rebuild_in_place"])
def test_rollback_gives_everything_back(managed: Managed, strategy: str) -> None:
    tables = [Table(schema, f"{TEMPLATE}_{year}") for schema in TENANTS.values() for year in YEARS]
    state = managed.bench.state(*tables)
    run = managed.run("add", {**ADD, "strategy": strategy}, stop_before="contract", skip_backup=True)
    assert run.error is None, run.error
    assert "waste_category" in columns(managed, f"public.{TEMPLATE}")
    run.finish()
    assert managed.bench.state(*tables) == state
    assert columns(managed, f"public.{TEMPLATE}") == OLD
    nothing_is_left(managed)


def test_a_view_of_somebody_else_needs_that_role(managed: Managed, target: Target) -> None:
    with target.connect("superuser") as session:
        session.execute(f"CREATE SCHEMA bi AUTHORIZATION {ANALYST}".encode())
        session.execute(f"GRANT wh_read TO {ANALYST}".encode())
    with as_role(target, ANALYST).connect("analyst") as session:
        session.execute(f"CREATE VIEW bi.stores AS SELECT store FROM public.{TEMPLATE}".encode())
    run = managed.run("add", ADD, skip_backup=True)
    assert isinstance(run.error, PreCheckFailed)
    assert f"such as bi.stores, belong to {ANALYST}" in run.error.message
    assert f'GRANT "{ANALYST}" TO wh_admin' in str(run.error.hint)
    shutil.rmtree(managed.bench.folder / "changes" / "001_change")
    with target.connect("superuser") as session:
        session.execute(f"GRANT {ANALYST} TO wh_admin".encode())
        try:
            landed(managed.run("add", ADD, skip_backup=True))
        finally:
            session.execute(f"REVOKE {ANALYST} FROM wh_admin".encode())
    owner = "SELECT pg_get_userbyid(relowner)::text FROM pg_class WHERE relname = 'stores'"
    assert managed.one(owner) == ANALYST
    # Home of the view is not the warehouse's.
    with target.connect("superuser") as session:
        assert session.execute("SELECT has_schema_privilege('wh_read', 'bi', 'USAGE')").fetchone() == (False,)


def test_without_a_scratch_server_the_copy_could_not_be_made(managed: Managed) -> None:
    managed = replace(managed, scratch=None)
    run = managed.run("add", ADD)
    assert isinstance(run.error, PreCheckFailed)
    assert f"{ADMIN} may not install dblink in the scratch copy" in run.error.message
    assert "backup" not in run.results


def test_who_reads_sees_the_views_and_no_password(managed: Managed, target: Target) -> None:
    seen = "SELECT count(*) FROM pg_user_mappings WHERE umoptions IS NOT NULL"
    for role in (REPORT, ADMIN):
        with as_role(target, role).connect("look") as session:
            for view in (f"public.{TEMPLATE}", f"landb.{TEMPLATE}", f"landb.{TEMPLATE}_{TODAY:%Y_%m_%d}"):
                [(count,)] = session.execute(f"SELECT count(*) FROM {view}".encode()).fetchall()
                assert count > 0
            assert session.execute(seen).fetchall() == [(0,)]
            with pytest.raises(psycopg.Error, match=r"permission denied|user mapping not found"):
                session.execute("SELECT * FROM public.dblink('wh_landb-prod', 'SELECT 1') AS s (one integer)")
    with as_role(target, REPORT).connect("look") as session:
        for query in ("SELECT FROM _wh.tenant_connections", "SELECT _wh.check_connection('landb-prod')"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                session.execute(query.encode())


def test_an_administrator_may_not_change_what_a_superuser_calls(managed: Managed) -> None:
    for statement in (
        "CREATE FUNCTION _wh.current_date_utc() RETURNS date LANGUAGE sql AS 'SELECT NULL::date'",
        "DROP FUNCTION _wh.log_info",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            managed.session.execute(statement.encode())


def test_a_superuser_works_for_the_administrators(managed: Managed, target: Target) -> None:
    """In a warehouse that is theirs, what it makes can be gone on with."""
    with target.connect("superuser") as session:
        tomorrow = TODAY + dt.timedelta(1)
        made = session.execute(
            "SELECT _wh.update_mv_by_template(%s, 'landb-prod', 'landb', %s)", [TEMPLATE, tomorrow]
        ).fetchone()
        assert made == (True,)
        assert owners(managed) == {"wh_admin"}
        # What it makes by hand has to be given.
        session.execute(f"CREATE TABLE landb.{TEMPLATE}_{YEARS[0] - 1} (LIKE landb.{TEMPLATE}_{YEARS[0]})".encode())
    update = "SELECT _wh.update_tenant_union_view_by_template(%s, 'landb')"
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match=r"belongs to postgres") as raised:
        managed.one(update, TEMPLATE)
    assert "give_to_admin" in str(raised.value.diag.message_hint)
    with target.connect("superuser") as session:
        [(given,)] = session.execute("SELECT _wh.give_to_admin()").fetchall()
        assert given["relations"] == 1
    assert managed.one(update, TEMPLATE) is True


def test_a_superusers_warehouse_is_given_to_the_administrators(
    warehouse: Warehouse, roles: None, target: Target, capsys: pytest.CaptureFixture[str]
) -> None:
    refresh = ["warehouse", "refresh", "--days", "1", *where(target, ADMIN)]
    assert main(refresh) == 1
    assert re.search(r"must be owner|permission denied", capsys.readouterr().err)
    given = warehouse.one("SELECT _wh.give_to_admin()")
    assert given == {"schemas": 2, "relations": 2 * (DAYS + 2 + 1) + 1, "servers": 0, "user_mappings": 2}
    with as_role(target, ADMIN).connect("admin") as session:
        session.execute(f"UPDATE _wh.tenant_connections SET username = '{SOURCE}', password = 's3cret'".encode())
    assert main(refresh) == 0
    again = {"schemas": 2, "relations": 0, "servers": 0, "user_mappings": 0}
    assert warehouse.one("SELECT _wh.give_to_admin()") == again
