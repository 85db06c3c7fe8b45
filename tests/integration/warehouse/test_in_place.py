"""The runbook's controlled partial reconstruction as a change: the same result, taken back without the sources."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from schema_change.core.errors import PlanError
from schema_change.core.names import Table
from tests.bench import Bench
from tests.integration.warehouse.conftest import Change
from tests.integration.warehouse.test_change import ADD, DAYS, OLD, YEARS, columns, landed, nothing_is_left
from tests.integration.warehouse.test_hazards import away
from tests.integration.warehouse.warehouse import FIRST, TEMPLATE, TENANTS, TODAY, Warehouse

IN_PLACE = {"strategy": "rebuild_in_place"}
MODIFY = {"template": TEMPLATE, "column": "weight", "type": "double precision"}
REMOVE = {"template": TEMPLATE, "column": "store"}
CHANGES = [("add", ADD), ("modify", MODIFY), ("remove", REMOVE)]
TABLES = [Table(schema, f"{TEMPLATE}_{year}") for schema in TENANTS.values() for year in YEARS]


def test_a_column_is_added(warehouse: Warehouse, change: Change) -> None:
    warehouse.session.execute(f"CREATE VIEW public.bi AS SELECT id FROM public.{TEMPLATE}".encode())
    warehouse.session.execute("GRANT SELECT ON public.bi TO wh_read")
    before = warehouse.one(f"SELECT count(*) FROM public.{TEMPLATE}")
    landed(change("warehouse_add_column", {**ADD, **IN_PLACE, "index": True}))
    assert columns(warehouse, f"public.{TEMPLATE}") == [*OLD[:-1], "waste_category", "schema_name"]
    found = warehouse.session.execute(
        f"SELECT waste_category, count(*) FROM public.{TEMPLATE} GROUP BY 1 ORDER BY 1".encode()
    ).fetchall()
    assert found == [("UNKNOWN", 8), ("peel", 4 * DAYS), ("rest", 6 * DAYS)]
    assert warehouse.one("SELECT count(*) FROM public.bi") == before
    assert warehouse.one("SELECT has_table_privilege('wh_read', 'public.bi', 'SELECT')") is True
    nothing_is_left(warehouse)


def test_a_type_is_modified_and_a_column_removed(warehouse: Warehouse, change: Change) -> None:
    total = warehouse.one(f"SELECT sum(weight) FROM public.{TEMPLATE}")
    landed(change("warehouse_modify_column", {**MODIFY, **IN_PLACE, "using": "weight * 2"}))
    assert warehouse.one(f"SELECT sum(weight) FROM public.{TEMPLATE}") == float(total) * 2
    landed(change("warehouse_remove_column", {**REMOVE, **IN_PLACE}))
    assert columns(warehouse, f"public.{TEMPLATE}") == [c for c in OLD if c != "store"]
    left = (
        "SELECT count(*) FROM pg_attribute WHERE attname ~ 'store|schema_change' AND NOT attisdropped"
        " AND attrelid IN (SELECT part_oid FROM _wh.parts_of(%s))"
    )
    assert warehouse.one(left, TEMPLATE) == 0
    nothing_is_left(warehouse)


@pytest.mark.parametrize(("kind", "body"), CHANGES, ids=[kind for kind, _ in CHANGES])
def test_rollback_gives_the_old_days_back_and_asks_no_source(
    warehouse: Warehouse, change: Change, bench: Bench, kind: str, body: dict[str, Any]
) -> None:
    warehouse.session.execute(f"CREATE VIEW public.bi AS SELECT id FROM public.{TEMPLATE}".encode())
    rows, state = warehouse.rows(), bench.state(*TABLES)
    run = change(f"warehouse_{kind}_column", {**body, **IN_PLACE}, stop_before="contract", skip_rehearsal=True)
    assert run.error is None, run.error
    for tenant in TENANTS:
        away(warehouse, tenant)
    run.finish()
    assert bench.state(*TABLES) == state
    assert warehouse.rows() == rows
    nothing_is_left(warehouse)


@pytest.mark.parametrize("lands", [True, False])
def test_the_daily_work_goes_on_for_both_ends(warehouse: Warehouse, change: Change, lands: bool) -> None:
    run = change("warehouse_remove_column", {**REMOVE, **IN_PLACE}, stop_before="validate", skip_rehearsal=True)
    with warehouse.sources["landb"].connect("test") as source:
        source.execute(f"INSERT INTO public.foodlog VALUES (2000001, 1, 1.5, '{TODAY} 12:00+00', 'peel')".encode())
    tomorrow = TODAY + dt.timedelta(days=1)
    for day in (TODAY, tomorrow):
        warehouse.one("SELECT _wh.update_mv_by_template(%s, 'landb-prod', 'landb', %s)", TEMPLATE, day)
    if lands:
        for stage in ("validate", "soak", "contract"):
            assert run.try_stage(stage), run.error
    run.finish()
    assert columns(warehouse, f"public.{TEMPLATE}") == [c for c in OLD if not (lands and c == "store")]
    assert columns(warehouse, f"landb.{TEMPLATE}_{tomorrow:%Y_%m_%d}") == columns(warehouse, f"public.{TEMPLATE}")[:-1]
    assert warehouse.one(f"SELECT count(*) FROM public.{TEMPLATE} WHERE id = 2000001") == 1
    nothing_is_left(warehouse)


def test_what_a_source_has_lost_is_not_lost_here(warehouse: Warehouse, change: Change) -> None:
    day = f"landb.{TEMPLATE}_{FIRST:%Y_%m_%d}"
    warehouse.session.execute(f"COMMENT ON MATERIALIZED VIEW {day} IS 'the first one'".encode())
    rows = warehouse.rows()
    with warehouse.sources["landb"].connect("test") as source:
        source.execute("DELETE FROM public.foodlog WHERE id = 1")
    run = change("warehouse_add_column", {**ADD, **IN_PLACE}, skip_rehearsal=True)
    assert "wave 1 of template foodlogstats does not have what was there: landb" in str(run.error)
    assert warehouse.rows() == rows
    assert warehouse.one(f"SELECT obj_description('{day}'::regclass)") == "the first one"
    nothing_is_left(warehouse)


def test_a_view_made_of_a_day_is_named(warehouse: Warehouse, change: Change) -> None:
    warehouse.session.execute(f"CREATE VIEW public.mine AS SELECT id FROM landb.{TEMPLATE}_{TODAY:%Y_%m_%d}".encode())
    rows = warehouse.rows()
    run = change("warehouse_add_column", {**ADD, **IN_PLACE}, skip_rehearsal=True)
    assert "is used by mine" in str(run.error)
    assert warehouse.rows() == rows
    nothing_is_left(warehouse)


def test_a_rebuild_that_fails_gives_readers_their_view_back(warehouse: Warehouse, change: Change) -> None:
    with warehouse.sources["bistro"].connect("test") as source:
        source.execute("ALTER TABLE public.foodlog RENAME COLUMN waste_category TO category")
    run = change("warehouse_add_column", {**ADD, **IN_PLACE})
    assert run.error is not None
    assert "waste_category" in run.error.message
    assert columns(warehouse, f"public.{TEMPLATE}") == OLD
    assert warehouse.one(f"SELECT count(*) FROM public.{TEMPLATE}") == 2 * (4 + 5 * DAYS)
    nothing_is_left(warehouse)


@pytest.mark.parametrize("more", [{"tenants": ["landb"]}, {"source_down": "skip"}])
def test_it_is_of_every_tenant(warehouse: Warehouse, change: Change, more: dict[str, Any]) -> None:
    with pytest.raises(AssertionError):
        landed(run := change("warehouse_add_column", {**ADD, **IN_PLACE, **more}))
    assert isinstance(run.error, PlanError)
