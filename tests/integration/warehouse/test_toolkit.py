"""The toolkit of the template warehouse: the runbook's calls as they are typed, and what went wrong with such calls."""

from __future__ import annotations

import datetime as dt

import psycopg
import pytest

from schema_change.cli.main import main
from schema_change.core.database import Connection, Target
from schema_change.core.errors import ConfigurationError
from schema_change.core.warehouse.toolkit import VERSION, install, verify
from tests.integration.warehouse.warehouse import FIRST, TEMPLATE, TENANTS, TODAY, Warehouse

DAYS = (TODAY - FIRST).days + 1
YEAR = TODAY.year


def test_the_runbooks_script_as_it_is_typed(warehouse: Warehouse) -> None:
    """Adding waste_category, phase by phase, with its results."""
    before = warehouse.one(f"SELECT count(*) FROM public.{TEMPLATE}")
    assert before == 2 * (2 * 2 + 5 * DAYS)
    phases = f"""
        BEGIN;
        SELECT _wh.drop_public_view_by_template('{TEMPLATE}');
        SELECT _wh.drop_all_tenant_union_views_by_template('{TEMPLATE}');
        SELECT _wh.add_column_to_yearly_tables_by_template('{TEMPLATE}', 'waste_category', 'TEXT', 'UNKNOWN', true);
        SELECT _wh.drop_current_year_mvs_by_template('{TEMPLATE}', {YEAR});
        COMMIT
    """
    said = [
        warehouse.one(s) for s in phases.split(";") if "SELECT" in s or warehouse.session.execute(s.encode()) is None
    ]
    assert said == [
        {"success": True},
        {"success_count": 2, "error_count": 0},
        {"success_count": 4, "error_count": 0, "column_name": "waste_category"},
        {"success_count": 2 * DAYS, "error_count": 0, "target_year": YEAR},
    ]
    warehouse.template(
        ", l.waste_category",
        ", waste_category TEXT -- as the source calls it",
        "\nCREATE INDEX idx_{SCHEMA}_{VIEW_NAME}_waste_category ON {SCHEMA}.{VIEW_NAME} (waste_category);",
    )
    for tenant, schema in TENANTS.items():
        # A date minus an interval is a timestamp.
        rebuilt = warehouse.one(
            f"SELECT _wh.update_mv_window_by_template('{TEMPLATE}', '{tenant}', '{schema}', '{FIRST}'::date,"
            " _wh.current_date_utc() - INTERVAL '0 day')"
        )
        assert (rebuilt["success_count"], rebuilt["error_count"]) == (DAYS, 0)
        assert warehouse.one(f"SELECT _wh.update_tenant_union_view_by_template('{TEMPLATE}', '{schema}')") is True
    assert warehouse.one(f"SELECT _wh.update_public_view_by_template('{TEMPLATE}')") is True
    found = warehouse.session.execute(
        f"SELECT waste_category, count(*) FROM public.{TEMPLATE} GROUP BY waste_category ORDER BY 1".encode()
    ).fetchall()
    assert found == [("UNKNOWN", 8), ("peel", 4 * DAYS), ("rest", 6 * DAYS)]
    columns = warehouse.session.execute(f"SELECT * FROM public.{TEMPLATE} LIMIT 0".encode()).description
    assert [c.name for c in columns or ()] == ["id", "store", "weight", "logged_time", "waste_category", "schema_name"]
    years = "SELECT count(*) FROM pg_indexes WHERE indexname LIKE 'idx\\_%\\_waste\\_category'"
    assert warehouse.one(years) == 4 + 2 * DAYS


def test_no_password_is_to_be_found(warehouse: Warehouse) -> None:
    shown = "SELECT count(*) FROM pg_matviews WHERE definition LIKE '%s3cret%' OR definition LIKE '%password%'"
    assert warehouse.one(shown) == 0
    assert warehouse.one("SELECT count(*) FROM _wh.tenant_connections WHERE password IS NOT NULL") == 0
    kept = "SELECT count(*) FROM pg_user_mappings WHERE srvname LIKE 'wh\\_%' AND 'password=s3cret' = ANY (umoptions)"
    assert warehouse.one(kept) == 4  # of the administrator and of wh_admin, each with both tenants
    warehouse.session.execute("DELETE FROM _wh.tenant_connections WHERE tenant_name = 'bistro-prod'")
    assert warehouse.one("SELECT count(*) FROM pg_foreign_server") == 1


