"""What goes wrong in such warehouses: sources away, drifted schemas, views on top, names and types that do not fit."""

from __future__ import annotations

import datetime as dt
import gzip
import threading
import time

import psycopg
import pytest

from schema_change.core.errors import PlanError, PreCheckFailed, SchemaChangeError
from schema_change.core.stages.runner import Runner
from tests.bench import Bench
from tests.integration.warehouse.conftest import Change
from tests.integration.warehouse.test_change import ADD, DAYS, OLD, YEARS, columns, landed, nothing_is_left
from tests.integration.warehouse.warehouse import FIRST, TEMPLATE, TENANTS, TODAY, Warehouse

TABLES_OF_YEARS = len(TENANTS) * len(YEARS)


def away(warehouse: Warehouse, tenant: str, *, away: bool = True) -> None:
    """Let a tenant's source be gone, or be back."""
    server = f"wh_{tenant}"
    port = warehouse.sources[TENANTS[tenant]].parameters["port"] if not away else 1
    warehouse.session.execute(f"ALTER SERVER \"{server}\" OPTIONS (SET port '{port}')".encode())


def test_a_view_on_top_survives_with_its_rights_and_sees_the_new_shape(warehouse: Warehouse, change: Change) -> None:
    session = warehouse.session
    session.execute("CREATE SCHEMA bi")
    session.execute(
        f"CREATE VIEW bi.stores AS SELECT store, sum(weight) AS weight FROM public.{TEMPLATE} GROUP BY 1".encode()
    )
    session.execute("CREATE VIEW bi.best AS SELECT store FROM bi.stores ORDER BY weight DESC LIMIT 1")
    session.execute(f"CREATE VIEW bi.own AS SELECT id FROM landb.{TEMPLATE}".encode())
    session.execute("COMMENT ON VIEW bi.stores IS 'by store'")
    session.execute("GRANT SELECT ON bi.stores TO wh_read")
    before = session.execute("SELECT * FROM bi.stores ORDER BY 1").fetchall()
    landed(change("warehouse_add_column", ADD))
    assert session.execute("SELECT * FROM bi.stores ORDER BY 1").fetchall() == before
    assert warehouse.one("SELECT obj_description('bi.stores'::regclass)") == "by store"
    assert warehouse.one("SELECT has_table_privilege('wh_read', 'bi.stores', 'SELECT')") is True
    assert warehouse.one("SELECT count(*) FROM bi.best") == 1
    session.execute(f"CREATE OR REPLACE VIEW bi.own AS SELECT id, waste_category FROM landb.{TEMPLATE}".encode())
    nothing_is_left(warehouse)


def test_views_on_top_come_back_with_a_rollback(warehouse: Warehouse, change: Change) -> None:
    warehouse.session.execute(f"CREATE VIEW public.bi AS SELECT id FROM public.{TEMPLATE}".encode())
    oid = warehouse.one("SELECT 'public.bi'::regclass::oid")
    run = change("warehouse_add_column", ADD, stop_before="contract")
    assert warehouse.one("SELECT 'public.bi'::regclass::oid") != oid
    run.finish()
    assert warehouse.one("SELECT 'public.bi'::regclass::oid") == oid
    assert columns(warehouse, f"public.{TEMPLATE}") == OLD
    nothing_is_left(warehouse)


def test_a_materialized_view_on_top_is_refused(warehouse: Warehouse, change: Change) -> None:
    warehouse.session.execute(f"CREATE MATERIALIZED VIEW public.mbi AS SELECT id FROM public.{TEMPLATE}".encode())
    run = change("warehouse_add_column", ADD)
    assert isinstance(run.error, PlanError)
    assert "public.mbi" in run.error.message
    nothing_is_left(warehouse)


@pytest.mark.parametrize("name", ["order", 'quo"te', pytest.param("weird name", marks=pytest.mark.slow)])
def test_names_are_quoted_everywhere(warehouse: Warehouse, change: Change, name: str) -> None:
    landed(change("warehouse_add_column", {**ADD, "column": name, "index": True}))
    assert columns(warehouse, f"public.{TEMPLATE}") == [*OLD[:-1], name, "schema_name"]
    landed(change("warehouse_modify_column", {"template": TEMPLATE, "column": name, "type": "varchar(20)"}))
    landed(change("warehouse_remove_column", {"template": TEMPLATE, "column": name}))
    assert columns(warehouse, f"public.{TEMPLATE}") == OLD
    nothing_is_left(warehouse)


