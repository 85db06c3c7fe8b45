"""``comment``: say what a table, a column or another object is for; a rollback gives the former comment back."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self, TypeVar

from psycopg import sql
from pydantic import Field, model_validator

from schema_change.core.catalog.model import Catalog, Constraint, Index, Relation, Trigger
from schema_change.core.errors import PlanError
from schema_change.core.fields import Identifier, TableName
from schema_change.core.model import LockMode, Phase, Step
from schema_change.core.names import Table
from schema_change.core.operations.base import Operation, PlanContext, Planned, checked, column_of
from schema_change.core.recipes import raw, text
from schema_change.core.recipes.dependents import shown
from schema_change.core.sqltext.expression import normalise_type
from schema_change.core.sqltext.grammar import identifier

_RELATIONS = {"r": "TABLE", "p": "TABLE", "v": "VIEW", "m": "MATERIALIZED VIEW", "f": "FOREIGN TABLE"}
_TARGETS = ("table", "index", "function", "type", "sequence", "schema_name")
_PARTS = ("column", "constraint", "trigger")
# How the catalog's picture of an object ends: owner, grants and, if it has one, the comment.
_ENDING = re.compile(r"(?:^|\n)owner: [^\n]*\ngrants: [^\n]*(?:\ncomment: |\Z)")


@dataclass(frozen=True, slots=True)
class _Target:
    """What gets the comment: its words in COMMENT ON, the comment it has, and its relation as it is afterwards."""

    words: sql.Composable
    title: str
    before: str | None
    relation: Relation | None = None


_Part = TypeVar("_Part", Constraint, Trigger, Index)


class Comment(Operation):
    """Set, replace or remove the comment on an object."""

    kind: ClassVar[str] = "comment"
    example: ClassVar[Mapping[str, Any]] = {"table": "public.change_me"}

    table: TableName | None = Field(
        default=None, description="Table, view or materialized view, as schema.table; alone, or with one of its parts"
    )
    column: Identifier | None = Field(default=None, description="Column of the table or view")
    constraint: Identifier | None = Field(default=None, description="Constraint of the table")
    trigger: Identifier | None = Field(default=None, description="Trigger of the table")
    index: TableName | None = Field(default=None, description="Index, as schema.index")
    function: str | None = Field(
        default=None, description="Function, procedure or aggregate with its arguments, such as app.area(numeric)"
    )
    type: TableName | None = Field(default=None, description="Enum, domain, range or composite type, as schema.type")
    sequence: TableName | None = Field(default=None, description="Sequence, as schema.sequence")
    schema_name: Identifier | None = Field(default=None, description="Schema")
    text: str | None = Field(description="The comment; null removes the one that is there")

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        named = [key for key in _TARGETS if getattr(self, key) is not None]
        parts = [key for key in _PARTS if getattr(self, key) is not None]
        if len(named) != 1 or len(parts) > 1 or (parts and named != ["table"]):
            raise ValueError(
                f"name one object ({', '.join(_TARGETS)}), or a table and its {', '.join(_PARTS[:-1])} or {_PARTS[-1]}"
            )
        if self.text == "":
            raise ValueError("an empty text is no comment; write text: null to remove the one that is there")
        return self

    def plan(self, catalog: Catalog, context: PlanContext) -> Planned:
        """Return one step; its undo gives the comment before, or none, back."""
        target = self._target(catalog)
        if target.before == self.text:
            raise PlanError(f"{target.title} has this comment already", hint="remove the operation")
        relation = target.relation
        lock = LockMode.SHARE_UPDATE_EXCLUSIVE if relation else LockMode.NONE
        step = Step(
            # Behind everything this change makes or renames.
            phase=Phase.CUTOVER,
            title=f"comment on {target.title}",
            tables=(relation.table,) if relation else (),
            statements=(_statement(target.words, self.text),),
            lock=lock,
            undo=(_statement(target.words, target.before),),
            undo_lock=lock,
            lasting=False,
        )
        return Planned(
            catalog=catalog.with_relation(relation) if relation else catalog,
            steps=(step,),
            touched=(relation.table,) if relation else (),
            whole=relation is None,
        )

    def _target(self, catalog: Catalog) -> _Target:
        if self.table is not None:
            return self._of_relation(catalog, Table.parse(self.table))
        if self.index is not None:
            return self._of_index(catalog, Table.parse(self.index))
        if self.function is not None:
            return _of_object(catalog, ("function", "procedure", "aggregate"), _signature(self.function))
        if self.type is not None:
            return _of_object(catalog, ("enum", "domain", "range", "composite"), shown(Table.parse(self.type)), "TYPE")
        if self.sequence is not None:
            return _of_object(catalog, ("sequence",), shown(Table.parse(self.sequence)))
        return _of_object(catalog, ("schema",), identifier(self.schema_name or ""))

    def _of_relation(self, catalog: Catalog, table: Table) -> _Target:
        relation = catalog.get(table)
        if relation is None:
            raise PlanError(
                f"there is no table or view {table}",
                hint=f"known here: {', '.join(sorted(map(str, catalog.relations))[:10]) or 'no table'}",
            )
        if self.column is not None:
            column = column_of(relation, self.column)
            words = sql.SQL("COLUMN {}").format(sql.Identifier(table.schema, table.name, column.name))
            after = relation.with_column(replace(column, comment=self.text))
            return _Target(words, f"column {table}.{column.name}", column.comment, after)
        if self.constraint is not None:
            before, constraints = _commented(relation.constraints, self.constraint, self.text, f"constraint of {table}")
            after = replace(relation, constraints=constraints)
            return _Target(_on(table, "CONSTRAINT", self.constraint), f"constraint {self.constraint}", before, after)
        if self.trigger is not None:
            before, triggers = _commented(relation.triggers, self.trigger, self.text, f"trigger of {table}")
            after = replace(relation, triggers=triggers)
            return _Target(_on(table, "TRIGGER", self.trigger), f"trigger {self.trigger}", before, after)
        kind = _RELATIONS[relation.kind]
        words = sql.SQL("{} {}").format(sql.SQL(kind), table.identifier)
        return _Target(words, f"{kind.lower()} {table}", relation.comment, replace(relation, comment=self.text))

    def _of_index(self, catalog: Catalog, name: Table) -> _Target:
        here = [r for r in catalog.relations.values() if r.table.schema == name.schema]
        relation = next((r for r in here if r.index(name.name)), None)
        if relation is None:
            known = sorted(i.name for r in here for i in r.indexes)
            raise PlanError(f"there is no index {name}", hint=f"known here: {', '.join(known[:20]) or 'none'}")
        before, indexes = _commented(relation.indexes, name.name, self.text, f"index of {relation.table}")
        words = sql.SQL("INDEX {}").format(name.identifier)
        return _Target(words, f"index {name}", before, replace(relation, indexes=indexes))


def _commented(
    parts: tuple[_Part, ...], name: str, comment: str | None, what: str
) -> tuple[str | None, tuple[_Part, ...]]:
    """Return the comment that a part has, and the parts with the new one."""
    for part in parts:
        if part.name == name:
            return part.comment, tuple(replace(p, comment=comment) if p is part else p for p in parts)
    known = ", ".join(p.name for p in parts)
    raise PlanError(f"there is no {what} of the name {name}", hint=f"there are {known}" if known else "there is none")


def _on(table: Table, kind: str, name: str) -> sql.Composed:
    return sql.SQL("{} {} ON {}").format(sql.SQL(kind), sql.Identifier(name), table.identifier)


def _of_object(catalog: Catalog, kinds: tuple[str, ...], name: str, word: str | None = None) -> _Target:
    """Return an object that is no relation; the catalog has its name as SQL."""
    found = next((kind for kind in kinds if f"{kind} {name}" in catalog.objects), None)
    if found is None:
        stem = name.partition("(")[0]
        near = [known for known in catalog.objects if known.startswith(tuple(f"{kind} {stem}" for kind in kinds))]
        raise PlanError(
            f"there is no {kinds[0]} {name}",
            hint=f"did you mean {', '.join(near[:5])}?" if near else "write it with its schema",
        )
    endings = list(_ENDING.finditer(catalog.objects[f"{found} {name}"]))
    if len(endings) != 1:
        raise PlanError(
            f"the comment on {found} {name} cannot be told from its definition, so it could not be put back",
            hint="use a raw change (deploy.sql, revert.sql) for this one",
        )
    picture, (ending,) = catalog.objects[f"{found} {name}"], endings
    before = picture[ending.end() :] if ending[0].endswith("comment: ") else None
    words = sql.SQL("{} {}").format(sql.SQL(word or found.upper()), raw(name))
    return _Target(words, f"{found} {name}", before)


def _signature(function: str) -> str:
    """Return a function's name and arguments in the catalog's spelling."""
    name, bracket, rest = function.strip().partition("(")
    if not bracket or not rest.endswith(")"):
        raise PlanError(
            f"function: {function!r} has no arguments in brackets", hint="write them too: app.area(numeric), app.now()"
        )
    arguments = [a for a in rest[:-1].split(",") if a.strip()]
    return f"{shown(Table.parse(name))}({','.join(checked(normalise_type, a, 'function') for a in arguments)})"


def _statement(words: sql.Composable, comment: str | None) -> str:
    return text(sql.SQL("COMMENT ON {} IS {}").format(words, sql.Literal(comment)))
