"""The runbook's controlled partial reconstruction as a change: the same result, taken back by rebuilding."""

from __future__ import annotations

from typing import Any

import pytest

from schema_change.core.errors import PlanError
from schema_change.core.names import Table
from tests.bench import Bench
from tests.integration.warehouse.conftest import OLDEST_IS_SLOW, Change
from tests.integration.warehouse.test_change import ADD, DAYS, OLD, YEARS, columns, landed, nothing_is_left
from tests.integration.warehouse.warehouse import TEMPLATE, TENANTS, Warehouse

pytestmark = OLDEST_IS_SLOW
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
def test_rollback_rebuilds_what_was_there(
    warehouse: Warehouse, change: Change, bench: Bench, kind: str, body: dict[str, Any]
) -> None:
    warehouse.session.execute(f"CREATE VIEW public.bi AS SELECT id FROM public.{TEMPLATE}".encode())
    count = warehouse.one(f"SELECT count(*) FROM public.{TEMPLATE}")
    state = bench.state(*TABLES)
    run = change(f"warehouse_{kind}_column", {**body, **IN_PLACE}, stop_before="contract", skip_rehearsal=True)
    assert run.error is None, run.error
    run.finish()
    assert bench.state(*TABLES) == state
    assert warehouse.one(f"SELECT count(*) FROM public.{TEMPLATE}") == count
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