def test_a_type_that_does_not_fit_is_rolled_back(warehouse: Warehouse, change: Change) -> None:
    run = change("warehouse_modify_column", {"template": TEMPLATE, "column": "store", "type": "integer"})
    assert run.error is not None
    assert "invalid input syntax for type integer" in run.error.message
    assert columns(warehouse, f"public.{TEMPLATE}") == OLD
    nothing_is_left(warehouse)


def test_a_tenant_whose_schema_has_drifted_is_named(warehouse: Warehouse, change: Change) -> None:
    with warehouse.sources["bistro"].connect("test") as source:
        source.execute("ALTER TABLE public.foodlog RENAME COLUMN waste_category TO category")
    run = change("warehouse_add_column", ADD)
    assert isinstance(run.error, SchemaChangeError)
    assert "bistro" in run.error.message
    assert "waste_category" in run.error.message
    assert columns(warehouse, f"public.{TEMPLATE}") == OLD
    nothing_is_left(warehouse)


def test_a_tenant_is_skipped_and_follows_in_a_second_run(warehouse: Warehouse, change: Change) -> None:
    with warehouse.sources["bistro"].connect("test") as source:
        source.execute("ALTER TABLE public.foodlog RENAME COLUMN waste_category TO category")
    landed(change("warehouse_add_column", {**ADD, "source_down": "skip"}))
    assert columns(warehouse, f"public.{TEMPLATE}") == [*OLD[:-1], "waste_category", "schema_name"]
    assert columns(warehouse, f"landb.{TEMPLATE}") == [*OLD[:-1], "waste_category"]
    assert columns(warehouse, f"bistro.{TEMPLATE}") == [*OLD[:-1], "waste_category"]
    constant = f"SELECT array_agg(DISTINCT waste_category) FROM public.{TEMPLATE} WHERE schema_name = 'bistro'"
    assert warehouse.one(constant) == ["UNKNOWN"]
    with warehouse.sources["bistro"].connect("test") as source:
        source.execute("ALTER TABLE public.foodlog RENAME COLUMN category TO waste_category")
    again = change("warehouse_add_column", ADD)
    landed(again)
    assert sorted(warehouse.one(constant)) == ["UNKNOWN", "peel", "rest"]
    assert warehouse.one("SELECT count(*) FROM _wh.adapted") == 0
    assert (
        warehouse.one(
            "SELECT (context->>'days')::int FROM _wh.log WHERE message LIKE '%finished' ORDER BY id DESC LIMIT 1"
        )
        == DAYS
    )
    nothing_is_left(warehouse)


def test_more_tenants_than_allowed_are_not_skipped(warehouse: Warehouse, change: Change) -> None:
    run = change("warehouse_add_column", {**ADD, "expression": "l.nowhere", "source_down": "skip", "skip_at_most": 1})
    assert run.error is not None
    assert "2 tenants would be left out, of at most 1" in run.error.message
    assert columns(warehouse, f"public.{TEMPLATE}") == OLD
    nothing_is_left(warehouse)


def test_a_source_that_is_away_at_the_start_is_refused(warehouse: Warehouse, change: Change) -> None:
    away(warehouse, "bistro-prod")
    run = change("warehouse_add_column", ADD)
    assert isinstance(run.error, PreCheckFailed)
    assert "bistro" in run.error.message


def test_a_source_that_goes_away_is_waited_for(warehouse: Warehouse, change: Change) -> None:
    run = change("warehouse_add_column", {**ADD, "source_down": "stop"}, stop_before="backfill", skip_rehearsal=True)
    away(warehouse, "bistro-prod")
    back = threading.Timer(3, lambda: away(warehouse, "bistro-prod", away=False))
    back.start()
    for stage in ("backfill", "cutover", "validate", "soak", "contract"):
        assert run.try_stage(stage), run.error
    back.join()
    run.finish()
    landed(run)
    told = "SELECT count(*) FROM public.foodlogstats WHERE schema_name = 'bistro' AND waste_category <> 'UNKNOWN'"
    assert warehouse.one(told) == 5 * DAYS
    nothing_is_left(warehouse)


