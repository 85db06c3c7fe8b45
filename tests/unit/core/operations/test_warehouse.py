"""The operations on templates of the warehouse: what is built beside, exchanged and retired, and in which order."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest

from schema_change.core.catalog.model import Catalog, Column, Constraint, Index, Relation, Use
from schema_change.core.errors import PlanError
from schema_change.core.model import LockMode, NewRows, Phase, Step
from schema_change.core.names import Table, hashed_name
from schema_change.core.operations import catalogue
from schema_change.core.operations.base import PlanContext, Planned
from schema_change.core.warehouse.template import Template, Tenant

TYPES = {"id": "bigint", "store": "text", "weight": "numeric(10,2)"}
SCHEMAS = ("bistro", "cafe_nord", "cafe_sued", "landb")
YEARS = tuple(Table(schema, "sales_2025") for schema in SCHEMAS)
TEMPLATE = Template(
    name="sales",
    query="SELECT l.id, l.store, l.weight FROM log l WHERE l.at >= '{TARGET_DATE}'",
    columns=tuple(TYPES.items()),
    indexes="CREATE UNIQUE INDEX i_{SCHEMA}_{VIEW_NAME} ON {SCHEMA}.{VIEW_NAME} (id);",
    tenants=tuple(Tenant(schema, TYPES) for schema in SCHEMAS),
    years=YEARS,
    days=40,
    rows=1200,
    key=("id",),
)
ADD = {"template": "sales", "column": "category", "type": "text", "expression": "l.category", "default": "'UNKNOWN'"}
MODIFY = {"template": "sales", "column": "weight", "type": "double precision"}
REMOVE = {"template": "sales", "column": "store"}
ALL = [("warehouse_add_column", ADD), ("warehouse_modify_column", MODIFY), ("warehouse_remove_column", REMOVE)]
every = pytest.mark.parametrize(("kind", "body"), ALL, ids=[kind for kind, _ in ALL])


def year(table: Table, **changes: Any) -> Relation:
    """A yearly table, which its tenant's view is made of."""
    view = f"{table.schema}.sales"
    return replace(
        Relation(
            table,
            "r",
            "wh_admin",
            columns=tuple(Column(name, type_) for name, type_ in TYPES.items()),
            dependants=(f"view {view}",),
            uses=(Use("view", view, tuple(TYPES)),),
            rows=300,
        ),
        **changes,
    )


def views(*upon_public: Use) -> list[Relation]:
    """The tenants' views, of which the public one is made, and that."""
    public = Use("view", "public.sales", tuple(TYPES))
    tenants = [Relation(Table(schema, "sales"), "v", "wh_admin", uses=(public,)) for schema in SCHEMAS]
    return [*tenants, Relation(Table("public", "sales"), "v", "wh_admin", uses=upon_public)]


def plan(
    kind: str, body: dict[str, Any], template: Template | None = TEMPLATE, *years: Relation, **more: Any
) -> Planned:
    tables = {r.table: r for r in (*map(year, YEARS), *views(), *years)}
    known = None if template is None else {template.name: template}
    catalog = Catalog(180000, tables, templates=known)
    return catalogue()[kind].model_validate({**body, **more}).plan(catalog, PlanContext("1", live=catalog))


SCHEMAS = ("bistro", "cafe_nord", "cafe_sued", "landb")


def titles(planned: Planned, phase: Phase) -> list[str]:
    return [s.title for s in planned.steps if s.phase is phase]


def named(planned: Planned, start: str) -> Step:
    [step] = [s for s in planned.steps if s.title.startswith(start)]
    return step


@every
def test_the_views_are_exchanged_once_everything_is_built(kind: str, body: dict[str, Any]) -> None:
    planned = plan(kind, body)
    assert titles(planned, Phase.EXPAND)[0] == "begin the change of template sales"
    assert titles(planned, Phase.BACKFILL)[-2:] == [
        "build the days of sales for bistro, cafe_nord, cafe_sued, landb",
        "check wave 1 of sales against the days that are there",
    ]
    cutover = titles(planned, Phase.CUTOVER)
    made = cutover.index("make the new views of sales beside those that are read")
    assert cutover[-2:] == ["exchange the views of sales", "read every view of sales, and the log of the warehouse"]
    # So that no session has to load the days of every tenant with the exchange.
    early = [f"let public.sales read the new days of {s}, in its old shape" for s in SCHEMAS]
    assert cutover[made + 1 : -2] == early
    contract = titles(planned, Phase.CONTRACT)
    assert contract[0] == "drop the old views of sales"
    assert contract[-3:] == [
        "put the new days of sales in the places of the old ones",
        "drop the old days of sales",
        "finish the change of template sales",
    ]


