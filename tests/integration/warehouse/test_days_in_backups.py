"""Rows of daily views are in the backups of runs, and come back while the tenants' sources are away."""

from __future__ import annotations

import datetime as dt
import gzip
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from psycopg import sql
from upath import UPath

from schema_change.cli.main import main
from schema_change.core.backup.days import refill_days
from schema_change.core.backup.dump import take_backup
from schema_change.core.backup.manifest import Manifest, read_manifest, write_manifest
from schema_change.core.backup.scratch import restore_to_scratch, scratch_name
from schema_change.core.database import Connection, Target
from schema_change.core.errors import BackupError
from schema_change.core.stages.restore import restore_run
from tests.bench import Run
from tests.integration.warehouse.conftest import Change
from tests.integration.warehouse.test_change import ADD, DAYS, landed
from tests.integration.warehouse.test_hazards import away
from tests.integration.warehouse.test_upkeep import where
from tests.integration.warehouse.warehouse import TEMPLATE, TENANTS, TODAY, Warehouse
from tests.memory import held

TOMORROW = TODAY + dt.timedelta(days=1)
KEPT = "SELECT to_regnamespace('_wh_kept')::text"
#: What a day is besides its rows; its definition asks the source, and is not another one after a restore.
DEFINITIONS = f"""
    SELECT jsonb_object_agg(v.name, jsonb_build_array(
        pg_get_viewdef(v.oid), c.relacl::text, c.relowner::regrole::text, obj_description(v.oid),
        (
            SELECT jsonb_agg(d.definition ORDER BY d.definition)
            FROM pg_index AS i, pg_get_indexdef(i.indexrelid) AS d (definition)
            WHERE i.indrelid = v.oid
        )
    ))
    FROM (
        SELECT format('%I.%I', schema_name, part_name), part_oid FROM _wh.parts_of('{TEMPLATE}') WHERE NOT is_table
        UNION ALL
        SELECT 'public', 'public.{TEMPLATE}'::regclass
    ) AS v (name, oid)
    INNER JOIN pg_class AS c ON v.oid = c.oid
"""


def manifest_of(run: Run) -> Manifest:
    return read_manifest(run.request.backup_folder)


@pytest.fixture
def restored(warehouse: Warehouse, target: Target) -> Iterator[list[str]]:
    """Names of databases that a restore has kept, to be dropped."""
    kept: list[str] = []
    yield kept
    with target.with_database("postgres").connect("test") as admin:
        for name in kept:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def test_a_whole_restore_gives_the_days_back_and_asks_no_source(
    warehouse: Warehouse, change: Change, target: Target, restored: list[str]
) -> None:
    # One tenant's days have a column more than those of the other, and one day is empty.
    landed(change("warehouse_add_column", {**ADD, "tenants": ["landb"]}, skip_backup=True, skip_rehearsal=True))
    warehouse.one("SELECT _wh.update_mv_by_template(%s, 'landb-prod', 'landb', %s)", TEMPLATE, TOMORROW)
    day = f"landb.{TEMPLATE}_{TODAY:%Y_%m_%d}"
    warehouse.session.execute(f"COMMENT ON MATERIALIZED VIEW {day} IS 'today'".encode())
    warehouse.session.execute(f"ALTER TABLE landb.{TEMPLATE}_{TOMORROW:%Y_%m_%d} OWNER TO wh_admin".encode())
    warehouse.session.execute(f"CREATE MATERIALIZED VIEW public.totals AS SELECT count(*) FROM {day}".encode())
    rows, definitions = warehouse.rows(), warehouse.one(DEFINITIONS)
    run = change("warehouse_add_column", ADD, backup_scope="database", skip_rehearsal=True)
    landed(run)
    assert [len(days.days) for days in manifest_of(run).days] == [DAYS, DAYS + 1]
    assert warehouse.one(KEPT) is None
    for tenant in TENANTS:
        away(warehouse, tenant)
    result = restore_run(target, run.request.run_id, database=True, terminate_sessions=True, note=lambda _: None)
    restored.append(str(result.kept_database))
    assert [notice for notice in result.notices if "not filled" in notice or "not populated" in notice] == []
    with target.connect("test") as session:
        session.execute("SET search_path = public")
        copy = Warehouse(session, warehouse.sources)
        assert copy.rows() == rows
        assert copy.one(DEFINITIONS) == definitions
        assert copy.one("SELECT count FROM totals") == rows[day][0]
        assert copy.one(KEPT) is None
        # dblink asks sources again.
        with pytest.raises(Exception, match="could not"):
            copy.one("SELECT _wh.update_mv_by_template(%s, 'landb-prod', 'landb')", TEMPLATE)
        for tenant in TENANTS:
            away(copy, tenant, away=False)
        with warehouse.sources["landb"].connect("test") as source:
            source.execute(f"INSERT INTO public.foodlog VALUES (2000001, 1, 1.5, '{TODAY} 12:00+00', 'peel')".encode())
        assert copy.one("SELECT _wh.update_mv_by_template(%s, 'landb-prod', 'landb')", TEMPLATE) is True
        assert copy.one(f"SELECT count(*) FROM public.{TEMPLATE}") == rows[f"public.{TEMPLATE}"][0] + 1