def test_only_some_tenants_are_changed(warehouse: Warehouse, change: Change) -> None:
    landed(change("warehouse_add_column", {**ADD, "tenants": ["land*"]}))
    of_bistro = f"SELECT array_agg(DISTINCT waste_category) FROM public.{TEMPLATE} WHERE schema_name = 'bistro'"
    assert warehouse.one(of_bistro) == ["UNKNOWN"]
    assert warehouse.one("SELECT count(*) FROM _wh.adapted") == 1
    nothing_is_left(warehouse)


def test_a_canary_that_differs_stops_before_the_others(warehouse: Warehouse, change: Change) -> None:
    with warehouse.sources["landb"].connect("test") as source:
        source.execute("DELETE FROM public.foodlog WHERE logged_time < %s", [TODAY])
    run = change("warehouse_add_column", {**ADD, "canary": ["landb"]}, skip_rehearsal=True)
    assert run.error is not None
    assert "wave 1" in run.error.message
    assert "rows was 5, is 0" in run.error.message
    assert columns(warehouse, f"public.{TEMPLATE}") == OLD
    nothing_is_left(warehouse)


def test_history_comes_from_the_source_where_it_still_has_it(warehouse: Warehouse, change: Change) -> None:
    year = YEARS[-1]
    with warehouse.sources["landb"].connect("test") as source:
        source.execute("INSERT INTO public.foodlog VALUES (1000001, 1, 1.5, make_date(%s, 5, 1), 'peel')", [year])
    warehouse.session.execute(f"UPDATE landb.{TEMPLATE}_{year} SET id = 1000001 WHERE id = 1".encode())
    landed(change("warehouse_add_column", {**ADD, "history_from": year}))
    found = warehouse.session.execute(
        f"SELECT id, waste_category FROM landb.{TEMPLATE}_{year} ORDER BY 1".encode()
    ).fetchall()
    assert found == [(2, "UNKNOWN"), (1000001, "peel")]
    summary = warehouse.one("SELECT context FROM _wh.log WHERE message LIKE '%finished'")
    assert (summary["history_rows"], summary["days"]) == (1, 2 * DAYS)
    nothing_is_left(warehouse)


@pytest.mark.parametrize("stage", ["backfill", "cutover", "validate", "contract"])
def test_the_daily_work_goes_on_in_both_shapes(warehouse: Warehouse, change: Change, stage: str) -> None:
    """Today's view is dropped and made again before a stage, as a day that is born then."""
    run = change("warehouse_add_column", ADD, stop_before=stage, skip_rehearsal=True)
    with warehouse.sources["landb"].connect("test") as source:
        source.execute("INSERT INTO public.foodlog VALUES (2000001, 1, 1.5, %s, 'peel')", [TODAY])
    for tenant, schema in TENANTS.items():
        warehouse.one("SELECT _wh.update_mv_by_template(%s, %s, %s)", TEMPLATE, tenant, schema)
    fresh = f"SELECT count(*) FROM public.{TEMPLATE} WHERE id = 2000001"
    assert warehouse.one(fresh) == 1
    for rest in ("backfill", "cutover", "validate", "soak", "contract"):
        if rest not in run.results:
            assert run.try_stage(rest), run.error
    run.finish()
    landed(run)
    assert warehouse.one(fresh) == 1
    assert warehouse.one(f"SELECT count(*) FROM _wh.parts_of('{TEMPLATE}')") == 2 * DAYS + TABLES_OF_YEARS
    nothing_is_left(warehouse)


def test_another_run_on_the_template_is_refused(warehouse: Warehouse, change: Change) -> None:
    run = change("warehouse_add_column", ADD, stop_before="cutover", skip_rehearsal=True)
    other = change("warehouse_add_column", {**ADD, "column": "other"})
    assert isinstance(other.error, SchemaChangeError)
    assert "is being changed" in other.error.message
    run.finish()
    nothing_is_left(warehouse)


