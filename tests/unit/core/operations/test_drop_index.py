from __future__ import annotations

from dataclasses import replace

import pytest

from schema_change.core.catalog.model import Catalog, Column, Constraint, Index, Relation
from schema_change.core.errors import PlanError
from schema_change.core.model import LockMode, Phase
from schema_change.core.names import Table
from schema_change.core.operations.base import PlanContext, Planned
from schema_change.core.operations.create_index import CreateIndex
from schema_change.core.operations.drop_index import DropIndex

TABLE, CHILD = Table("public", "station"), Table("app", "reading")
PLAIN = Index("by_name", "CREATE INDEX by_name ON public.station USING btree (name)", ("name",), comment="it's used")
ONCE = Index("once", "CREATE UNIQUE INDEX once ON public.station USING btree (code)", ("code",), unique=True)
KEY = Index("station_pkey", "CREATE UNIQUE INDEX station_pkey …", ("id",), unique=True, primary=True)
RELATION = Relation(
    TABLE,
    "r",
    "owner",
    columns=(Column("id", "bigint", nullable=False), Column("name", "text"), Column("code", "text")),
    constraints=(Constraint("station_pkey", "p", "PRIMARY KEY (id)", ("id",)),),
    indexes=(PLAIN, ONCE, KEY),
)


def catalog(relation: Relation = RELATION, *others: Relation) -> Catalog:
    return Catalog(180000, {r.table: r for r in (relation, *others)})


def plan(index: str, found: Catalog | None = None) -> Planned:
    return DropIndex(index=index).plan(found or catalog(), PlanContext("1"))


def test_an_index_is_dropped_at_cutover_and_built_again_by_the_undo() -> None:
    planned = plan("by_name")
    (step,) = planned.steps
    assert (step.phase, step.lock, step.transactional) == (Phase.CUTOVER, LockMode.SHARE_UPDATE_EXCLUSIVE, False)
    assert step.statements == ('DROP INDEX CONCURRENTLY IF EXISTS "public"."by_name"',)
    assert step.undo == (
        'DROP INDEX CONCURRENTLY IF EXISTS "public"."by_name"',
        "CREATE INDEX CONCURRENTLY by_name ON public.station USING btree (name)",
        "COMMENT ON INDEX \"public\".\"by_name\" IS 'it''s used'",
    )
    assert planned.touched == (TABLE,)


def test_a_unique_index_waits_for_contract() -> None:
    (step,) = plan("once").steps
    assert (step.phase, step.undo) == (Phase.CONTRACT, ())


def test_its_name_is_not_free_in_the_same_change() -> None:
    after = plan("by_name").catalog
    with pytest.raises(PlanError, match="already a relation or index"):
        CreateIndex(table="station", columns=("code",), name="by_name").plan(after, PlanContext("1"))


@pytest.mark.parametrize(
    ("index", "found", "message"),
    [
        ("nope", catalog(), "no index public.nope"),
        ("station_pkey", catalog(), "belongs to the constraint"),
        ("once", catalog(replace(RELATION, replica_identity="index once")), "replica identity"),
        ("by_name", catalog(replace(RELATION, indexes=(replace(PLAIN, clustered=True),))), "clustered"),
        (
            "once",
            catalog(
                RELATION,
                Relation(
                    CHILD,
                    "r",
                    "owner",
                    constraints=(
                        Constraint(
                            "fk", "f", "FOREIGN KEY (s) REFERENCES public.station(code)", ("s",), references=TABLE
                        ),
                    ),
                ),
            ),
            "foreign key fk of app.reading",
        ),
    ],
)
def test_what_is_needed_stays(index: str, found: Catalog, message: str) -> None:
    with pytest.raises(PlanError, match=message) as refused:
        plan(index, found)
    assert refused.value.hint
