"""Days brought up to date, years folded, public access in an emergency: what is in the database afterwards."""

from __future__ import annotations

import datetime as dt
import re
import shlex
import threading
from collections.abc import Iterator

import psycopg
import pytest

from schema_change.cli.main import main
from schema_change.core.database import Connection, Target
from schema_change.core.errors import ConfigurationError, ExecutionError, LockNotAvailable
from schema_change.core.warehouse import upkeep
from schema_change.core.warehouse.upkeep import Member
from tests.airflow_home import ROOT
from tests.integration.warehouse.warehouse import FIRST, TEMPLATE, TENANTS, TODAY, Warehouse

DAYS = (TODAY - FIRST).days + 1
YEAR = TODAY.year
LANDB = Member(TEMPLATE, "landb-prod", "landb")
BISTRO = Member(TEMPLATE, "bistro-prod", "bistro")
VIEWS = "SELECT count(*) FROM pg_matviews WHERE schemaname = %s AND starts_with(matviewname, %s)"
TENANTS_IN_VIEW = f"SELECT array_agg(DISTINCT schema_name ORDER BY schema_name) FROM public.{TEMPLATE}"


@pytest.fixture
def session(target: Target) -> Iterator[Connection]:
    """A session as the upkeep has it: with no search_path, and little patience for locks."""
    with target.connect("warehouse") as session:
        yield session


def day_view(schema: str, day: dt.date) -> str:
    return f"{schema}.{TEMPLATE}_{day:%Y_%m_%d}"


def log_food(warehouse: Warehouse, schema: str, day: dt.date, rows: int = 1) -> None:
    """Add rows to a tenant's own database."""
    with warehouse.sources[schema].connect("test") as source:
        source.execute(
            "INSERT INTO public.foodlog SELECT max(l.id) + g, 1, 1, %s::date + interval '12 hours', 'late'"
            " FROM public.foodlog AS l, generate_series(1, %s) AS g GROUP BY g",
            [day, rows],
        )


def where(target: Target) -> list[str]:
    p = target.parameters
    return ["--target", f"postgresql://{p['user']}@{p['host']}:{p['port']}/{p['dbname']}"]


def test_members_are_templates_in_tenants_schemas(warehouse: Warehouse, session: Connection) -> None:
    warehouse.session.execute(
        "INSERT INTO _wh.mv_templates (template_name, query_template, column_definitions)"
        " VALUES ('other', 'SELECT 1', 'a int')"
    )
    assert upkeep.members(session) == [BISTRO, LANDB]
    assert upkeep.members(session, ["other"]) == []
    with pytest.raises(ConfigurationError, match="there is no template nothing") as raised:
        upkeep.members(session, ["nothing"])
    assert raised.value.hint == f"known: {TEMPLATE}, other"


def test_without_a_toolkit_the_remedy_is_named(session: Connection) -> None:
    with pytest.raises(ConfigurationError, match="warehouse install"):
        upkeep.members(session)


def test_today_and_yesterday_are_brought_up_to_date(warehouse: Warehouse, session: Connection) -> None:
    log_food(warehouse, "landb", TODAY)
    before = warehouse.one(f"SELECT count(*) FROM public.{TEMPLATE}")
    done = upkeep.refresh(session, LANDB, TODAY - dt.timedelta(1), TODAY)
    assert (done.folded, done.is_view_new, done.is_public_view_new) == (0, False, False)
    assert warehouse.one(f"SELECT count(*) FROM public.{TEMPLATE}") == before + 1


def test_a_new_day_gets_into_the_views(warehouse: Warehouse, session: Connection) -> None:
    tomorrow = TODAY + dt.timedelta(1)
    log_food(warehouse, "landb", tomorrow, 3)
    before = warehouse.one(f"SELECT count(*) FROM public.{TEMPLATE}")
    assert upkeep.refresh(session, LANDB, TODAY, tomorrow).is_view_new
    assert warehouse.one(f"SELECT count(*) FROM public.{TEMPLATE}") == before + 3
    assert not upkeep.refresh(session, LANDB, TODAY, tomorrow).is_view_new