def test_several_tasks_build_side_by_side(warehouse: Warehouse, change: Change) -> None:
    run = change("warehouse_add_column", ADD, stop_before="backfill", skip_rehearsal=True, shards=2)
    runners = [Runner(run.request) for _ in range(2)]
    threads = [threading.Thread(target=runner.run, args=("backfill", n)) for n, runner in enumerate(runners)]
    for thread in threads:
        thread.start()
        time.sleep(0.05)
    for thread in threads:
        thread.join()
    for stage in ("cutover", "validate", "soak", "contract"):
        assert run.try_stage(stage), run.error
    run.finish()
    landed(run)
    nothing_is_left(warehouse)


def is_in_no_file(secret: bytes, bench: Bench) -> None:
    files = [file for file in (bench.folder / "artifacts").rglob("*") if file.is_file()]
    assert any(file.name == "toc.dat" for file in files)
    for file in files:
        content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        assert secret not in content, file


def test_passwords_of_tenants_are_in_no_dump_journal_or_log(warehouse: Warehouse, change: Change, bench: Bench) -> None:
    landed(change("warehouse_add_column", ADD))
    assert any((bench.folder / "artifacts").rglob("days_1.gz"))
    is_in_no_file(b"s3cret", bench)
    tables = warehouse.session.execute(
        "SELECT c.oid::regclass::text FROM pg_class c WHERE c.relkind IN ('r', 'v', 'm')"
        " AND c.relnamespace::regnamespace::text IN ('_wh', 'schema_change', 'public', 'landb')"
    ).fetchall()
    for (table,) in tables:
        assert warehouse.one(f"SELECT count(*) FROM {table} AS t WHERE t::text LIKE '%s3cret%'") == 0, table


def test_an_error_in_the_warehouses_log_rolls_back(warehouse: Warehouse, change: Change) -> None:
    run = change("warehouse_add_column", ADD, stop_before="cutover", skip_rehearsal=True)
    warehouse.one("SELECT _wh.log_error('something is wrong', jsonb_build_object('template', %s::text))", TEMPLATE)
    assert not run.try_stage("cutover")
    assert run.error is not None
    assert "something is wrong" in run.error.message
    run.finish()
    assert columns(warehouse, f"public.{TEMPLATE}") == OLD
    nothing_is_left(warehouse)


def test_a_removed_column_of_a_tenant_that_was_left_out_goes_in_a_second_run(
    warehouse: Warehouse, change: Change
) -> None:
    remove = {"template": TEMPLATE, "column": "store"}
    landed(change("warehouse_remove_column", {**remove, "tenants": ["landb"]}))
    assert columns(warehouse, f"public.{TEMPLATE}") == [c for c in OLD if c != "store"]
    with_it = (
        "SELECT count(*) FROM pg_attribute WHERE attname = 'store' AND NOT attisdropped"
        " AND attrelid IN (SELECT part_oid FROM _wh.parts_of(%s))"
    )
    assert warehouse.one(with_it, TEMPLATE) == DAYS + 2
    warehouse.one("SELECT _wh.update_mv_by_template(%s, 'bistro-prod', 'bistro')", TEMPLATE)
    landed(change("warehouse_remove_column", remove))
    assert warehouse.one(with_it, TEMPLATE) == 0
    assert warehouse.one("SELECT count(*) FROM _wh.adapted") == 0
    nothing_is_left(warehouse)


def test_what_was_granted_on_a_day_is_granted_on_the_new_one(warehouse: Warehouse, change: Change) -> None:
    day = f"landb.{TEMPLATE}_{TODAY:%Y_%m_%d}"
    warehouse.session.execute(f"GRANT SELECT (store), UPDATE ON {day} TO wh_admin".encode())
    warehouse.session.execute(f"COMMENT ON MATERIALIZED VIEW {day} IS 'today'".encode())
    landed(change("warehouse_add_column", ADD))
    assert warehouse.one(f"SELECT has_column_privilege('wh_admin', '{day}', 'store', 'SELECT')") is True
    assert warehouse.one(f"SELECT has_table_privilege('wh_admin', '{day}', 'UPDATE')") is True
    assert warehouse.one(f"SELECT has_table_privilege('wh_read', '{day}', 'SELECT')") is True
    assert warehouse.one(f"SELECT obj_description('{day}'::regclass)") == "today"
    nothing_is_left(warehouse)