@every
def test_only_the_exchange_holds_up_readers_of_the_views(kind: str, body: dict[str, Any]) -> None:
    planned = plan(kind, body)
    exchange = named(planned, "exchange the views")
    assert exchange.lock is LockMode.ACCESS_EXCLUSIVE
    assert exchange.tables == (Table("public", "sales"), *(Table(schema, "sales") for schema in SCHEMAS))
    assert exchange.undo_lock is LockMode.ACCESS_EXCLUSIVE
    others = [s for s in planned.steps if Table("public", "sales") in s.tables and s is not exchange]
    assert all(s.title.endswith("in its old shape") for s in others)
    for step in planned.steps:
        if step.phase is not Phase.CONTRACT and step.lock is LockMode.ACCESS_EXCLUSIVE:
            assert step.undo, step.title


@every
def test_the_plan_says_what_is_written_and_read(kind: str, body: dict[str, Any]) -> None:
    planned = plan(kind, body)
    assert planned.written == YEARS
    assert planned.touched == (Table("public", "sales"),)
    assert Table("_wh", "mv_templates") in planned.read
    assert "4 of 4 tenants, 40 daily views and 4 yearly tables with about 1,200 rows" in planned.notices
    assert any("twice the disk space" in notice for notice in planned.notices)


@every
def test_the_canary_is_built_and_checked_before_the_others(kind: str, body: dict[str, Any]) -> None:
    planned = plan(kind, body, canary=["landb"])
    assert titles(planned, Phase.BACKFILL)[-4:] == [
        "build the days of sales for landb",
        "check wave 1 of sales against the days that are there",
        "build the days of sales for bistro, cafe_nord, cafe_sued",
        "check wave 2 of sales against the days that are there",
    ]
    assert waves(planned) == [["landb"], ["bistro", "cafe_nord", "cafe_sued"]]
    assert waves(plan(kind, body, tenants=["landb"], canary=["landb"])) == [["landb"]]


@every
def test_tenants_that_were_not_asked_for_keep_what_they_have(kind: str, body: dict[str, Any]) -> None:
    planned = plan(kind, body, tenants=["cafe_*"])
    assert planned.written == YEARS[1:3]
    assert waves(planned) == [["cafe_nord", "cafe_sued"]]
    assert "as they are, and adapted in public.sales: bistro, landb" in planned.notices
    # Their views are exchanged too, for views that adapt what is there.
    assert named(planned, "exchange the views").tables[1:] == tuple(Table(s, "sales") for s in SCHEMAS)
    left_alone = {t for t in YEARS if t.schema in {"bistro", "landb"}}
    assert not any(t in left_alone for s in planned.steps for t in s.tables)


def waves(planned: Planned) -> list[list[str]]:
    statement = planned.steps[0].statements[0]
    found: list[list[str]] = json.loads(statement.split('"waves" => \'')[1].split("'")[0])
    return found


@every
def test_a_second_run_is_for_the_tenants_that_were_left_out(kind: str, body: dict[str, Any]) -> None:
    first = {
        "warehouse_add_column": {**TYPES, "category": "text"},
        "warehouse_modify_column": {**TYPES, "weight": "double precision"},
        "warehouse_remove_column": {"id": "bigint", "weight": "numeric(10,2)"},
    }[kind]
    done = [year(t, columns=tuple(Column(n, c) for n, c in first.items())) for t in YEARS[1:]]
    tenants = (Tenant("bistro", TYPES), *(Tenant(schema, first) for schema in SCHEMAS[1:]))
    template = replace(TEMPLATE, columns=tuple(first.items()), tenants=tenants)
    planned = plan(kind, body, template, *done)
    assert waves(planned) == [["bistro"]]
    assert planned.written == YEARS[:1]
    # The template has the new shape already; it does not get it twice.
    assert template.query.replace("'", "''") in planned.steps[0].statements[0]
    everybody = replace(template, tenants=tuple(Tenant(schema, first) for schema in SCHEMAS))
    with pytest.raises(PlanError, match="nothing is left to do"):
        plan(kind, body, everybody, *done)


@every
@pytest.mark.parametrize("key", ["tenants", "canary"])
def test_a_pattern_that_fits_nobody_is_refused(kind: str, body: dict[str, Any], key: str) -> None:
    with pytest.raises(PlanError, match=r"no tenant of template sales is called shop_\*") as refused:
        plan(kind, {**body, key: ["landb", "shop_*"]})
    assert refused.value.hint == "known: bistro, cafe_nord, cafe_sued, landb"


