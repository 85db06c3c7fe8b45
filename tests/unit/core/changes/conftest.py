from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import pytest
from pydantic import BaseModel, ConfigDict

from schema_change.core.catalog.model import Catalog
from schema_change.core.changes import operations
from schema_change.core.operations.base import Operation, PlanContext, Planned

MINIMAL = """\
description: A test
conn_id: weather
operations:
  - add_column: {table: t, column: {name: a, type: integer}}
"""

Write = Callable[..., Path]


class NewColumn(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    type: str
    comment: str | None = None


class AddColumn(Operation):
    """Add a column."""

    kind: ClassVar[str] = "add_column"

    table: str
    column: NewColumn
    fill: str | None = None

    def plan(self, catalog: Catalog, context: PlanContext) -> Planned:
        return Planned(catalog, ())


class RawBackfill(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    table: str
    column: str
    expression: str
    where: str | None = None


class Sql(Operation):
    """Run scripts."""

    kind: ClassVar[str] = "sql"

    deploy: str
    revert: str
    verify: str | None = None
    backfill: RawBackfill | None = None

    def plan(self, catalog: Catalog, context: PlanContext) -> Planned:
        return Planned(catalog, ())


@pytest.fixture
def two_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading knows two small operations of its own, whatever the real ones are."""
    monkeypatch.setattr(operations, "catalogue", lambda: {"add_column": AddColumn, "sql": Sql})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "include" / "sql" / "changes"
    folder.mkdir(parents=True)
    (tmp_path / "include" / "expectations").mkdir()
    return folder


@pytest.fixture
def write(root: Path) -> Write:
    """A function that writes a change's folder: change.yaml, and more files by name without suffix."""

    def write_change(folder: str, text: str = MINIMAL, **scripts: str) -> Path:
        path = root / folder
        path.mkdir()
        (path / "change.yaml").write_text(text, encoding="utf-8")
        for name, script in scripts.items():
            (path / f"{name}.sql").write_text(script, encoding="utf-8")
        return path

    return write_change