def test_indexes_that_somebody_made_are_made_again(warehouse: Warehouse, change: Change) -> None:
    day = f"landb.{TEMPLATE}_{TODAY:%Y_%m_%d}"
    warehouse.session.execute(f"CREATE INDEX by_hand ON {day} (weight) WHERE weight > 1".encode())
    warehouse.session.execute(f"CREATE INDEX of_store ON {day} (lower(store))".encode())
    landed(change("warehouse_remove_column", {"template": TEMPLATE, "column": "store"}, skip_backup=True))
    found = "SELECT indexdef FROM pg_indexes WHERE indexname = %s"
    assert warehouse.one(found, "by_hand").startswith(f"CREATE INDEX by_hand ON {day} USING btree (weight) WHERE")
    assert warehouse.one(found, "of_store") is None
    logged = warehouse.one("SELECT context FROM _wh.log WHERE message = 'an index of a day does not fit its new shape'")
    assert logged["index"] == "of_store"


@pytest.mark.parametrize("strategy", ["build_beside", "rebuild_in_place"])
def test_what_a_column_of_yearly_tables_carries_goes_over_to_the_new_one(
    warehouse: Warehouse, change: Change, strategy: str
) -> None:
    table = f"landb.{TEMPLATE}_{YEARS[0]}"
    for statement in (
        f'CREATE INDEX "By weight" ON {table} (weight DESC) WHERE weight > 1',
        f"COMMENT ON COLUMN {table}.weight IS 'in kg'",
        f"GRANT UPDATE (weight) ON {table} TO wh_read",
    ):
        warehouse.session.execute(statement.encode())
    body = {"template": TEMPLATE, "column": "weight", "type": "double precision", "strategy": strategy}
    landed(change("warehouse_modify_column", body, skip_backup=True))
    indexed = f"SELECT indexdef FROM pg_indexes WHERE schemaname = 'landb' AND tablename = '{TEMPLATE}_{YEARS[0]}'"
    assert warehouse.one(indexed).startswith(f'CREATE INDEX "By weight" ON {table} USING btree (weight DESC)')
    assert warehouse.one(f"SELECT count(*) FROM ({indexed}) AS i") == 1
    described = "SELECT col_description(a.attrelid, a.attnum) FROM pg_attribute AS a WHERE a.attrelid = %s::regclass"
    assert warehouse.one(f"{described} AND a.attname = 'weight'", table) == "in kg"
    assert warehouse.one(f"SELECT has_column_privilege('wh_read', '{table}', 'weight', 'UPDATE')") is True


def test_a_day_of_another_shape_is_made_anew_while_the_view_reads_it(warehouse: Warehouse) -> None:
    for schema in TENANTS.values():
        for year in YEARS:
            warehouse.session.execute(f"ALTER TABLE {schema}.{TEMPLATE}_{year} ADD COLUMN waste_category text".encode())
    warehouse.template(", l.waste_category", ", waste_category text")
    refresh = "SELECT _wh.update_mv_by_template(%s, 'landb-prod', 'landb', %s)"
    for day in (TODAY - dt.timedelta(days=n) for n in range(1, DAYS)):
        with pytest.raises(psycopg.errors.RaiseException, match="not all parts have the columns"):
            warehouse.one(refresh, TEMPLATE, day)
    # By hand, as in the runbook: without the views it does not matter in which order the days are made.
    warehouse.one(f"SELECT _wh.drop_public_view_by_template('{TEMPLATE}')")
    warehouse.one(f"SELECT _wh.drop_all_tenant_union_views_by_template('{TEMPLATE}')")
    window = "SELECT _wh.update_mv_window_by_template(%s, 'landb-prod', 'landb', %s, %s)"
    assert warehouse.one(window, TEMPLATE, FIRST, TODAY)["error_count"] == 0
    assert columns(warehouse, f"landb.{TEMPLATE}") == [*OLD[:-1], "waste_category"]
    assert warehouse.one("SELECT count(*) FROM pg_namespace WHERE nspname ~ '^_wh_'") == 0