def test_a_drop_names_who_would_go_with_it(warehouse: Warehouse) -> None:
    warehouse.session.execute(f"CREATE VIEW public.bi AS SELECT store FROM public.{TEMPLATE}".encode())
    with pytest.raises(psycopg.errors.DependentObjectsStillExist, match="is used by bi"):
        warehouse.one(f"SELECT _wh.drop_public_view_by_template('{TEMPLATE}')")
    with pytest.raises(psycopg.errors.DependentObjectsStillExist, match=f"is used by landb.{TEMPLATE}|{TEMPLATE}"):
        warehouse.one(f"SELECT _wh.drop_current_year_mvs_by_template('{TEMPLATE}')")
    assert warehouse.one("SELECT count(*) FROM public.bi") > 0


def test_templates_with_a_common_beginning_keep_apart(warehouse: Warehouse) -> None:
    other = f"{TEMPLATE[:-1]}_"  # in LIKE, each would stand for the other
    names = (
        f"{TEMPLATE}x{YEAR}_01_01",
        f"{other}_{YEAR}_01_01",
        f"{TEMPLATE}_more_{YEAR}_01_01",
        f"{TEMPLATE}_{YEAR}_13_01",
    )
    for name in names:
        warehouse.session.execute(f'CREATE MATERIALIZED VIEW landb."{name}" AS SELECT 1 AS id'.encode())
    warehouse.one(f"SELECT _wh.drop_public_view_by_template('{TEMPLATE}')")
    warehouse.one(f"SELECT _wh.drop_all_tenant_union_views_by_template('{TEMPLATE}')")
    dropped = warehouse.one(f"SELECT _wh.drop_current_year_mvs_by_template('{TEMPLATE}')")
    assert dropped["success_count"] == 2 * DAYS
    left = warehouse.session.execute("SELECT matviewname FROM pg_matviews ORDER BY 1").fetchall()
    assert {row[0] for row in left} == set(names)


def test_a_day_that_fails_loses_no_other(warehouse: Warehouse) -> None:
    warehouse.one(f"SELECT _wh.drop_public_view_by_template('{TEMPLATE}')")
    warehouse.one(f"SELECT _wh.drop_all_tenant_union_views_by_template('{TEMPLATE}')")
    warehouse.one(f"SELECT _wh.drop_current_year_mvs_by_template('{TEMPLATE}')")
    broken = f", (SELECT 1 / (l.logged_time < '{TODAY}')::integer) AS waste_category"
    warehouse.template(broken, ", waste_category integer")
    warehouse.one(f"SELECT _wh.add_column_to_yearly_tables_by_template('{TEMPLATE}', 'waste_category', 'integer')")
    window = "SELECT _wh.update_mv_window_by_template(%s, 'landb-prod', 'landb', %s::date, %s::date)"
    result = warehouse.one(window, TEMPLATE, FIRST, TODAY)
    assert (result["success_count"], result["error_count"]) == (DAYS - 1, 1)
    [failed] = [r for r in result["results"] if not r["success"]]
    assert failed["date"] == str(TODAY)
    assert "division by zero" in failed["error"]
    assert warehouse.one("SELECT count(*) FROM _wh.log WHERE level = 'error'") == 1
    assert warehouse.one(f"SELECT count(*) FROM landb.{TEMPLATE}") == 4 + 5 * (DAYS - 1)


def test_a_view_with_other_columns_keeps_its_rights(warehouse: Warehouse) -> None:
    role = f"reader_{warehouse.one('SELECT current_database()')}"
    warehouse.session.execute(f"CREATE ROLE {role}".encode())
    try:
        warehouse.session.execute(f"GRANT SELECT ON public.{TEMPLATE} TO {role}".encode())
        warehouse.session.execute(f"COMMENT ON VIEW public.{TEMPLATE} IS 'for all'".encode())
        warehouse.session.execute("ALTER TABLE landb.foodlogstats RENAME TO kept")
        with pytest.raises(psycopg.errors.DependentObjectsStillExist):
            warehouse.session.execute("DROP VIEW landb.kept")
        warehouse.session.execute("ALTER VIEW landb.kept RENAME TO foodlogstats")
        warehouse.template(", NULL::text AS note", ", note text")
        put = "SELECT _wh.put_view('public', %s, 'SELECT id, weight FROM landb.foodlogstats')"
        warehouse.session.execute(put, [TEMPLATE])
        assert warehouse.one(f"SELECT has_table_privilege('{role}', 'public.{TEMPLATE}', 'SELECT')") is True
        assert warehouse.one(f"SELECT obj_description('public.{TEMPLATE}'::regclass)") == "for all"
    finally:
        warehouse.session.execute(f"DROP OWNED BY {role}".encode())
        warehouse.session.execute(f"DROP ROLE {role}".encode())