@every
def test_what_cannot_be_changed_now_is_refused(kind: str, body: dict[str, Any]) -> None:
    with pytest.raises(PlanError, match="no toolkit of the warehouse"):
        plan(kind, body, None)
    with pytest.raises(PlanError, match="there is no template sales"):
        plan(kind, body, replace(TEMPLATE, name="other"))
    with pytest.raises(PlanError, match="flags of template sales is being changed by another run") as refused:
        plan(kind, body, replace(TEMPLATE, changing="flags"))
    assert "reconcile" in (refused.value.hint or "")


@every
@pytest.mark.parametrize(
    ("policy", "new_rows"),
    [("stop", NewRows.SWEEP), ("skip", NewRows.APPLICATION), ("roll_back", NewRows.APPLICATION)],
)
def test_a_source_that_is_away_is_asked_again_only_when_it_is_waited_for(
    kind: str, body: dict[str, Any], policy: str, new_rows: NewRows
) -> None:
    planned = plan(kind, body, source_down=policy, skip_at_most=2, source_pause_s=0.5)
    build = named(planned, "build the days").backfill
    assert build is not None
    assert build.new_rows is new_rows
    assert build.batch is not None
    assert (build.batch.wait_for is not None) is (policy == "stop")
    begin = planned.steps[0].statements[0]
    assert f"\"source_down\" => '{policy}'" in begin
    assert '"skip_at_most" => 2' in begin
    assert '"source_pause_s" => 0.5' in begin


def test_a_column_is_added_to_yearly_tables_before_days_are_built() -> None:
    planned = plan("warehouse_add_column", ADD, index=True)
    of_years = [s for s in planned.steps if set(s.tables) & set(YEARS)]
    assert [s.phase for s in of_years] == [Phase.EXPAND] * 8
    assert all("'UNKNOWN'" in s.statements[0] for s in of_years[::2])
    assert [s.lock for s in of_years] == [LockMode.ACCESS_EXCLUSIVE, LockMode.SHARE_UPDATE_EXCLUSIVE] * 4
    assert 'AS "category"' in planned.steps[0].statements[0]
    assert "_category ON {SCHEMA}.{VIEW_NAME}" in planned.steps[0].statements[0]
    assert "rows of finished years get 'UNKNOWN'" in planned.notices
    assert planned.retired == ()


def test_history_is_fetched_by_the_templates_key() -> None:
    planned = plan("warehouse_add_column", ADD, history_from=2025)
    assert "fetch the history of sales for bistro, cafe_nord, cafe_sued, landb" in titles(planned, Phase.BACKFILL)
    assert any("else 'UNKNOWN'" in notice for notice in planned.notices)
    with pytest.raises(PlanError, match="no unique index"):
        plan("warehouse_add_column", ADD, replace(TEMPLATE, key=()), history_from=2025)


@pytest.mark.parametrize("default", ["store", "random()", "sales.store || 'x'", "(SELECT 1 FROM log)"])
def test_the_default_of_finished_years_is_a_constant(default: str) -> None:
    with pytest.raises(PlanError, match=r"default: .* is no constant"):
        plan("warehouse_add_column", ADD, default=default)


def test_a_type_is_changed_in_a_second_column_of_yearly_tables() -> None:
    planned = plan("warehouse_modify_column", MODIFY)
    twin = hashed_name("schema_change_next", "weight")
    fills = [s for s in planned.steps if s.backfill and s.backfill.table in YEARS]
    assert [s.backfill.expression for s in fills if s.backfill] == ['("weight")::double precision'] * 4
    assert f'{{"weight": "{twin}"}}' in planned.steps[0].statements[0]
    swaps = [s for s in planned.steps if "take the place of" in s.title]
    assert [s.tables[0] for s in swaps] == list(YEARS)
    assert all(s.phase is Phase.CONTRACT and len(s.statements) == 2 for s in swaps)
    # Nobody reads the old column any more when it goes.
    assert planned.steps.index(swaps[0]) > planned.steps.index(named(planned, "drop the old views"))
    assert "the old values of weight in yearly tables are dropped in contract" in planned.notices
    assert not any("lose" in notice for notice in planned.notices)


def test_indexes_of_yearly_tables_are_built_for_the_new_column_and_constraints_named() -> None:
    index = Index("w", f"CREATE INDEX w ON {YEARS[0].quoted} USING btree (weight)", ("weight",))
    check = Constraint("positive", "c", "CHECK ((weight > (0)::numeric))", ("weight",))
    planned = plan("warehouse_modify_column", MODIFY, TEMPLATE, year(YEARS[0], indexes=(index,), constraints=(check,)))
    twin = hashed_name("schema_change_next", "weight")
    [built] = [s for s in planned.steps if s.title.startswith("create index")]
    assert built.phase is Phase.CUTOVER
    assert twin in built.statements[0]
    assert planned.steps.index(built) < planned.steps.index(named(planned, "make the new views"))
    swap = next(s for s in planned.steps if s.title.startswith("let ") and s.tables == YEARS[:1])
    assert swap.statements[-1].endswith('RENAME TO "w"')
    assert f"yearly tables lose in contract what is made of weight: {YEARS[0]}: constraint positive" in planned.notices