def test_a_day_that_its_view_has_missed_is_found(warehouse: Warehouse, session: Connection) -> None:
    """The task was killed between the day and the view."""
    tomorrow = TODAY + dt.timedelta(1)
    warehouse.one("SELECT _wh.create_mv_from_template(%s, 'landb-prod', 'landb', %s)", TEMPLATE, tomorrow)
    assert upkeep.refresh(session, LANDB, TODAY, TODAY).is_view_new
    assert day_view("landb", tomorrow) in warehouse.one(f"SELECT pg_get_viewdef('landb.{TEMPLATE}'::regclass)")


def test_days_of_a_folded_year_are_not_made_again(warehouse: Warehouse, session: Connection) -> None:
    first = dt.date(YEAR, 1, 1) - dt.timedelta(2)
    done = upkeep.refresh(session, LANDB, first, first + dt.timedelta(2))
    assert (done.days, done.folded) == (1, 2)
    assert warehouse.one(VIEWS, "landb", f"{TEMPLATE}_{YEAR - 1}") == 0


def test_a_day_that_fails_loses_no_other(warehouse: Warehouse, session: Connection) -> None:
    days = [TODAY + dt.timedelta(n) for n in range(3)]
    # Something else has the name of the second day's index.
    warehouse.session.execute(f"CREATE TABLE landb.idx_landb_{TEMPLATE}_{days[1]:%Y_%m_%d}_id (a integer)".encode())
    log_food(warehouse, "landb", days[0])
    log_food(warehouse, "landb", days[2])
    before = warehouse.one(f"SELECT count(*) FROM public.{TEMPLATE}")
    with pytest.raises(ExecutionError, match=rf"up to date: {days[1]}; .* already exists") as raised:
        upkeep.refresh(session, LANDB, days[0], days[2])
    assert not raised.value.retryable
    assert isinstance(raised.value.__cause__, psycopg.Error)
    assert warehouse.one(f"SELECT count(*) FROM public.{TEMPLATE}") == before + 2
    assert warehouse.one(f"SELECT to_regclass('{day_view('landb', days[1])}')") is None


def test_a_source_that_is_away_is_worth_another_try(warehouse: Warehouse, session: Connection) -> None:
    warehouse.session.execute("UPDATE _wh.tenant_connections SET dbname = 'nowhere' WHERE tenant_name = 'landb-prod'")
    with pytest.raises(ExecutionError, match=f"up to date: {TODAY};") as raised:
        upkeep.refresh(session, LANDB, TODAY, TODAY)
    assert raised.value.retryable
    assert "s3cret" not in str(raised.value)
    assert upkeep.refresh(session, BISTRO, TODAY, TODAY).days == 1
    assert warehouse.one(TENANTS_IN_VIEW) == ["bistro", "landb"]


def test_a_new_tenant_gets_into_the_public_view(empty: Warehouse, session: Connection) -> None:
    empty.one("SELECT _wh.create_mv_from_template(%s, 'landb-prod', 'landb', %s)", TEMPLATE, TODAY)
    assert upkeep.refresh(session, LANDB, FIRST, TODAY).is_public_view_new
    assert empty.one(TENANTS_IN_VIEW) == ["landb"]
    empty.one("SELECT _wh.create_mv_from_template(%s, 'bistro-prod', 'bistro', %s)", TEMPLATE, TODAY)
    assert upkeep.refresh(session, BISTRO, FIRST, TODAY).is_public_view_new
    assert empty.one(TENANTS_IN_VIEW) == ["bistro", "landb"]
    assert empty.one(f"SELECT count(*) FROM public.{TEMPLATE}") == 2 * 5 * DAYS