def test_parts_of_another_shape_are_named_and_not_mixed(warehouse: Warehouse) -> None:
    warehouse.session.execute(f"ALTER TABLE landb.{TEMPLATE}_{YEAR - 1} RENAME TO old".encode())
    warehouse.session.execute(
        f"CREATE TABLE landb.{TEMPLATE}_{YEAR - 1} AS SELECT weight, store, id FROM landb.old".encode()
    )
    with pytest.raises(psycopg.errors.RaiseException, match=f"{TEMPLATE}_{YEAR - 1}: .*logged_time is missing"):
        warehouse.one(f"SELECT _wh.update_tenant_union_view_by_template('{TEMPLATE}', 'landb')")


@pytest.mark.parametrize(
    ("written", "type_"),
    [
        ("VARCHAR(10)", "character varying(10)"),
        ("numeric(10, 2)", "numeric(10,2)"),
        ("numeric(5)", "numeric(5,0)"),
        ("timestamp(3) with time zone", "timestamp(3) with time zone"),
        ("timestamptz", "timestamp with time zone"),
        ("text[]", "text[]"),
        ("double  precision", "double precision"),
    ],
)
def test_a_type_is_written_as_postgresql_does(empty: Warehouse, written: str, type_: str) -> None:
    assert empty.one("SELECT _wh.type_of(%s)", written) == type_
    empty.session.execute(f"CREATE TABLE t (c {written})".encode())
    found = "SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 't'::regclass AND attname = 'c'"
    assert empty.one(found) == type_


@pytest.mark.parametrize("written", ["no_such_type", "int; DROP TABLE t", "int DEFAULT 7", "varchar(1); --", "int) --"])
def test_what_is_no_type_is_refused(empty: Warehouse, written: str) -> None:
    with pytest.raises(psycopg.Error):
        empty.one("SELECT _wh.add_column_to_yearly_tables_by_template(%s, 'c', %s)", TEMPLATE, written)


def test_reserved_words_and_defaults_are_quoted(warehouse: Warehouse) -> None:
    warehouse.one(f"SELECT _wh.add_column_to_yearly_tables_by_template('{TEMPLATE}', 'order', 'text', 'it''s', true)")
    assert warehouse.one(f'SELECT min("order") FROM landb.{TEMPLATE}_{YEAR - 1}') == "it's"
    default = "SELECT count(*) FROM pg_attrdef WHERE adrelid = %s::regclass"
    assert warehouse.one(default, f"landb.{TEMPLATE}_{YEAR - 1}") == 0


def test_index_names_that_are_too_long_stay_apart(warehouse: Warehouse) -> None:
    long = "a_column_with_a_name_that_says_a_lot"
    for name in (f"{long}_1", f"{long}_2"):
        warehouse.one("SELECT _wh.add_column_to_yearly_tables_by_template(%s, %s, 'text', NULL, true)", TEMPLATE, name)
    indexes = "SELECT count(*) FROM pg_indexes WHERE indexdef LIKE '%a_column_with%'"
    assert warehouse.one(indexes) == 8


def test_columns_of_years_are_modified_and_removed(warehouse: Warehouse) -> None:
    with pytest.raises(psycopg.errors.DependentObjectsStillExist, match=f"landb.{TEMPLATE}"):
        warehouse.one(f"SELECT _wh.remove_column_from_yearly_tables_by_template('{TEMPLATE}', 'store')")
    warehouse.one(f"SELECT _wh.drop_public_view_by_template('{TEMPLATE}')")
    warehouse.one(f"SELECT _wh.drop_all_tenant_union_views_by_template('{TEMPLATE}')")
    with pytest.raises(psycopg.errors.InvalidTextRepresentation):
        warehouse.one(f"SELECT _wh.modify_column_in_yearly_tables_by_template('{TEMPLATE}', 'store', 'integer')")
    changed = warehouse.one(f"SELECT _wh.modify_column_in_yearly_tables_by_template('{TEMPLATE}', 'weight', 'float8')")
    assert changed == {"success_count": 4, "error_count": 0, "column_name": "weight"}
    removed = warehouse.one(f"SELECT _wh.remove_column_from_yearly_tables_by_template('{TEMPLATE}', 'store')")
    assert removed == {"success_count": 4, "error_count": 0, "column_name": "store"}


