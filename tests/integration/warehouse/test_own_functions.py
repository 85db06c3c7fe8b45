"""A warehouse that has functions of its own, by the runbook's names or by later ones: a change calls them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from schema_change.core.database import Target
from schema_change.core.errors import PlanError
from schema_change.core.names import Table
from schema_change.core.warehouse.own import LATER_NAMES
from tests.bench import Bench
from tests.integration.warehouse.conftest import Change, change_of
from tests.integration.warehouse.test_change import ADD, DAYS, OLD, YEARS, columns, landed
from tests.integration.warehouse.test_hazards import is_in_no_file
from tests.integration.warehouse.warehouse import FIRST, TEMPLATE, TENANTS, TODAY, Warehouse

FUNCTIONS = Path(__file__).with_name("own_functions.sql")
TABLES = [Table(schema, f"{TEMPLATE}_{year}") for schema in TENANTS.values() for year in YEARS]
VIEWS = [Table(schema, TEMPLATE) for schema in ("public", *TENANTS.values())]
IN_PLACE = {**ADD, "strategy": "rebuild_in_place"}


def own_warehouse(session: Any, sources: dict[str, Target], *, later: bool) -> Warehouse:
    text = FUNCTIONS.read_text(encoding="utf-8")
    names = LATER_NAMES if later else {}
    for name, other in names.items():
        text = text.replace(f"_wh.{name}(", f"_wh.{other}(")
    session.execute(text.encode())
    warehouse = Warehouse(session, sources)
    warehouse.describe()
    for tenant, schema in TENANTS.items():
        session.execute(f"CREATE SCHEMA {schema}".encode())
        for year in YEARS:
            warehouse.year_table(schema, year)
        window = names.get("update_mv_window_by_template", "update_mv_window_by_template")
        made = warehouse.one(f"SELECT _wh.{window}(%s, %s, %s, %s, %s)", TEMPLATE, tenant, schema, FIRST, TODAY)
        assert made == {"success_count": DAYS, "error_count": 0}
    public = names.get("update_public_view_by_template", "update_public_view_by_template")
    assert warehouse.one(f"SELECT _wh.{public}(%s)", TEMPLATE) is True
    session.execute("CREATE ROLE own_reports")
    session.execute(f"GRANT SELECT ON public.{TEMPLATE} TO own_reports".encode())
    session.execute(f"COMMENT ON VIEW landb.{TEMPLATE} IS 'of landb'".encode())
    return warehouse


@pytest.fixture(params=["runbook", "later"])
def own(target: Target, sources: dict[str, Target], request: pytest.FixtureRequest) -> Iterator[Warehouse]:
    with target.connect("admin") as session:
        session.execute("SET search_path = public")
        yield own_warehouse(session, sources, later=request.param == "later")
        session.execute("DROP OWNED BY own_reports")
        session.execute("DROP ROLE own_reports")


@pytest.fixture
def change(bench: Bench, own: Warehouse) -> Change:
    return change_of(bench)


by_the_runbooks_names = pytest.mark.parametrize("own", ["runbook"], indirect=True)


def test_a_column_is_added(own: Warehouse, change: Change) -> None:
    landed(run := change("warehouse_add_column", {**IN_PLACE, "index": True}))
    assert columns(own, f"public.{TEMPLATE}") == [*OLD[:-1], "waste_category", "schema_name"]
    found = own.session.execute(
        f"SELECT waste_category, count(*) FROM public.{TEMPLATE} GROUP BY 1 ORDER BY 1".encode()
    ).fetchall()
    assert found == [("UNKNOWN", 8), ("peel", 4 * DAYS), ("rest", 6 * DAYS)]
    assert "waste_category" in own.one("SELECT column_definitions FROM _wh.mv_templates")
    assert own.one("SELECT has_table_privilege('own_reports', %s, 'SELECT')", f"public.{TEMPLATE}") is True
    assert own.one("SELECT obj_description(%s::regclass)", f"landb.{TEMPLATE}") == "of landb"
    assert own.one("SELECT to_regclass('schema_change.toolkit_version')") is None
    [counts] = run.results["validate"].data["counts"]
    assert [(row[0], row[1]) for row in counts["rows"]] == [("bistro", 4 + 5 * DAYS), ("landb", 4 + 5 * DAYS)]
    assert len(run.results["validate"].data["sentinels"]) == 2
    notices = " ".join(run.results["plan"].data["notices"])
    assert "nobody can read" in notices
    assert "passwords in them" in notices


@by_the_runbooks_names
def test_rollback_makes_what_was_there(own: Warehouse, change: Change, bench: Bench) -> None:
    state, count = bench.state(*TABLES), own.one(f"SELECT count(*) FROM public.{TEMPLATE}")
    run = change("warehouse_add_column", {**IN_PLACE, "index": True}, stop_before="contract")
    assert run.error is None, run.error
    run.finish()
    assert own.one("SELECT status FROM schema_change.run") == "rolled_back"
    assert bench.state(*TABLES) == state
    assert own.one(f"SELECT count(*) FROM public.{TEMPLATE}") == count


@by_the_runbooks_names
def test_an_error_that_is_only_returned_is_raised(own: Warehouse, change: Change, bench: Bench) -> None:
    with own.sources["bistro"].connect("test") as source:
        source.execute("ALTER TABLE public.foodlog RENAME COLUMN waste_category TO category")
    state = bench.state(*TABLES)
    run = change("warehouse_add_column", IN_PLACE, skip_rehearsal=True)
    assert run.error is not None
    assert "error_count" in run.error.message
    assert bench.state(*TABLES) == state
    assert own.one(f"SELECT count(*) FROM public.{TEMPLATE}") == 2 * (4 + 5 * DAYS)


@by_the_runbooks_names
def test_a_day_that_has_not_what_it_had_rolls_back(own: Warehouse, change: Change, bench: Bench) -> None:
    with own.sources["bistro"].connect("test") as source:
        source.execute("UPDATE public.foodlog SET weight = weight + 1 WHERE id = 1")
    state = bench.state(*TABLES)
    run = change("warehouse_add_column", IN_PLACE, skip_rehearsal=True)
    assert run.error is not None
    assert f"bistro.{TEMPLATE}_{FIRST:%Y_%m_%d} was" in run.error.message
    assert bench.state(*TABLES) == state


@by_the_runbooks_names
def test_what_its_functions_would_drop_besides_stops_them(own: Warehouse, change: Change, bench: Bench) -> None:
    # The pattern of the runbook's function fits this view too.
    own.session.execute(f"CREATE MATERIALIZED VIEW landb.{TEMPLATE}_{TODAY.year}_summary AS SELECT 1 AS one".encode())
    state = bench.state(*TABLES)
    run = change("warehouse_add_column", IN_PLACE, skip_rehearsal=True)
    assert run.error is not None
    assert f"{TEMPLATE}_{TODAY.year}_summary" in run.error.message
    assert bench.state(*TABLES) == state


@by_the_runbooks_names
@pytest.mark.parametrize(
    ("kind", "body", "says"),
    [
        ("add", {**ADD}, "cannot build days beside"),
        ("add", {**IN_PLACE, "tenants": ["landb"]}, "would be left out"),
        ("add", {**IN_PLACE, "source_down": "stop"}, "in their own way"),
        (
            "remove",
            {"template": TEMPLATE, "column": "store", "strategy": "rebuild_in_place"},
            "none of them can remove",
        ),
    ],
)
def test_what_they_cannot_do_is_refused(
    own: Warehouse, change: Change, kind: str, body: dict[str, Any], says: str
) -> None:
    run = change(f"warehouse_{kind}_column", body)
    assert isinstance(run.error, PlanError)
    assert says in run.error.message
    assert columns(own, f"public.{TEMPLATE}") == OLD


@by_the_runbooks_names
def test_what_would_be_mixed_up_or_lost_is_refused(own: Warehouse, change: Change) -> None:
    own.session.execute(f"CREATE VIEW public.bi AS SELECT id FROM public.{TEMPLATE}".encode())
    assert isinstance((run := change("warehouse_add_column", IN_PLACE)).error, PlanError)
    assert "public.bi" in run.error.message
    own.session.execute("DROP VIEW public.bi")
    own.session.execute(f"ALTER TABLE landb.{TEMPLATE}_{YEARS[0]} ADD COLUMN note text".encode())
    assert isinstance((run := change("warehouse_add_column", IN_PLACE)).error, PlanError)
    assert "by the places of the columns" in run.error.message


@by_the_runbooks_names
def test_rows_with_passwords_are_not_copied(own: Warehouse, change: Change, bench: Bench) -> None:
    # Of the days, whose definitions have the old one, a dump has the definitions.
    own.session.execute("UPDATE _wh.tenant_connections SET password = 'm4rker'")
    run = change("warehouse_add_column", IN_PLACE, stop_before="migrate")
    assert run.error is None
    is_in_no_file(b"m4rker", bench)
    is_in_no_file(b"m4rker", bench)
