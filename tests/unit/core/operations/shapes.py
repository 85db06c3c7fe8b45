"""A catalog of two tables, readings of stations, and a way to plan one operation on it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from schema_change.core.catalog.model import Catalog, Column, Constraint, Index, Relation
from schema_change.core.model import Phase
from schema_change.core.names import Table
from schema_change.core.operations import catalogue
from schema_change.core.operations.base import PlanContext, Planned

READINGS, STATIONS = Table("public", "readings"), Table("public", "stations")


def readings(**changes: Any) -> Relation:
    """Return the table of readings: id (its key), station, day, celsius; the last two may be NULL."""
    return replace(
        Relation(
            table=READINGS,
            kind="r",
            owner="postgres",
            columns=(
                Column("id", "integer", nullable=False, identity="a"),
                Column("station", "text", nullable=False),
                Column("day", "date"),
                Column("celsius", "numeric(5,2)", default="0"),
            ),
            constraints=(Constraint("readings_pkey", "p", "PRIMARY KEY (id)", columns=("id",)),),
            indexes=(_index("readings_pkey", "readings", "id", primary=True),),
        ),
        **changes,
    )


def stations(**changes: Any) -> Relation:
    """Return the table of stations: name (its key) and title, which is NOT NULL, and a generated column."""
    return replace(
        Relation(
            table=STATIONS,
            kind="r",
            owner="postgres",
            columns=(
                Column("name", "text", nullable=False),
                Column("title", "text", nullable=False),
                Column("short", "text", default="left(title, 3)", generated="s"),
                Column("number", "bigint"),
            ),
            constraints=(Constraint("stations_pkey", "p", "PRIMARY KEY (name)", columns=("name",)),),
            indexes=(_index("stations_pkey", "stations", "name", primary=True),),
        ),
        **changes,
    )


def foreign_key(name: str, column: str, parent: str, action: str = "", **more: Any) -> Constraint:
    """Return a foreign key as the catalog shows it."""
    table, _, referenced = parent.partition(".")
    return Constraint(
        name,
        "f",
        f"FOREIGN KEY ({column}) REFERENCES public.{table}({referenced}){action}",
        columns=(column,),
        references=Table("public", table),
        **more,
    )


def plan(
    operation: dict[str, Any],
    *relations: Relation,
    version: int = 180000,
    filled: frozenset[tuple[Table, str]] = frozenset(),
    objects: dict[str, str] | None = None,
) -> Planned:
    """Plan an operation on the two tables, each as given or as it is by default."""
    tables = {r.table: r for r in (readings(), stations(), *relations)}
    ((kind, body),) = operation.items()
    context = PlanContext("1", filled, Catalog(version, tables))
    planned = catalogue()[kind].model_validate(body).plan(Catalog(version, tables, objects or {}), context)
    # Several sessions run this phase side by side, and only a backfill is shared out among them.
    assert all(step.backfill for step in planned.steps if step.phase is Phase.BACKFILL)
    return planned


def _index(name: str, table: str, column: str, *, primary: bool) -> Index:
    definition = f"CREATE UNIQUE INDEX {name} ON public.{table} USING btree ({column})"
    return Index(name, definition, (column,), unique=True, primary=primary)
