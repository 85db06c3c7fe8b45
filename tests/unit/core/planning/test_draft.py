from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from schema_change.core.catalog.model import Catalog, Column, Constraint, Index, Relation
from schema_change.core.changes.load import load_change
from schema_change.core.changes.spec import Change
from schema_change.core.model import Phase, Plan, Step
from schema_change.core.names import Table
from schema_change.core.operations.base import Planned
from schema_change.core.planning.draft import Draft, changed_columns, compatibility
from tests.changes import write_change

BIG = Table("public", "big")
OTHER = Table("public", "other")
RELATION = Relation(BIG, "r", "owner", columns=(Column("id", "bigint", nullable=False), Column("n", "integer")))
CHECK = Constraint("n_sane", "c", "CHECK (n > 0)", ("n",))
UNIQUE = Index("big_n", "CREATE UNIQUE INDEX big_n ON big USING btree (n)", ("n",), unique=True)


@pytest.fixture
def change(tmp_path: Path) -> Change:
    return load_change(write_change(tmp_path))


def _draft(change: Change, after: Relation | None) -> Draft:
    # OTHER is locked by the plan, but stays as it is.
    other = {OTHER: replace(RELATION, table=OTHER)}
    before = Catalog(180000, {BIG: RELATION, **other})
    shape = Catalog(180000, {after.table: after, **other} if after else other)
    plan = Plan((Step(Phase.EXPAND, "x", (BIG, OTHER)),), written=(BIG,))
    return Draft(change, plan, [Planned(shape, ())], before, shape)


@pytest.mark.parametrize(
    ("after", "why"),
    [
        (None, "public.big is gone"),
        (replace(RELATION, columns=RELATION.columns[:1]), "public.big.n is gone"),
        (RELATION.with_column(Column("n", "bigint")), "public.big.n becomes bigint"),
        (RELATION.with_column(Column("n", "integer", nullable=False)), "public.big.n must have a value"),
        (RELATION.with_column(Column("m", "text", nullable=False)), "public.big.m must be given in every INSERT"),
        (replace(RELATION, constraints=(CHECK,)), "public.big: CHECK (n > 0)"),
        (replace(RELATION, indexes=(UNIQUE,)), "public.big: no more duplicates of big_n"),
    ],
)
def test_what_breaks_an_application_of_the_old_shape_is_named(change: Change, after: Relation | None, why: str) -> None:
    rating = compatibility(_draft(change, after))
    assert (rating.word, rating.why) == ("no", why)


@pytest.mark.parametrize(
    "after",
    [
        RELATION.with_column(Column("m", "text")),
        RELATION.with_column(Column("m", "text", nullable=False, default="''")),
        RELATION.with_column(Column("m", "bigint", nullable=False, identity="a")),
        replace(RELATION, indexes=(replace(UNIQUE, unique=False),)),
    ],
)
def test_what_is_only_added_breaks_nobody(change: Change, after: Relation) -> None:
    draft = _draft(change, after)
    assert compatibility(draft).word == "yes"
    assert changed_columns(draft) == {BIG: frozenset()}


def test_the_columns_that_will_be_another_are_told(change: Change) -> None:
    assert changed_columns(_draft(change, None)) == {BIG: {"id", "n"}}
    assert changed_columns(_draft(change, RELATION.with_column(Column("n", "bigint")))) == {BIG: {"n"}}
    assert changed_columns(_draft(change, replace(RELATION, constraints=(CHECK,)))) == {BIG: {"n"}}


def test_a_relation_that_is_only_made_is_part_of_the_draft(change: Change) -> None:
    made = replace(RELATION, table=Table("public", "new"))
    draft = _draft(change, made)
    assert draft.touched == (BIG, OTHER, made.table)
    assert draft.after.get(made.table) is made
