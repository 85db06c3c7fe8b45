from __future__ import annotations

from dataclasses import replace

import pytest

from schema_change.core.catalog.model import Catalog, Column, Constraint, Index, Relation, Use
from schema_change.core.errors import PlanError
from schema_change.core.model import LockMode, Phase
from schema_change.core.names import Table
from schema_change.core.operations.base import PlanContext, Planned
from schema_change.core.operations.drop_table import DropTable

TABLE = Table("public", "old")
OLD = Relation(
    table=TABLE,
    kind="r",
    owner="ann",
    columns=(Column("id", "integer", nullable=False, default="nextval('public.old_id_seq'::regclass)"),),
    indexes=(Index("old_pkey", "CREATE UNIQUE INDEX old_pkey ON public.old (id)", ("id",), unique=True, primary=True),),
)
OBJECTS = {"sequence public.old_id_seq": "integer start 1 owned by public.old.id\nowner: ann"}


def plan(relation: Relation = OLD, *others: Relation, live: Relation | None = OLD, **keys: object) -> Planned:
    catalog = Catalog(180000, {r.table: r for r in (relation, *others)}, OBJECTS)
    context = PlanContext("7", live=Catalog(180000, {TABLE: live} if live else {}))
    return DropTable.model_validate({"table": "old", **keys}).plan(catalog, context)


def test_the_way_back_is_the_way_there_in_reverse() -> None:
    planned = plan(keep_days=90)
    (step,) = planned.steps
    (kept,) = planned.retired
    assert (step.phase, step.lock, step.undo_lock) == (
        Phase.CUTOVER,
        LockMode.ACCESS_EXCLUSIVE,
        LockMode.ACCESS_EXCLUSIVE,
    )
    assert step.tables == (TABLE, kept.kept)
    assert [s.split(" ", 2)[1] for s in step.statements] == ["INDEX", "SEQUENCE", "TABLE", "TABLE"]
    assert step.statements[-1].endswith('SET SCHEMA "schema_change_retired"')
    assert step.undo[0].endswith('SET SCHEMA "public"')
    assert (kept.kind, kept.key, kept.keep_days) == ("table", ("id",), 90)
    assert kept.definition["back"] == list(step.undo)
    assert planned.catalog.get(TABLE) is None


def test_another_run_of_the_same_change_finds_what_is_kept() -> None:
    (check,) = plan().data_checks
    assert "schema_change_retired" in check.count
    assert "purge --id" in check.remedy


@pytest.mark.parametrize(
    ("use", "named"),
    [
        (Use("view", "public.v", ("id",)), True),
        (Use("policy", "p on public.other"), True),
        (Use("policy", "p on public.old"), False),
        (Use("rule", "r on public.old"), False),
        (Use("index", "old_pkey", ("id",)), False),
        (Use("publication", "everything"), False),
    ],
    ids=str,
)
def test_only_what_is_no_part_of_the_table_is_in_the_way(use: Use, named: bool) -> None:
    relation = replace(OLD, uses=(use,))
    if named:
        with pytest.raises(PlanError, match=f"is used by {use}"):
            plan(relation, live=relation)
    else:
        plan(relation, live=relation)


def test_a_sequence_that_another_table_uses_is_in_the_way() -> None:
    other = Relation(
        Table("public", "other"), "r", "ann", columns=(Column("n", "integer", default=OLD.columns[0].default),)
    )
    with pytest.raises(PlanError, match=r"the default of public\.other\.n"):
        plan(OLD, other)


def test_foreign_keys_of_a_partitioned_table_go_first() -> None:
    key = Constraint("to_it", "f", "FOREIGN KEY (id) REFERENCES public.p(id)", ("id",), references=Table("public", "p"))
    relation = replace(OLD, kind="p", partition_key="RANGE (id)", constraints=(key,))
    with pytest.raises(PlanError, match="is partitioned and has foreign keys: to_it"):
        plan(relation, live=relation)


@pytest.mark.parametrize("live", [None, replace(OLD, columns=())], ids=["made", "changed"])
def test_what_this_change_works_on_is_not_dropped_by_it(live: Relation | None) -> None:
    with pytest.raises(PlanError, match=r"works on public\.old until it has landed"):
        plan(live=live)
