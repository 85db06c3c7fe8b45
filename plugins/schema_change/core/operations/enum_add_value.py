"""``enum_add_value``: a new value of an enum, in contract, because PostgreSQL cannot take one away again."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import ClassVar, Self

from psycopg import sql
from pydantic import Field, model_validator

from schema_change.core.catalog.model import Catalog
from schema_change.core.errors import PlanError
from schema_change.core.fields import Identifier, TableName
from schema_change.core.model import LockMode, Phase, Step
from schema_change.core.names import Table
from schema_change.core.operations.base import Operation, PlanContext, Planned
from schema_change.core.recipes import probe, text
from schema_change.core.recipes.dependents import shown

_LABEL = re.compile(r"E?'((?:[^']|'')*)'")


class EnumAddValue(Operation):
    """Add a value to an enum type."""

    kind: ClassVar[str] = "enum_add_value"

    type: TableName = Field(description="Enum, as schema.type")
    value: Identifier = Field(description="The new value")
    before: Identifier | None = Field(default=None, description="Existing value it sorts before")
    after: Identifier | None = Field(default=None, description="Existing value it sorts after; the last one by default")

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if self.before is not None and self.after is not None:
            raise ValueError("write before: or after:, not both")
        return self

    def plan(self, catalog: Catalog, context: PlanContext) -> Planned:
        """Return one step in contract: until then nothing needs to be taken back."""
        enum = Table.parse(self.type)
        key = f"enum {shown(enum)}"
        labels = _labels(catalog, enum, key)
        if self.value in labels:
            raise PlanError(f"enum {enum} has the value {self.value!r} already", hint="remove the operation")
        neighbour = self.before if self.before is not None else self.after
        if neighbour is not None and neighbour not in labels:
            raise PlanError(
                f"enum {enum} has no value {neighbour!r}", hint=f"its values are {', '.join(map(repr, labels))}"
            )
        step = Step(
            phase=Phase.CONTRACT,
            title=f"add value {self.value!r} to enum {enum}",
            tables=(),
            statements=(self._statement(enum),),
            lock=LockMode.NONE,
            probe=probe("enum_has_value", type=enum.quoted, value=self.value),
        )
        return Planned(
            catalog=replace(catalog, objects={**catalog.objects, key: self._after(catalog.objects[key], labels)}),
            steps=(step,),
            whole=True,
            notices=(f"value {self.value!r} of {enum} is there from contract on, for good; use it in a later change",),
        )

    def _statement(self, enum: Table) -> str:
        place: sql.Composable = sql.SQL("")
        if self.before is not None:
            place = sql.SQL(" BEFORE {}").format(sql.Literal(self.before))
        elif self.after is not None:
            place = sql.SQL(" AFTER {}").format(sql.Literal(self.after))
        add = sql.SQL("ALTER TYPE {} ADD VALUE IF NOT EXISTS {}{}")
        return text(add.format(enum.identifier, sql.Literal(self.value), place))

    def _after(self, picture: str, labels: list[str]) -> str:
        """Return the catalog's picture of the enum with the new value."""
        at = len(labels)
        if self.before is not None:
            at = labels.index(self.before)
        elif self.after is not None:
            at = labels.index(self.after) + 1
        items = (text(sql.Literal(label)).strip() for label in (*labels[:at], self.value, *labels[at:]))
        return ", ".join(items) + picture[picture.rindex("\nowner: ") :]


def _labels(catalog: Catalog, enum: Table, key: str) -> list[str]:
    picture = catalog.objects.get(key)
    if picture is None:
        known = sorted(name.removeprefix("enum ") for name in catalog.objects if name.startswith("enum "))
        raise PlanError(f"there is no enum {enum}", hint=f"enums of this database: {', '.join(known) or 'none'}")
    # A value may hold anything; what follows the values starts with the last line of this name.
    values = picture[: picture.rindex("\nowner: ")]
    return [match[1].replace("''", "'").replace("\\\\", "\\") for match in _LABEL.finditer(values)]