def test_a_value_is_converted_as_using_says() -> None:
    planned = plan("warehouse_modify_column", MODIFY, type="integer", using="weight * 1000")
    fills = [s.backfill.expression for s in planned.steps if s.backfill and s.backfill.table in YEARS]
    assert fills == ["(weight * 1000)::integer"] * 4
    assert '(weight * 1000)::integer AS "weight"' in planned.steps[0].statements[0]


def test_the_values_of_a_removed_column_are_kept() -> None:
    planned = plan("warehouse_remove_column", REMOVE, keep_days=90)
    assert [(r.kind, r.table, r.keep_days) for r in planned.retired] == [("column", t, 90) for t in YEARS]
    hidden = hashed_name("schema_change_dropped", "store")
    assert f'"old_year_columns" => \'{{"store": "{hidden}"}}' in planned.steps[0].statements[0]
    with pytest.raises(PlanError, match="id is in the unique index"):
        plan("warehouse_remove_column", REMOVE, column="id")


def test_a_yearly_table_that_never_had_the_column_is_left_alone() -> None:
    bare = year(YEARS[0], columns=(Column("id", "bigint"), Column("weight", "numeric(10,2)")))
    planned = plan("warehouse_remove_column", REMOVE, TEMPLATE, bare)
    assert {t for s in planned.steps for t in s.tables} & set(YEARS) == set(YEARS[1:])


@every
def test_a_misspelt_column_is_told_from_those_there_are(kind: str, body: dict[str, Any]) -> None:
    if kind == "warehouse_add_column":
        return
    with pytest.raises(PlanError) as refused:
        plan(kind, body, column="wieght")
    assert "wieght" in str(refused.value)
    assert "id, store, weight" in (refused.value.hint or "")


def test_a_view_of_somebody_else_on_a_yearly_table_is_not_overlooked() -> None:
    theirs = Use("view", "reports.weights", ("store",))
    both = year(YEARS[0], uses=(theirs,), dependants=("view reports.weights",))
    with pytest.raises(PlanError, match=r"reports\.weights"):
        plan("warehouse_remove_column", REMOVE, TEMPLATE, both)


@every
@pytest.mark.parametrize(
    "use",
    [
        Use("materialized view", "reports.daily", ("weight",)),
        Use("function", "reports.f()"),
        Use("rule", "r on reports.t"),
        Use("trigger", "on_insert"),
    ],
    ids=str,
)
def test_what_the_exchange_cannot_make_anew_is_refused(kind: str, body: dict[str, Any], use: Use) -> None:
    with pytest.raises(PlanError, match=rf"{re.escape(str(use))} .made of public\.sales") as refused:
        plan(kind, body, TEMPLATE, *views(use))
    assert refused.value.hint
    above = Relation(Table("reports", "V"), "v", "ann", uses=(use,))
    on_a_view = Use("view", 'reports."V"', ("id",))
    with pytest.raises(PlanError, match=rf'{re.escape(str(use))} .made of reports\."V"'):
        plan(kind, body, TEMPLATE, *views(on_a_view), above)


@every
def test_views_of_others_come_along_unless_they_name_what_goes(kind: str, body: dict[str, Any]) -> None:
    theirs = Relation(Table("reports", "stores"), "v", "ann")
    on_the_public_view = views(Use("view", "reports.stores", ("store",)))
    if kind == "warehouse_remove_column":
        with pytest.raises(PlanError, match=r"view reports\.stores .made of public\.sales"):
            plan(kind, body, TEMPLATE, *on_the_public_view, theirs)
    else:
        plan(kind, body, TEMPLATE, *on_the_public_view, theirs)


@pytest.mark.parametrize(("kind", "body"), ALL[:2], ids=[kind for kind, _ in ALL[:2]])
def test_a_tenant_whose_view_only_adapts_what_is_there_has_not_got_it(kind: str, body: dict[str, Any]) -> None:
    first = {**TYPES, body["column"]: body["type"]}
    tenants = (Tenant("bistro", first, (body["column"],)), *(Tenant(schema, first) for schema in SCHEMAS[1:]))
    template = replace(TEMPLATE, columns=tuple(first.items()), tenants=tenants)
    # Its yearly table was changed by the run that left it out afterwards.
    whole = year(YEARS[0], columns=tuple(Column(n, t) for n, t in first.items()))
    planned = plan(kind, body, template, whole)
    assert waves(planned) == [["bistro"]]
    assert not any(YEARS[0] in s.tables for s in planned.steps)
