from __future__ import annotations

import pytest
from pydantic import ValidationError

from schema_change.core.catalog.model import Catalog, Column, Index, Relation
from schema_change.core.errors import PlanError
from schema_change.core.model import LockMode, Phase
from schema_change.core.names import Table
from schema_change.core.operations.base import PlanContext
from schema_change.core.operations.sql import RawBackfill, Sql

STATION = Table("public", "station")
_KEY = Index("station_pkey", "CREATE UNIQUE INDEX station_pkey ON public.station USING btree (id)", ("id",), True, True)
CATALOG = Catalog(
    180000,
    {STATION: Relation(STATION, "r", "owner", columns=(Column("id", "bigint", nullable=False),), indexes=(_KEY,))},
)
CONTEXT = PlanContext("1")


def test_statements_in_a_row_are_one_transaction() -> None:
    operation = Sql(
        deploy="ALTER TABLE station ADD COLUMN a int; CREATE TABLE app.new (id int);",
        revert="DROP TABLE IF EXISTS app.new; ALTER TABLE station DROP COLUMN IF EXISTS a;",
    )
    planned = operation.plan(CATALOG, CONTEXT)
    (step,) = planned.steps
    assert step.phase is Phase.EXPAND
    assert step.statements == (
        "SET LOCAL search_path TO public",
        "ALTER TABLE station ADD COLUMN a int",
        "CREATE TABLE app.new (id int)",
    )
    assert step.undo[1:] == ("DROP TABLE IF EXISTS app.new", "ALTER TABLE station DROP COLUMN IF EXISTS a")
    assert (step.lock, step.undo_lock) == (LockMode.ACCESS_EXCLUSIVE, LockMode.ACCESS_EXCLUSIVE)
    assert step.tables == (STATION, Table("app", "new"))
    assert planned.written == (STATION,)
    assert planned.catalog is CATALOG
    assert planned.notices == ()


def test_a_concurrent_index_is_a_step_with_probe_and_repair() -> None:
    operation = Sql(
        deploy="SET maintenance_work_mem = '1GB'; ALTER TABLE station ADD a int;"
        "CREATE INDEX CONCURRENTLY station_a ON station (a); COMMENT ON INDEX station_a IS 'x'",
        revert="DROP INDEX CONCURRENTLY IF EXISTS station_a; ALTER TABLE station DROP COLUMN IF EXISTS a",
    )
    planned = operation.plan(CATALOG, CONTEXT)
    first, index, comment = planned.steps
    assert [s.transactional for s in planned.steps] == [True, False, True]
    assert index.statements[-3:] == (
        "CREATE INDEX CONCURRENTLY station_a ON station (a)",
        'RESET "maintenance_work_mem"',
        "SET search_path TO public",
    )
    assert index.lock is LockMode.SHARE_UPDATE_EXCLUSIVE
    assert index.probe
    assert "indisvalid" in index.probe
    assert index.repair == ('DROP INDEX CONCURRENTLY IF EXISTS "public"."station_a"',)
    assert not first.undo_transactional
    assert (index.undo, comment.undo) == ((), ())
    assert "IF EXISTS" in planned.notices[0]


def test_a_concurrent_index_needs_a_name() -> None:
    operation = Sql(deploy="CREATE INDEX CONCURRENTLY ON station (id)", revert="SELECT 1")
    with pytest.raises(PlanError, match="without a name"):
        operation.plan(CATALOG, CONTEXT)


def test_new_tables_are_locked_from_nobody() -> None:
    operation = Sql(
        deploy="CREATE TABLE n (id bigint); ALTER TABLE n ADD FOREIGN KEY (id) REFERENCES station;"
        "INSERT INTO n VALUES (1)",
        revert="DROP TABLE IF EXISTS n",
    )
    planned = operation.plan(CATALOG, CONTEXT)
    assert planned.steps[0].lock is LockMode.SHARE_ROW_EXCLUSIVE
    assert not planned.data_migration


def test_rows_of_old_tables_make_it_a_data_migration() -> None:
    for deploy in ("UPDATE station SET id = 1", "DO $$ BEGIN END $$"):
        assert Sql(deploy=deploy, revert="SELECT 1").plan(CATALOG, CONTEXT).data_migration


