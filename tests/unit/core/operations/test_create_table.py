from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from schema_change.core.catalog.model import Catalog, Column, Constraint, Index, Relation
from schema_change.core.errors import PlanError
from schema_change.core.model import LockMode, Phase
from schema_change.core.names import Table
from schema_change.core.operations.base import PlanContext, Planned
from schema_change.core.operations.create_table import CreateTable

STATION = Table("public", "station")
CATALOG = Catalog(
    180000,
    {
        STATION: Relation(
            table=STATION,
            kind="r",
            owner="postgres",
            columns=(Column("code", "text", nullable=False),),
            constraints=(Constraint("station_pkey", "p", "PRIMARY KEY (code)", ("code",)),),
            indexes=(Index("station_pkey", "CREATE UNIQUE INDEX …", ("code",), unique=True, primary=True),),
        )
    },
    {"sequence public.numbers": "bigint"},
)
COLUMNS: list[dict[str, Any]] = [{"name": "id", "type": "bigserial"}, {"name": "station", "type": "text"}]


def plan(**keys: Any) -> Planned:
    return CreateTable.model_validate({"table": "notes", "columns": COLUMNS, **keys}).plan(CATALOG, PlanContext("1"))


def test_what_a_foreign_key_refers_to_is_locked_by_us_and_not_by_the_statement() -> None:
    (alone,) = plan(primary_key=["id"]).steps
    assert (alone.phase, alone.lock, alone.tables) == (Phase.EXPAND, LockMode.NONE, (Table("public", "notes"),))
    planned = plan(foreign_keys=[{"columns": ["station"], "references": {"table": "station"}}])
    (step,) = planned.steps
    assert (step.lock, step.tables[1:]) == (LockMode.SHARE_ROW_EXCLUSIVE, (STATION,))
    assert [str(use) for use in planned.catalog.relations[STATION].uses] == [
        "foreign key notes_station_fkey of public.notes"
    ]


def test_the_planned_table_is_as_the_catalog_will_show_it() -> None:
    planned = plan(primary_key=["id"], unique=[["station"]], checks=["id > 0", "id < 9"], indexes=[{"columns": ["id"]}])
    relation = planned.catalog.relations[Table("public", "notes")]
    assert [(c.name, c.type, c.nullable, c.identity) for c in relation.columns] == [
        ("id", "bigint", False, "d"),
        ("station", "text", True, ""),
    ]
    assert [c.name for c in relation.constraints] == [
        "notes_pkey",
        "notes_station_key",
        "notes_id_check",
        "notes_id_check1",
    ]
    assert [i.name for i in relation.indexes] == ["notes_pkey", "notes_station_key", "notes_id_idx"]
    assert relation.key == ("id",)
    assert any("bigserial" in notice for notice in planned.notices)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"table": "station"}, "already something named public.station"),
        ({"table": "numbers"}, "already something named public.numbers"),
        ({"table": "else.t"}, "no schema else"),
        ({"columns": [{"name": "id", "type": "serial", "default": "1"}]}, "numbers the rows itself"),
        ({"columns": [{"name": "id", "type": "int; DROP"}]}, "columns.id.type"),
        ({"checks": ["id > (SELECT 1)"]}, "checks"),
        ({"foreign_keys": [{"columns": ["id"], "references": {"table": "station"}}]}, "cannot be compared"),
    ],
)
def test_what_does_not_fit_is_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        plan(**keys)


def test_columns_that_are_not_there_are_refused_when_the_file_is_read() -> None:
    with pytest.raises(ValidationError, match="no column nam; there are id, station"):
        plan(unique=[["nam"]])
    with pytest.raises(ValidationError, match="two columns id"):
        plan(columns=[*COLUMNS, COLUMNS[0]])
