from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from schema_change.core.catalog.model import Catalog, Column, Index, Relation
from schema_change.core.errors import PlanError
from schema_change.core.model import LockMode, Phase
from schema_change.core.names import Table
from schema_change.core.operations.base import PlanContext, Planned
from schema_change.core.operations.create_index import CreateIndex

TABLE = Table("public", "readings")


def plan(filled: frozenset[tuple[Table, str]] = frozenset(), **operation: object) -> Planned:
    columns = (Column("id", "integer", nullable=False), Column("station", "text"), Column("day", "date"))
    taken = Index("taken", "CREATE INDEX taken …", ("id",))
    relation = Relation(table=TABLE, kind="r", owner="postgres", columns=columns, indexes=(taken,))
    return CreateIndex.model_validate({"table": "readings", **operation}).plan(
        Catalog(180000, {TABLE: relation}), PlanContext("1", filled)
    )


def test_it_is_built_concurrently_and_repaired_when_interrupted() -> None:
    (step,) = plan(columns=["station", "day DESC"]).steps
    assert step.statements[0].startswith('CREATE INDEX CONCURRENTLY "readings_station_day_idx" ON "public"."readings"')
    assert not step.transactional
    assert step.repair == step.undo == ('DROP INDEX CONCURRENTLY IF EXISTS "public"."readings_station_day_idx"',)
    assert step.lock is LockMode.SHARE_UPDATE_EXCLUSIVE


def test_every_clause_has_its_place() -> None:
    (step,) = plan(
        name="Odd", columns=["lower(station)"], unique=True, method="btree", include=["day"], where="day IS NOT NULL"
    ).steps
    statement = step.statements[0]
    assert statement.startswith('CREATE UNIQUE INDEX CONCURRENTLY "Odd" ON "public"."readings" USING btree (lower(')
    assert statement.endswith('INCLUDE ("day") WHERE day IS NOT NULL')


def test_an_index_on_a_filled_column_waits_for_the_backfill() -> None:
    assert plan(columns=["day"]).steps[0].phase is Phase.EXPAND
    assert plan(frozenset({(TABLE, "day")}), columns=["day"]).steps[0].phase is Phase.CUTOVER
    assert plan(frozenset({(TABLE, "day")}), columns=["date_trunc('year', day::timestamp)"]).steps[0].phase is (
        Phase.CUTOVER
    )


def test_a_unique_index_counts_duplicates_first() -> None:
    (check,) = plan(columns=["station", "day"], unique=True).data_checks
    assert "HAVING count(*) > 1" in check.count


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        ({"columns": ["nope"]}, "no column nope"),
        ({"columns": ["day"], "include": ["nope"]}, "no column nope"),
        ({"columns": ["day"], "name": "taken"}, "already"),
        ({"columns": ["day"], "name": "readings"}, "already"),
        ({"columns": ["day); DROP TABLE readings; --"]}, "columns"),
        ({"columns": ["day"], "where": "day > (SELECT now())"}, "where"),
    ],
)
def test_what_does_not_fit_is_refused_with_a_remedy(operation: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=message) as refused:
        plan(**operation)
    assert refused.value.hint


def partitioned(**operation: object) -> Planned:
    keys = {"table": TABLE, "columns": (Column("id", "integer"), Column("day", "date")), "owner": "postgres"}
    root = Relation(kind="p", partition_key="RANGE (day)", **keys)  # type: ignore[arg-type]
    leaf = replace(root, table=Table("public", "leaf"), kind="r", partition_of=TABLE)
    taken = Index("leaf_id_idx", "CREATE INDEX …", ("id",))
    found = Catalog(150000, {r.table: r for r in (root, replace(leaf, indexes=(taken,)))})
    return CreateIndex.model_validate({"table": "readings", **operation}).plan(found, PlanContext("1"))


def test_a_partitioned_table_is_indexed_partition_by_partition() -> None:
    planned = partitioned(columns=["id"])
    begin, build, attach = planned.steps
    assert begin.statements == ('CREATE INDEX "readings_id_idx" ON ONLY "public"."readings" USING btree (id)',)
    assert build.statements[0].startswith('CREATE INDEX CONCURRENTLY "leaf_id_idx1" ON "public"."leaf"')
    assert attach.statements == ('ALTER INDEX "public"."readings_id_idx" ATTACH PARTITION "public"."leaf_id_idx1"',)
    assert attach.undo == ('DROP INDEX IF EXISTS "public"."readings_id_idx"',)
    assert [s.lock for s in planned.steps] == [
        LockMode.SHARE,
        LockMode.SHARE_UPDATE_EXCLUSIVE,
        LockMode.ACCESS_EXCLUSIVE,
    ]
    assert planned.touched == (Table("public", "leaf"),)


def test_a_unique_index_of_partitions_has_the_columns_they_are_cut_by() -> None:
    assert partitioned(columns=["day", "id"], unique=True).steps
    with pytest.raises(PlanError, match=r"partitioned by RANGE \(day\)"):
        partitioned(columns=["id"], unique=True)


def test_the_name_of_a_column_is_that_column() -> None:
    relation = Relation(TABLE, "r", "postgres", columns=(Column("order", "text"), Column("My Col", "text")))
    operation = CreateIndex.model_validate({"table": "readings", "columns": ["order", "My Col"], "name": "i"})
    (step,) = operation.plan(Catalog(180000, {TABLE: relation}), PlanContext("1")).steps
    assert step.statements[0].endswith('("order", "My Col")')