def test_what_is_checked_before_a_change(warehouse: Warehouse, change: Change) -> None:
    warehouse.session.execute("UPDATE _wh.tenant_connections SET created_at = now() - interval '1 year'")
    run = change("warehouse_add_column", ADD, stop_before="migrate", skip_rehearsal=True)
    checks = {c["name"]: (c["status"], c["message"]) for c in run.results["pre_check"].data["checks"]}
    assert checks["tenants_sources"] == ("pass", "2 sources answered")
    assert checks["lock_capacity"][0] == "pass"
    status, risks = checks["warehouse_risks"]
    assert status == "warn"
    assert risks.startswith(
        "it is not rehearsed; no warehouse_add_column has landed in this warehouse before; expected"
    )
    other = change("warehouse_add_column", {**ADD, "tenants": ["nobody*"]}, stop_before="approve")
    assert isinstance(other.error, PlanError)
    assert "no tenant of template foodlogstats is called nobody*" in other.error.message


def test_views_that_are_made_meanwhile_are_not_lost_in_a_rollback(warehouse: Warehouse, change: Change) -> None:
    run = change("warehouse_add_column", ADD, stop_before="contract", skip_rehearsal=True)
    session = warehouse.session
    session.execute(f"CREATE VIEW public.both AS SELECT id FROM public.{TEMPLATE}".encode())
    session.execute("GRANT SELECT ON public.both TO wh_read")
    session.execute(f"CREATE VIEW public.of_new AS SELECT waste_category FROM public.{TEMPLATE}".encode())
    run.finish()
    assert columns(warehouse, f"public.{TEMPLATE}") == OLD
    assert columns(warehouse, "public.both") == ["id"]
    assert warehouse.one("SELECT has_table_privilege('wh_read', 'public.both', 'SELECT')") is True
    logged = warehouse.one("SELECT context FROM _wh.log WHERE message = 'a view was dropped that needs the new shape'")
    assert (logged["schema"], logged["view"]) == ("public", "of_new")
    assert "waste_category" in logged["definition"]
    assert warehouse.one("SELECT count(*) FROM _wh.changes") == 0
    # That somebody made views of it meanwhile is not as it was before, and said.
    assert 'public."both"' in str(warehouse.one("SELECT error FROM schema_change.run"))


def test_two_templates_are_changed_at_the_same_time(warehouse: Warehouse, change: Change) -> None:
    warehouse.session.execute(
        "INSERT INTO _wh.mv_templates (template_name, query_template, column_definitions, indexes)"
        " SELECT 'sales', query_template, column_definitions, indexes FROM _wh.mv_templates"
    )
    for tenant, schema in TENANTS.items():
        warehouse.one("SELECT _wh.update_mv_by_template('sales', %s, %s)", tenant, schema)
    warehouse.one("SELECT _wh.update_public_view_by_template('sales')")
    session = warehouse.session
    session.execute("CREATE VIEW public.of_sales AS SELECT id FROM public.sales")
    run = change("warehouse_add_column", ADD, stop_before="contract", skip_rehearsal=True)
    query, definitions, indexes = (
        warehouse.one(f"SELECT {name} FROM _wh.mv_templates WHERE template_name = 'sales'")
        for name in ("query_template", "column_definitions", "indexes")
    )
    more = query.replace("l.logged_time\n", "l.logged_time, l.waste_category\n"), f"{definitions}, waste_category text"
    begin = "SELECT _wh.begin_change('sales', 'waste_category', %s, %s, %s, '[[\"bistro\", \"landb\"]]')"
    session.execute(begin, [*more, indexes])
    session.execute(
        "UPDATE _wh.change_work AS w SET done_at = b.done_at"
        " FROM _wh.change_work AS o CROSS JOIN LATERAL _wh.build_work('sales', 'day', o.schema_name, o.day) AS b"
        " WHERE o.template_name = 'sales' AND w.template_name = 'sales' AND w.schema_name = o.schema_name"
    )
    for step in ("prepare_views", "swap"):
        warehouse.one(f"SELECT _wh.{step}('sales')")
    run.finish()
    assert columns(warehouse, f"public.{TEMPLATE}") == OLD
    assert columns(warehouse, "public.sales") == [*OLD[:-1], "waste_category", "schema_name"]
    for step in ("swap_back", "drop_prepared"):
        warehouse.one(f"SELECT _wh.{step}('sales')")
    assert warehouse.one("SELECT dropped FROM _wh.drop_built('sales', 50)") == len(TENANTS)
    warehouse.one("SELECT _wh.cancel_change('sales')")
    assert columns(warehouse, "public.sales") == OLD
    assert columns(warehouse, "public.of_sales") == ["id"]
    nothing_is_left(warehouse)