def test_an_index_counts_as_its_table() -> None:
    planned = Sql(deploy="DROP INDEX station_pkey", revert="SELECT 1").plan(CATALOG, CONTEXT)
    assert planned.steps[0].tables == (STATION,)


def test_the_backfill_follows() -> None:
    operation = Sql(
        deploy="ALTER TABLE station ADD a int",
        revert="ALTER TABLE station DROP COLUMN IF EXISTS a",
        backfill=RawBackfill(table="station", column="a", expression="(SELECT count(*) FROM obs)"),
    )
    planned = operation.plan(CATALOG, CONTEXT)
    backfill = planned.steps[-1].backfill
    assert backfill is not None
    assert (backfill.expression, backfill.pending, backfill.key) == (
        "(SELECT count(*) FROM public.obs)",
        '"a" IS NULL',
        ("id",),
    )
    assert planned.read == (Table("public", "obs"),)
    assert planned.filled == {(STATION, "a")}


@pytest.mark.parametrize(
    ("field", "script"),
    [("deploy", "-- nothing"), ("deploy", "SELECT 1;\nROLLBACK"), ("revert", "\\i x"), ("verify", "VACUUM station")],
)
def test_scripts_that_cannot_run_are_refused_when_read(field: str, script: str) -> None:
    with pytest.raises(ValidationError, match=field):
        Sql.model_validate({"deploy": "SELECT 1", "revert": "SELECT 1", field: script})


def test_verify_runs_without_its_own_rollback() -> None:
    operation = Sql(deploy="SELECT 1", revert="SELECT 1", verify="BEGIN; SELECT 1 / count(*) FROM station; ROLLBACK;")
    assert operation.verify_statements() == (
        "SET LOCAL search_path TO public",
        "SELECT 1 / count(*) FROM station",
    )


def test_each_script_has_its_phase_and_one_revert_takes_all_of_it_back() -> None:
    operation = Sql(
        deploy="ALTER TABLE station ADD COLUMN a int",
        cutover="ALTER TABLE station RENAME a TO b; CREATE INDEX CONCURRENTLY station_b ON station (b)",
        contract="ALTER TABLE station DROP COLUMN id",
        revert="ALTER TABLE station DROP COLUMN IF EXISTS a",
    )
    steps = operation.plan(CATALOG, CONTEXT).steps
    assert [s.phase for s in steps] == [Phase.EXPAND, Phase.CUTOVER, Phase.CUTOVER, Phase.CONTRACT]
    assert [bool(s.undo) for s in steps] == [True, False, False, False]
    assert [s.title.partition(":")[0] for s in steps] == ["deploy.sql", "cutover.sql", "cutover.sql", "contract.sql"]
    assert operation.runs == (operation.deploy, operation.cutover, operation.contract)


def test_what_only_switches_is_taken_back_and_what_only_removes_is_not() -> None:
    (switch,) = Sql(cutover="DROP VIEW v", revert="CREATE VIEW v AS SELECT 1").plan(CATALOG, CONTEXT).steps
    assert (switch.phase, switch.undo[-1]) == (Phase.CUTOVER, "CREATE VIEW v AS SELECT 1")
    (remove,) = Sql(contract="DROP VIEW v").plan(CATALOG, CONTEXT).steps
    assert (remove.phase, remove.undo) == (Phase.CONTRACT, ())


@pytest.mark.parametrize(
    ("scripts", "message"),
    [
        ({"verify": "SELECT 1"}, "nothing is run"),
        ({"deploy": "SELECT 1"}, "no revert"),
        ({"cutover": "SELECT 1", "contract": "SELECT 1"}, "no revert, which takes cutover back"),
        ({"contract": "SELECT 1", "revert": "SELECT 1"}, "there is neither"),
        ({"cutover": "-- nothing", "revert": "SELECT 1"}, "no statement"),
    ],
)
def test_scripts_that_do_not_belong_together_are_refused(scripts: dict[str, str], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Sql.model_validate(scripts)
