from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Sequence
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from schema_change.core.database import Target
from schema_change.core.errors import ConfigurationError, ExecutionError
from schema_change.core.warehouse import upkeep
from schema_change.core.warehouse.toolkit import VERSION, Installed
from schema_change.core.warehouse.upkeep import Folded, Member, Refreshed
from schema_change.operators import warehouse
from schema_change.operators.warehouse import (
    EVERYTHING,
    HEALTHY_ONLY,
    YEARS_ONLY,
    WarehouseEmergencyOperator,
    WarehouseFoldOperator,
    WarehouseInstallOperator,
    WarehouseMembersOperator,
    WarehouseRefreshOperator,
)

LANDB = Member("food", "landb-prod", "landb")
ARGUMENTS = {"conn_id": "weather", "template_name": "food", "tenant": "landb-prod", "schema": "landb"}


@pytest.fixture(autouse=True)
def sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Target, "connect", lambda *_, **__: contextlib.nullcontext("session"))


def test_an_installation_is_verified(context: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"differences": ()}
    monkeypatch.setattr(warehouse, "install", lambda connection: True)
    monkeypatch.setattr(warehouse, "verify", lambda connection: Installed(VERSION, found["differences"]))
    operator = WarehouseInstallOperator(task_id="install", conn_id="weather")
    assert operator.execute(context) == f"schema _wh is now at version {VERSION}"
    found["differences"] = ("_wh.f() is missing",)  # type: ignore[assignment]
    with pytest.raises(AirflowFailException, match=r"_wh\.f\(\) is missing"):
        operator.execute(context)


@pytest.mark.parametrize("templates", [[], None, ["food"]])
def test_members_become_arguments_of_a_mapped_task(
    templates: list[str] | None, context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Sequence[str]] = []

    def members(connection: object, templates: Sequence[str]) -> list[Member]:
        asked.append(templates)
        return [LANDB]

    monkeypatch.setattr(upkeep, "members", members)
    context["params"] = {"templates": templates}
    (found,) = WarehouseMembersOperator(task_id="members", conn_id="weather").execute(context)
    assert list(asked[0]) == (templates or [])
    assert WarehouseRefreshOperator(task_id="refresh", conn_id="weather", **found).member == LANDB


def test_the_last_days_are_brought_up_to_date(context: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def refresh(*arguments: Any) -> Refreshed:
        asked.append(arguments)
        return Refreshed(LANDB, 3, 0, True, False)

    monkeypatch.setattr(upkeep, "refresh", refresh)
    monkeypatch.setattr(upkeep, "today", lambda connection: dt.date(2026, 1, 2))
    context["params"] = {"days": 3}
    said = WarehouseRefreshOperator(task_id="refresh", **ARGUMENTS).execute(context)
    assert said == "landb.food: 3 days brought up to date, the tenant's view reads new parts"
    assert asked == [("session", LANDB, dt.date(2025, 12, 31), dt.date(2026, 1, 2))]


@pytest.mark.parametrize("retryable", [True, False])
def test_what_a_later_try_can_mend_is_left_to_airflow(
    retryable: bool, context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refresh(*_: object) -> Refreshed:
        error = ExecutionError("landb.food: could not be brought up to date")
        error.retryable = retryable
        raise error

    monkeypatch.setattr(upkeep, "refresh", refresh)
    monkeypatch.setattr(upkeep, "today", lambda connection: dt.date(2026, 1, 2))
    context["params"] = {"days": 1}
    with pytest.raises(ExecutionError if retryable else AirflowFailException, match="could not be brought"):
        WarehouseRefreshOperator(task_id="refresh", **ARGUMENTS).execute(context)


@pytest.mark.parametrize(("year", "folded"), [(None, 2025), (2023, 2023)])
def test_the_last_year_is_folded_unless_one_is_named(
    year: int | None, folded: int, context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "fold", lambda connection, member, period: Folded(member, period, 1204, 365))
    monkeypatch.setattr(upkeep, "last_finished_year", lambda connection: 2025)
    context["params"] = {"year": year}
    said = WarehouseFoldOperator(task_id="fold", **ARGUMENTS).execute(context)
    assert said == f"landb.food: {folded} folded into a table of 1,204 rows, 365 parts dropped"


@pytest.mark.parametrize(
    ("restore", "calls"),
    [
        (YEARS_ONLY, [("emergency", True, [])]),
        (HEALTHY_ONLY, [("healthy",), ("emergency", False, ["landb"])]),
        (EVERYTHING, [("normal",)]),
    ],
)
def test_an_emergency_restores_what_is_asked_for(
    restore: str, calls: list[Any], context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[Any] = []

    def healthy(connection: object, template: str) -> list[str]:
        done.append(("healthy",))
        return ["landb"]

    def emergency(connection: object, template: str, *, only_years: bool, schemas: list[str]) -> None:
        done.append(("emergency", only_years, schemas))

    monkeypatch.setattr(upkeep, "healthy_schemas", healthy)
    monkeypatch.setattr(upkeep, "emergency", emergency)
    monkeypatch.setattr(upkeep, "back_to_normal", lambda *_: done.append(("normal",)))
    context["params"] = {"conn_id": "weather", "template": "food", "restore": restore}
    said = WarehouseEmergencyOperator(task_id="restore").execute(context)
    assert done == calls
    assert said["restored"] == restore


def test_a_database_without_toolkit_fails_for_good(context: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def members(*_: object) -> list[Member]:
        raise ConfigurationError("this database has no toolkit", hint="schema-change warehouse install")

    monkeypatch.setattr(upkeep, "members", members)
    context["params"] = {"templates": []}
    with pytest.raises(AirflowFailException, match="warehouse install"):
        WarehouseMembersOperator(task_id="members", conn_id="weather").execute(context)