def test_a_finished_year_is_folded(empty: Warehouse) -> None:
    year = YEAR - 1
    days = (dt.date(YEAR, 1, 1) - dt.date(year, 1, 1)).days
    with empty.sources["landb"].connect("test") as source:
        source.execute("UPDATE public.foodlog SET logged_time = make_date(%s, 7, 1)", [year])
    build = (
        "SELECT _wh.update_mv_window_by_template(%s, 'landb-prod', 'landb', make_date(%s, 1, 1), make_date(%s, 12, 30))"
    )
    assert empty.one(build, TEMPLATE, year, year)["success_count"] == days - 1
    fold = "SELECT _wh.create_combined_table_from_template_by_year(%s, 'landb', %s)"
    with pytest.raises(psycopg.errors.RaiseException, match=f"{year}-12-31"):
        empty.one(fold, TEMPLATE, year)
    empty.one("SELECT _wh.update_mv_by_template(%s, 'landb-prod', 'landb', make_date(%s, 12, 31))", TEMPLATE, year)
    before = empty.one(f"SELECT count(*) FROM landb.{TEMPLATE}")
    folded = empty.one(fold, TEMPLATE, year)
    assert (folded["rows"], folded["views"], folded["missing_dates"]) == (before, days, [])
    empty.one(f"SELECT _wh.update_tenant_union_view_by_template('{TEMPLATE}', 'landb')")
    assert empty.one(f"SELECT count(*) FROM landb.{TEMPLATE}") == before
    dropped = empty.one("SELECT _wh.drop_current_year_mvs_by_template(%s, %s)", TEMPLATE, year)
    assert dropped["success_count"] == days
    with pytest.raises(psycopg.errors.RaiseException, match="not over"):
        empty.one(fold, TEMPLATE, YEAR)


def test_a_template_can_be_taken_back(empty: Warehouse) -> None:
    empty.template(", NULL::text AS note", ", note text")
    empty.one("SELECT _wh.rollback_template(%s)", TEMPLATE)
    assert "note" not in empty.one("SELECT column_definitions FROM _wh.mv_templates")
    assert empty.one("SELECT max(version) FROM _wh.template_versions") == 3
    with pytest.raises(psycopg.errors.RaiseException, match="has no version 9"):
        empty.one("SELECT _wh.rollback_template(%s, 9)", TEMPLATE)


def test_a_tenant_that_does_not_answer_is_told(empty: Warehouse) -> None:
    assert empty.one("SELECT _wh.check_connection('landb-prod')")["success"] is True
    empty.session.execute("UPDATE _wh.tenant_connections SET dbname = 'nowhere' WHERE tenant_name = 'landb-prod'")
    with pytest.raises(AssertionError):
        assert empty.one("SELECT _wh.check_connection('landb-prod')")["success"] is True
    assert "s3cret" not in str(empty.one("SELECT _wh.check_connection('landb-prod')"))


def test_install_and_verify(target: Target, connection: Connection) -> None:
    assert verify(connection).version is None
    assert install(connection) is True
    assert install(connection) is False
    assert verify(connection).is_complete
    connection.execute(
        "CREATE OR REPLACE FUNCTION _wh.log_info(message text, context jsonb DEFAULT '{}') RETURNS void"
        " LANGUAGE sql AS 'SELECT 1 WHERE false'"
    )
    connection.execute("DROP FUNCTION _wh.check_connection")
    assert verify(connection).differences == (
        "_wh.check_connection(text) is missing",
        "_wh.log_info(text,jsonb) is not as it was installed",
    )
    assert install(connection) is True
    assert verify(connection).is_complete
    connection.execute("INSERT INTO _wh.toolkit_version (version) VALUES (%s)", [VERSION + 1])
    with pytest.raises(ConfigurationError, match="newer than this release"):
        install(connection)


def test_functions_of_their_own_are_left_alone(connection: Connection) -> None:
    connection.execute("CREATE SCHEMA _wh")
    connection.execute(
        "CREATE FUNCTION _wh.update_public_view_by_template(t text) RETURNS boolean LANGUAGE sql AS 'SELECT true'"
    )
    with pytest.raises(ConfigurationError, match="update_public_view_by_template"):
        install(connection)


def test_the_command(target: Target, connection: Connection, capsys: pytest.CaptureFixture[str]) -> None:
    p = target.parameters
    where = ["--target", f"postgresql://{p['user']}@{p['host']}:{p['port']}/{p['dbname']}"]
    assert main(["warehouse", "verify", *where]) == 1
    assert main(["warehouse", "install", *where]) == 0
    assert main(["warehouse", "verify", *where]) == 0
    assert "as it was installed" in capsys.readouterr().out