def test_members_of_a_template_wait_for_each_other(
    warehouse: Warehouse, target: Target, session: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Longer than any table's lock is waited for."""
    session.execute("SET lock_timeout = '50ms'")
    with target.connect("other") as other, other.transaction():
        other.execute("SELECT _wh.lock_template(%s)", [TEMPLATE])
        monkeypatch.setattr(upkeep, "_PATIENCE", "100ms")
        with pytest.raises(LockNotAvailable, match="in use by other sessions"):
            upkeep.refresh(session, LANDB, TODAY, TODAY)
        monkeypatch.undo()
        done: list[object] = []
        thread = threading.Thread(target=lambda: done.append(upkeep.refresh(session, LANDB, TODAY, TODAY)))
        thread.start()
        thread.join(0.5)
        assert thread.is_alive()
    thread.join()
    assert len(done) == 1
    [[timeout]] = session.execute("SHOW lock_timeout").fetchall()
    assert timeout == "50ms"


def test_a_reader_is_not_in_the_way(warehouse: Warehouse, target: Target, session: Connection) -> None:
    session.execute("SET lock_timeout = '50ms'")
    with target.connect("reader") as reader, reader.transaction():
        reader.execute(f"SELECT count(*) FROM {day_view('landb', TODAY)}".encode())
        upkeep.refresh(session, LANDB, TODAY, TODAY)


def test_somebody_in_the_way_is_worth_another_try(warehouse: Warehouse, target: Target, session: Connection) -> None:
    session.execute("SET lock_timeout = '50ms'")
    with target.connect("other") as other, other.transaction():
        other.execute(f"COMMENT ON MATERIALIZED VIEW {day_view('landb', TODAY)} IS 'today'".encode())
        with pytest.raises(ExecutionError, match=f"up to date: {TODAY};") as raised:
            upkeep.refresh(session, LANDB, TODAY, TODAY)
    assert raised.value.retryable


def test_both_shapes_are_kept_while_the_template_changes(warehouse: Warehouse, session: Connection) -> None:
    more = "".join((", waste_category ", "text"))
    old = warehouse.one("SELECT column_definitions FROM _wh.mv_templates")
    query = warehouse.one("SELECT query_template FROM _wh.mv_templates")
    warehouse.one(
        "SELECT _wh.begin_change(%s, 'waste_category', %s, %s, '', '[[\"bistro\", \"landb\"]]')",
        TEMPLATE,
        query.replace("l.logged_time\n", "l.logged_time, l.waste_category\n"),
        old + more,
    )
    tomorrow = TODAY + dt.timedelta(1)
    assert upkeep.refresh(session, LANDB, TODAY, tomorrow).is_view_new
    assert warehouse.one(VIEWS, "landb", f"{TEMPLATE}_{tomorrow:%Y_%m_%d}") == 1
    assert warehouse.one(VIEWS, "_wh_new_landb", f"{TEMPLATE}_{tomorrow:%Y_%m_%d}") == 1
    assert not upkeep.refresh(session, LANDB, TODAY, tomorrow).is_view_new
    with pytest.raises(ExecutionError, match="is being changed"):
        upkeep.fold(session, LANDB, str(YEAR - 1))


@pytest.fixture
def last_year(empty: Warehouse) -> int:
    """Days of the last year in schema landb, one row each month; return how many days it has."""
    year = YEAR - 1
    with empty.sources["landb"].connect("test") as source:
        source.execute(
            "INSERT INTO public.foodlog SELECT 1000 + m, 1, m, make_date(%s, m, 5), 'old'"
            " FROM generate_series(1, 12) AS m",
            [year],
        )
    window = (
        "SELECT _wh.update_mv_window_by_template(%s, 'landb-prod', 'landb', make_date(%s, 1, 1), make_date(%s, 12, 31))"
    )
    days = (dt.date(YEAR, 1, 1) - dt.date(year, 1, 1)).days
    assert empty.one(window, TEMPLATE, year, year)["success_count"] == days
    return days


def test_a_year_is_folded_and_its_days_go_in_batches(empty: Warehouse, last_year: int, session: Connection) -> None:
    year = YEAR - 1
    upkeep.refresh(session, LANDB, FIRST, TODAY)
    before = empty.one(f"SELECT count(*) FROM public.{TEMPLATE}")
    with pytest.raises(psycopg.errors.RaiseException, match="has no table in schema landb"):
        empty.one("SELECT _wh.drop_folded(%s, 'landb', %s, 50)", TEMPLATE, str(year))
    done = upkeep.fold(session, LANDB, str(year))
    assert (done.rows, done.dropped) == (12, last_year)
    assert empty.one(VIEWS, "landb", f"{TEMPLATE}_{year}") == 0
    assert empty.one(VIEWS, "landb", f"{TEMPLATE}_{YEAR}") == DAYS
    assert empty.one(f"SELECT count(*) FROM landb.{TEMPLATE}_{year}") == 12
    assert empty.one(f"SELECT count(*) FROM public.{TEMPLATE}") == before
    again = upkeep.fold(session, LANDB, str(year))
    assert (again.rows, again.dropped) == (None, 0)


def test_a_fold_goes_on_where_it_was_interrupted(empty: Warehouse, last_year: int, session: Connection) -> None:
    year = YEAR - 1
    empty.one("SELECT _wh.create_combined_table_from_template_by_year(%s, 'landb', %s)", TEMPLATE, year)
    empty.one("SELECT _wh.update_tenant_union_view_by_template(%s, 'landb')", TEMPLATE)
    assert empty.one("SELECT _wh.drop_folded(%s, 'landb', %s, 1000)", TEMPLATE, str(year)) == 50
    done = upkeep.fold(session, LANDB, str(year))
    assert (done.rows, done.dropped) == (None, last_year - 50)
    assert empty.one(f"SELECT count(*) FROM landb.{TEMPLATE}") == 12


def test_months_are_folded_and_then_their_year(empty: Warehouse, last_year: int, session: Connection) -> None:
    year = YEAR - 1
    upkeep.refresh(session, LANDB, FIRST, TODAY)
    before = empty.one(f"SELECT count(*) FROM public.{TEMPLATE}")
    for month, days in (("01", 31), ("03", 31)):
        done = upkeep.fold(session, LANDB, f"{year}-{month}")
        assert (done.rows, done.dropped) == (1, days)
    assert empty.one(VIEWS, "landb", f"{TEMPLATE}_{year}") == last_year - 62
    assert empty.one(f"SELECT count(*) FROM public.{TEMPLATE}") == before
    # What is folded is not made again, and a column of the template is added to it as to a year.
    assert upkeep.refresh(session, LANDB, dt.date(year, 1, 30), dt.date(year, 2, 1)).folded == 2
    added = empty.one("SELECT _wh.add_column_to_yearly_tables_by_template(%s, 'note', 'text')", TEMPLATE)
    assert added["success_count"] == 2
    done = upkeep.fold(session, LANDB, str(year))
    assert (done.rows, done.dropped) == (12, last_year - 62 + 2)
    assert empty.one(f"SELECT count(*) FROM public.{TEMPLATE}") == before
    with pytest.raises(ExecutionError, match="is not over in UTC"):
        upkeep.fold(session, LANDB, f"{TODAY:%Y-%m}")
    with pytest.raises(ExecutionError, match="neither a year nor a month: 2025-13"):
        upkeep.fold(session, LANDB, "2025-13")


@pytest.mark.parametrize("key", [True, False])
def test_no_day_goes_whose_rows_the_table_lacks(
    key: bool, empty: Warehouse, last_year: int, session: Connection
) -> None:
    year = YEAR - 1
    if not key:
        empty.session.execute("UPDATE _wh.mv_templates SET indexes = ''")
    empty.one("SELECT _wh.create_combined_table_from_template_by_year(%s, 'landb', %s)", TEMPLATE, year)
    empty.session.execute(f"DELETE FROM landb.{TEMPLATE}_{year} WHERE id = 1001".encode())
    with pytest.raises(ExecutionError, match=f"lacks rows of {TEMPLATE}_{year}_01_05"):
        upkeep.fold(session, LANDB, str(year))
    assert empty.one(VIEWS, "landb", f"{TEMPLATE}_{year}") == last_year


def test_a_year_with_missing_days_is_not_folded(empty: Warehouse, session: Connection) -> None:
    empty.one("SELECT _wh.create_mv_from_template(%s, 'landb-prod', 'landb', make_date(%s, 1, 1))", TEMPLATE, YEAR - 1)
    with pytest.raises(ExecutionError, match=f"{YEAR - 1} could not be folded: days of {YEAR - 1} are missing"):
        upkeep.fold(session, LANDB, str(YEAR - 1))
    assert empty.one(VIEWS, "landb", f"{TEMPLATE}_{YEAR - 1}") == 1
    assert not upkeep.fold(session, LANDB, str(YEAR - 2)).is_there


def test_a_tenant_that_began_in_a_month_has_no_days_before(empty: Warehouse, session: Connection) -> None:
    window = "SELECT _wh.update_mv_window_by_template(%s, 'landb-prod', 'landb', %s::date, %s::date)"
    began, until = dt.date(YEAR, 4, 20), dt.date(YEAR, 5, 2)
    assert empty.one(window, TEMPLATE, began, until)["error_count"] == 0
    checked = empty.one("SELECT _wh.check_period(%s, 'landb', %s)", TEMPLATE, f"{YEAR}-04")
    assert (checked["views"], checked["missing_dates"], checked["begins"]) == (11, [], str(began))
    assert upkeep.fold(session, LANDB, f"{YEAR}-04").dropped == 11
    # A later month lacks what it lacks.
    checked = empty.one("SELECT _wh.check_period(%s, 'landb', %s)", TEMPLATE, f"{YEAR}-05")
    assert (checked["views"], len(checked["missing_dates"]), "begins" in checked) == (2, 29, False)


def test_yearly_tables_only_until_everything_again(warehouse: Warehouse, session: Connection) -> None:
    before = warehouse.one(f"SELECT count(*) FROM public.{TEMPLATE}")
    upkeep.emergency(session, TEMPLATE, only_years=True)
    assert warehouse.one(f"SELECT count(*) FROM public.{TEMPLATE}") == 2 * 2 * 2
    # The hourly upkeep does not take the emergency back.
    assert not upkeep.refresh(session, LANDB, TODAY, TODAY).is_public_view_new
    assert warehouse.one(f"SELECT count(*) FROM public.{TEMPLATE}") == 2 * 2 * 2
    upkeep.back_to_normal(session, TEMPLATE)
    assert warehouse.one(f"SELECT count(*) FROM public.{TEMPLATE}") == before
    assert warehouse.one(f"SELECT has_table_privilege('wh_read', 'public.{TEMPLATE}', 'SELECT')")


def test_healthy_tenants_only(warehouse: Warehouse, session: Connection) -> None:
    began = dt.datetime.now(dt.UTC)
    warehouse.session.execute("UPDATE _wh.tenant_connections SET dbname = 'nowhere' WHERE tenant_name = 'landb-prod'")
    assert [(a.tenant, a.error is None) for a in upkeep.check(session)] == [
        ("bistro-prod", True),
        ("landb-prod", False),
    ]
    healthy = upkeep.healthy_schemas(session, TEMPLATE)
    assert healthy == ["bistro"]
    upkeep.emergency(session, TEMPLATE, only_years=False, schemas=healthy)
    assert warehouse.one(TENANTS_IN_VIEW) == ["bistro"]
    [logged] = upkeep.errors_since(session, began)
    assert (logged.message, logged.context["schemas"]) == ("public access was restored in an emergency", ["bistro"])
    assert upkeep.errors_since(session, dt.datetime.now(dt.UTC)) == []
    warehouse.session.execute("UPDATE _wh.tenant_connections SET dbname = 'nowhere'")
    with pytest.raises(ExecutionError, match="no tenant of template foodlogstats is healthy"):
        upkeep.healthy_schemas(session, TEMPLATE)


def test_who_is_in_the_way_of_an_emergency_is_named(warehouse: Warehouse, target: Target, session: Connection) -> None:
    """A report that waits for the refresh of a day: both are named."""
    session.execute("SET lock_timeout = '50ms'")
    with target.connect("refresh") as refresh, target.connect("report") as report, refresh.transaction():
        refresh.execute(f"LOCK TABLE landb.{TEMPLATE} IN ACCESS EXCLUSIVE MODE".encode())
        report.execute("SET lock_timeout = 0")
        waiting = threading.Thread(
            target=lambda: report.execute(f"SELECT count(*) FROM public.{TEMPLATE}".encode()), daemon=True
        )
        waiting.start()
        while not warehouse.one("SELECT cardinality(pg_blocking_pids(%s))", report.info.backend_pid):
            pass
        with pytest.raises(LockNotAvailable) as raised:
            upkeep.emergency(session, TEMPLATE, only_years=True)
        assert raised.value.retryable
        for other in (refresh, report):
            assert f"{other.info.backend_pid} ({other.info.user}, schema_change:re" in str(raised.value.hint)
    waiting.join()
    upkeep.emergency(session, TEMPLATE, only_years=True)
    assert warehouse.one(f"SELECT count(*) FROM public.{TEMPLATE}") == 8


def test_what_is_not_there_is_not_shown_in_an_emergency(warehouse: Warehouse, session: Connection) -> None:
    with pytest.raises(ConfigurationError, match="schema nobody") as raised:
        upkeep.emergency(session, TEMPLATE, only_years=False, schemas=["nobody"])
    assert raised.value.hint == "there are bistro, landb"
    with pytest.raises(ConfigurationError, match="nothing is chosen"):
        upkeep.emergency(session, TEMPLATE, only_years=False)
    assert warehouse.one(TENANTS_IN_VIEW) == ["bistro", "landb"]


def test_the_commands(warehouse: Warehouse, target: Target, capsys: pytest.CaptureFixture[str]) -> None:
    log_food(warehouse, "landb", TODAY)
    log_food(warehouse, "bistro", TODAY)
    before = warehouse.one(f"SELECT count(*) FROM public.{TEMPLATE}")
    assert main(["warehouse", "refresh", "--days", "1", "--schema", "landb", *where(target)]) == 0
    assert warehouse.one(f"SELECT count(*) FROM public.{TEMPLATE}") == before + 1
    assert capsys.readouterr().out == f"landb.{TEMPLATE}: 1 day brought up to date\n"
    assert main(["warehouse", "refresh", "--template", TEMPLATE, *where(target)]) == 0
    assert warehouse.one(f"SELECT count(*) FROM public.{TEMPLATE}") == before + 2
    assert main(["warehouse", "fold", "--year", str(YEAR - 1), *where(target)]) == 0
    assert f"landb.{TEMPLATE}: {YEAR - 1} already has its table, 0 parts dropped" in capsys.readouterr().out
    assert main(["warehouse", "fold", "--year", str(YEAR), *where(target)]) == 1
    assert "is not over in UTC" in capsys.readouterr().err
    assert main(["warehouse", "refresh", "--schema", "nobody", *where(target)]) == 2
    assert main(["warehouse", "refresh", "--days", "0", *where(target)]) == 2


def test_the_commands_of_an_emergency(warehouse: Warehouse, target: Target, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["warehouse", "emergency", "--template", TEMPLATE, *where(target)]
    assert main(asked) == 2
    assert main([*asked, "--only-years", "--schema", "landb"]) == 2
    assert main([*asked, "--schema", "landb"]) == 0
    assert warehouse.one(TENANTS_IN_VIEW) == ["landb"]
    assert main([*asked, "--only-years"]) == 0
    assert warehouse.one(f"SELECT count(*) FROM public.{TEMPLATE}") == 8
    assert main(["warehouse", "normal", "--template", TEMPLATE, *where(target)]) == 0
    assert warehouse.one(TENANTS_IN_VIEW) == ["bistro", "landb"]
    assert warehouse.one(f"SELECT count(*) FROM public.{TEMPLATE}") > 8


def test_check_says_who_does_not_answer(
    warehouse: Warehouse, target: Target, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["warehouse", "check", *where(target)]) == 0
    warehouse.session.execute("UPDATE _wh.tenant_connections SET dbname = 'nowhere' WHERE tenant_name = 'landb-prod'")
    assert main(["warehouse", "check", *where(target)]) == 1
    said = capsys.readouterr().out
    assert "bistro-prod: answers in" in said
    assert "landb-prod: could not establish connection" in said


def test_a_member_that_fails_stops_no_other(
    warehouse: Warehouse, target: Target, capsys: pytest.CaptureFixture[str]
) -> None:
    log_food(warehouse, "landb", TODAY)
    before = warehouse.one(f"SELECT count(*) FROM landb.{TEMPLATE}")
    warehouse.session.execute("UPDATE _wh.tenant_connections SET dbname = 'nowhere' WHERE tenant_name = 'bistro-prod'")
    assert main(["warehouse", "refresh", "--days", "1", *where(target)]) == 1
    said = capsys.readouterr()
    assert f"bistro.{TEMPLATE}: could not be brought up to date: {TODAY};" in said.err
    assert warehouse.one(f"SELECT count(*) FROM landb.{TEMPLATE}") == before + 1
    assert set(TENANTS.values()) == {"landb", "bistro"}


@pytest.mark.parametrize("page", ["docs/cli.md", "docs/warehouse.md"])
def test_the_commands_of_the_documentation_run(warehouse: Warehouse, target: Target, page: str) -> None:
    p = target.parameters
    url = f"postgresql://{p['user']}@{p['host']}:{p['port']}/{p['dbname']}"
    text = (ROOT / page).read_text(encoding="utf-8")
    commands = [
        shlex.split(line) for line in re.findall(r"^schema-change (warehouse .*--target .*)$", text, re.MULTILINE)
    ]
    assert commands
    for command in commands:
        assert main([*command[:-1], url]) == 0, command