def test_lost_days_come_back_from_the_backup_of_a_run(
    warehouse: Warehouse, change: Change, target: Target, capsys: pytest.CaptureFixture[str]
) -> None:
    run = change("warehouse_add_column", ADD, stop_before="migrate", skip_rehearsal=True)
    run.finish()
    rows, definitions = warehouse.rows(), warehouse.one(DEFINITIONS)
    for tenant in TENANTS:
        away(warehouse, tenant)
    warehouse.one("SELECT _wh.drop_public_view_by_template(%s)", TEMPLATE)
    warehouse.one("SELECT _wh.drop_all_tenant_union_views_by_template(%s)", TEMPLATE)
    warehouse.session.execute(f"DROP MATERIALIZED VIEW landb.{TEMPLATE}_{TODAY:%Y_%m_%d}".encode())
    warehouse.session.execute(f"REFRESH MATERIALIZED VIEW bistro.{TEMPLATE}_{TODAY:%Y_%m_%d} WITH NO DATA".encode())
    capsys.readouterr()
    assert main(["warehouse", "refill", "--run", str(run.request.run_id), *where(target)]) == 0
    assert f"of {2 * DAYS} daily views" in capsys.readouterr().out
    for schema in TENANTS.values():
        warehouse.one("SELECT _wh.update_tenant_union_view_by_template(%s, %s)", TEMPLATE, schema)
    warehouse.one("SELECT _wh.update_public_view_by_template(%s)", TEMPLATE)
    assert warehouse.rows() == rows
    assert warehouse.one(DEFINITIONS) == definitions
    assert warehouse.one(KEPT) is None


def test_days_of_another_shape_are_named_and_left_as_they_are(
    warehouse: Warehouse, change: Change, target: Target, capsys: pytest.CaptureFixture[str]
) -> None:
    run = change("warehouse_add_column", ADD)
    landed(run)
    day = f"landb.{TEMPLATE}_{TODAY:%Y_%m_%d}"
    warehouse.session.execute(f"REFRESH MATERIALIZED VIEW {day} WITH NO DATA".encode())
    assert main(["warehouse", "refill", "--run", str(run.request.run_id), *where(target)]) == 1
    assert f"landb: {TEMPLATE} of {TODAY} is not filled: " in capsys.readouterr().out
    assert warehouse.one("SELECT relispopulated FROM pg_class WHERE oid = %s::regclass", day) is False
    # dblink is what it was: it asks the source.
    warehouse.session.execute(f"REFRESH MATERIALIZED VIEW {day}".encode())


def test_who_may_not_stand_in_for_dblink_is_told(warehouse: Warehouse, change: Change, target: Target) -> None:
    run = change("warehouse_add_column", ADD, stop_before="pre_check")
    clerk = sql.Identifier(name := f"clerk_{run.request.run_id.hex[:8]}")
    database = sql.Identifier(target.database)
    session = warehouse.session
    session.execute(
        sql.SQL("CREATE ROLE {0} LOGIN IN ROLE wh_admin; GRANT CREATE ON DATABASE {1} TO {0}").format(clerk, database)
    )
    folder = Path(run.request.backup_folder.path)
    try:
        with pytest.raises(BackupError, match="days cannot be filled without their sources") as caught:
            refill_days(Target("t", {**target.parameters, "user": name}), manifest_of(run).days, folder)
        assert "superuser" in str(caught.value.hint)
        assert warehouse.one(KEPT) is None
    finally:
        session.execute(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(clerk))


def back_up(target: Target, run: Run, folder: Path, *templates: str) -> Manifest:
    return take_backup(target, (), UPath(folder), everything=False, run_id=run.request.run_id, templates=templates)


def test_rows_pass_in_blocks_and_are_compared(
    warehouse: Warehouse, change: Change, target: Target, connection: Connection, tmp_path: Path
) -> None:
    run = change("warehouse_add_column", ADD, stop_before="approve")
    with warehouse.sources["landb"].connect("test") as source:
        source.execute("INSERT INTO public.store SELECT 3, repeat('x', 39)")
        rows = f"SELECT g, 3, 1, '{TODAY} 12:00+00' FROM generate_series(1000, 200000) AS g"
        source.execute(f"INSERT INTO public.foodlog {rows}".encode())
    warehouse.one("SELECT _wh.update_mv_by_template(%s, 'landb-prod', 'landb')", TEMPLATE)
    with held() as most:
        manifest = back_up(target, run, tmp_path, TEMPLATE)
    # About 17 MB of text.
    assert most() < 8 << 20
    (days,) = manifest.days
    assert days.rows == warehouse.one(f"SELECT count(*) FROM public.{TEMPLATE}") - 8
    with gzip.open(tmp_path / days.file, "rt", encoding="utf-8") as lines:
        assert sum(1 for _ in lines) == days.rows
    name = scratch_name(run.request.run_id)
    write_manifest(UPath(tmp_path), replace(manifest, days=(replace(days, checksum="1"),)))
    with pytest.raises(BackupError, match=f"the days of {TEMPLATE} differ from the backup"):
        restore_to_scratch(UPath(tmp_path), target, name)
    assert back_up(target, run, tmp_path / "without").days == ()
