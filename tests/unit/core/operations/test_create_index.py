from __future__ import annotations

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
