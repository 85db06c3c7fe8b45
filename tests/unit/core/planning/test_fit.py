from __future__ import annotations

import pytest

from schema_change.core.catalog.model import Catalog, Column, Constraint, Relation
from schema_change.core.model import Backfill, Phase, Step
from schema_change.core.names import Table
from schema_change.core.operations.base import PlanContext
from schema_change.core.operations.sql import Sql
from schema_change.core.planning.fit import raw_checks

BIG, PARENT = Table("public", "big"), Table("public", "parent")
_ID = Column("id", "bigint", nullable=False)
_PRIMARY = Constraint("parent_pkey", "p", "PRIMARY KEY (id)", ("id",))
CATALOG = Catalog(
    180000,
    {
        BIG: Relation(BIG, "r", "owner", columns=(_ID, Column("n", "integer"))),
        PARENT: Relation(PARENT, "r", "owner", columns=(_ID,), constraints=(_PRIMARY,)),
    },
)
_SHARE = "rows of public.big that share ({})"
_ORPHAN = "rows of public.big without their row in public.parent"
_KEY = "ALTER TABLE big ADD CONSTRAINT k FOREIGN KEY (n) REFERENCES parent (id)"
_NULL = "NULL in public.big.{}"


@pytest.mark.parametrize(
    ("script", "names"),
    [
        ("ALTER TABLE big ADD UNIQUE (n)", [_SHARE.format("n")]),
        ("CREATE UNIQUE INDEX CONCURRENTLY u ON big (id, n)", [_SHARE.format("id, n")]),
        ("ALTER TABLE big ADD PRIMARY KEY (id, n)", [_SHARE.format("id, n"), _NULL.format("n")]),
        ("ALTER TABLE big ALTER n SET NOT NULL", [_NULL.format("n")]),
        ("ALTER TABLE big ADD CONSTRAINT c NOT NULL n", [_NULL.format("n")]),
        ("ALTER TABLE big ALTER id SET NOT NULL", []),
        ("ALTER TABLE big ADD CONSTRAINT c NOT NULL n NOT VALID", []),
        ("CREATE UNIQUE INDEX CONCURRENTLY u ON big (abs(n))", []),
        ("CREATE UNIQUE INDEX CONCURRENTLY u ON big (n) WHERE n > 0", []),
        ("ALTER TABLE big ADD COLUMN x bigint; ALTER TABLE big ADD UNIQUE (x)", []),
        ("CREATE TABLE t (n bigint); ALTER TABLE t ADD UNIQUE (n)", []),
        ("ALTER TABLE big ADD FOREIGN KEY (n) REFERENCES parent", [_ORPHAN]),
        (f"BEGIN; {_KEY} NOT VALID; COMMIT; BEGIN; ALTER TABLE big VALIDATE CONSTRAINT k; COMMIT", [_ORPHAN]),
        (f"{_KEY} NOT VALID", []),
        (f"INSERT INTO parent SELECT 1; {_KEY}", []),
        ("ALTER TABLE big ADD FOREIGN KEY (n) REFERENCES elsewhere.parent (id)", []),
        ("SET search_path TO elsewhere; ALTER TABLE public.big ADD FOREIGN KEY (n) REFERENCES parent (id)", []),
        ("DELETE FROM big WHERE n IS NULL; ALTER TABLE big ALTER n SET NOT NULL", []),
        ("DO $$ BEGIN END $$; ALTER TABLE big ALTER n SET NOT NULL", []),
    ],
)
def test_rows_that_raw_sql_would_stumble_over_are_counted(script: str, names: list[str]) -> None:
    steps = Sql(deploy=script, revert="SELECT 1").plan(CATALOG, PlanContext("1")).steps
    assert [check.name for check in raw_checks(steps, CATALOG)] == names


def test_what_a_typed_operation_fills_is_its_own_to_count() -> None:
    backfill = Backfill(BIG, "n", "0", "n IS NULL")
    fill = Step(Phase.BACKFILL, "fill", (BIG,), backfill=backfill)
    raw = Step(Phase.CUTOVER, "raw", (BIG,), ("ALTER TABLE public.big ALTER n SET NOT NULL",))
    assert [c.name for c in raw_checks([raw], CATALOG)] == [_NULL.format("n")]
    assert raw_checks([fill, raw], CATALOG, typed={fill}) == ()
    assert raw_checks([raw], CATALOG, typed={raw}) == ()
