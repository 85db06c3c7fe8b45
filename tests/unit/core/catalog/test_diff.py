"""Differences are said in words."""

from __future__ import annotations

import json
from dataclasses import replace

from schema_change.core.catalog.diff import diff
from schema_change.core.catalog.model import Catalog, Column, Constraint, Index, Relation
from schema_change.core.names import Table

T = Table("public", "t")
RELATION = Relation(
    T,
    "r",
    "me",
    columns=(Column("a", "integer"), Column("b", "text")),
    constraints=(Constraint("c", "f", "FOREIGN KEY …", references=Table("public", "u")),),
    indexes=(Index("i", "CREATE INDEX i …"),),
    grants=("me=r/me",),
    rows=5,
)


def catalog(*relations: Relation, **others: object) -> Catalog:
    found = Catalog(180000, {r.table: r for r in relations}, {"enum mood": "'sad'\nowner: me"}, ("plpgsql 1.0",))
    return replace(found, **others)  # type: ignore[arg-type]


def lines(before: Catalog, after: Catalog) -> list[str]:
    return diff(before.to_json(), after.to_json())


def test_equal_but_for_estimates() -> None:
    assert lines(catalog(RELATION), catalog(replace(RELATION, rows=7, bytes=1, writes=3))) == []


def test_columns() -> None:
    changed = replace(
        RELATION, columns=(Column("b", "text", nullable=False), Column("a", "bigint"), Column("c", "date"))
    )
    assert lines(catalog(RELATION), catalog(changed)) == [
        "public.t column a: type integer → bigint",
        "public.t column b: nullable yes → no",
        "public.t column c: added",
        "public.t: order of columns a, b → b, a",
    ]


def test_parts_of_a_relation() -> None:
    changed = replace(
        RELATION,
        constraints=(replace(RELATION.constraints[0], validated=False, references=None),),
        indexes=(),
        grants=("me=rw/me",),
        dependants=("view public.v",),
        comment="hello",
        partition_of=Table("public", "p"),
    )
    assert lines(catalog(RELATION), catalog(changed)) == [
        "public.t constraint c: validated yes → no",
        "public.t constraint c: references public.u → none",
        "public.t index i: dropped",
        "public.t grant removed: me=r/me",
        "public.t grant added: me=rw/me",
        "public.t dependant added: view public.v",
        "public.t: partition_of none → public.p",
        "public.t: comment none → hello",
    ]


def test_relations_objects_extensions_server() -> None:
    after = catalog(
        replace(RELATION, table=Table("public", "v"), kind="v"),
        objects={"enum mood": "'sad', 'ok'\nowner: me"},
        extensions=("plpgsql 1.1",),
        server_version=150000,
    )
    assert lines(catalog(RELATION), after) == [
        "table public.t: dropped",
        "view public.v: added",
        "enum mood: 'sad' → 'sad', 'ok'",
        "extension removed: plpgsql 1.0",
        "extension added: plpgsql 1.1",
        "server: server_version 18 → 15",
    ]


def test_long_definitions_are_counted() -> None:
    before = catalog(objects={"function f()": "\n".join(map(str, range(10)))})
    after = catalog(objects={"function f()": "\n".join(map(str, range(5, 15)))})
    assert lines(before, after) == ["function f(): definition changed (5 lines out, 5 in)"]


def test_scope_leaves_out_what_is_not_the_plans_business() -> None:
    other = catalog(RELATION, extensions=(), objects={})
    assert other.restricted((T,)).fingerprint == catalog(RELATION).restricted((T,)).fingerprint
    assert other.restricted(()).fingerprint != catalog(RELATION).restricted(()).fingerprint


def test_a_snapshot_is_json_and_survives_it() -> None:
    data = catalog(replace(RELATION, inherits=(Table("public", "p"),))).to_json()
    assert json.loads(json.dumps(data)) == data
