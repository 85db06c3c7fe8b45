"""``create_table``: a new table with everything on it; a rollback keeps the rows that were written into it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar, Literal, Self

from psycopg import sql
from pydantic import BaseModel, ConfigDict, Field, model_validator

from schema_change.core import sqlfiles
from schema_change.core.catalog.model import Catalog, Column, Constraint, Index, Relation, Use
from schema_change.core.errors import PlanError
from schema_change.core.fields import Identifier, TableName
from schema_change.core.model import LockMode, Phase, Step
from schema_change.core.names import Table, hashed_name, short_name, split
from schema_change.core.operations.add_column import NewColumn
from schema_change.core.operations.add_foreign_key import Action, References
from schema_change.core.operations.base import (
    Operation,
    PlanContext,
    Planned,
    checked,
    column_of,
    expression_of,
    table_of,
)
from schema_change.core.operations.create_index import CreateIndex
from schema_change.core.operations.create_view import Privilege
from schema_change.core.recipes import constraint as constraints
from schema_change.core.recipes import foreign_key as foreign_key_recipe
from schema_change.core.recipes import probe, raw, text
from schema_change.core.recipes.dependents import shown
from schema_change.core.recipes.index import is_taken
from schema_change.core.sqltext.expression import normalise_type, parse_expression, parse_predicate
from schema_change.core.sqltext.grammar import identifier

_COMMA = sql.SQL(", ")
_SERIAL = {
    "smallserial": "smallint",
    "serial2": "smallint",
    "serial": "integer",
    "serial4": "integer",
    "bigserial": "bigint",
    "serial8": "bigint",
}
_IDENTITY = {"always": "a", "by default": "d"}


class NewForeignKey(BaseModel):
    """A foreign key of the new table."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    columns: tuple[Identifier, ...] = Field(min_length=1, description="Columns that refer")
    references: References
    on_delete: Action = Field(default="no_action", description="When the referenced row is deleted")
    on_update: Action = Field(default="no_action", description="When the referenced key changes")


class NewIndex(BaseModel):
    """An index of the new table."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    columns: tuple[str, ...] = Field(min_length=1, description="Columns or expressions, as in create_index")
    name: Identifier | None = Field(default=None, description="Name; made from table and columns by default")
    unique: bool = Field(default=False, description="Forbid duplicates")
    method: Literal["btree", "hash", "gin", "gist", "spgist", "brin"] = Field(
        default="btree", description="Index method"
    )
    include: tuple[Identifier, ...] = Field(default=(), description="Columns stored in the index but not searched")
    where: str | None = Field(default=None, description="Predicate of a partial index")


class PartitionBy(BaseModel):
    """How the rows are divided; the partitions themselves are created as they are needed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Literal["range", "list", "hash"]
    columns: tuple[Identifier, ...] = Field(min_length=1, description="Columns that decide about the partition")


class CreateTable(Operation):
    """Create a table with its constraints, indexes, comments and privileges."""

    kind: ClassVar[str] = "create_table"

    table: TableName = Field(description="The new table, as schema.table")
    columns: tuple[NewColumn, ...] = Field(min_length=1, description="Columns in order; serial becomes an identity")
    primary_key: tuple[Identifier, ...] = Field(default=(), description="Columns of the primary key")
    unique: tuple[tuple[Identifier, ...], ...] = Field(
        default=(), description="Lists of columns whose values together must be unique"
    )
    checks: tuple[str, ...] = Field(default=(), description="Conditions that every row must satisfy")
    foreign_keys: tuple[NewForeignKey, ...] = Field(default=(), description="What its columns refer to")
    indexes: tuple[NewIndex, ...] = Field(default=(), description="Indexes besides those of the keys")
    partition_by: PartitionBy | None = Field(default=None, description="Make it a partitioned table")
    comment: str | None = Field(default=None, description="Comment on the table")
    grants: dict[Identifier, tuple[Privilege, ...]] = Field(
        default={}, description="Roles and what they may do, such as {reader: [select]}; public is everybody"
    )

    @model_validator(mode="after")
    def _columns_are_there(self) -> Self:
        names = [c.name for c in self.columns]
        if twice := sorted({n for n in names if names.count(n) > 1}):
            raise ValueError(f"there are two columns {', '.join(twice)}")
        used = (
            *self.primary_key,
            *(c for u in self.unique for c in u),
            *(c for k in self.foreign_keys for c in k.columns),
        )
        used += self.partition_by.columns if self.partition_by else ()
        if unknown := sorted(set(used) - set(names)):
            raise ValueError(f"no column {', '.join(unknown)}; there are {', '.join(names)}")
        return self

    def plan(self, catalog: Catalog, context: PlanContext) -> Planned:
        """Return one expand step."""
        table = Table.parse(self.table)
        _refuse_taken(catalog, table)
        bare = Relation(
            table=table,
            kind="p" if self.partition_by else "r",
            owner="",
            columns=tuple(self._column(catalog, c) for c in self.columns),
            partition_key=self._partition_key(),
            comment=self.comment,
        )
        named = replace(bare, constraints=tuple(self._constraints(catalog, bare)))
        named = replace(named, indexes=tuple(_key_indexes(named)))
        shapes = tuple(self._shape(catalog.with_relation(named), named, key) for key in self.foreign_keys)
        for shape in shapes:
            name = constraints.free_name(named, None, table.name, *shape.columns, "fkey")
            key = Constraint(
                name,
                "f",
                foreign_key_recipe.definition_text(shape),
                columns=shape.columns,
                references=shape.parent.table,
            )
            named = replace(named, constraints=(*named.constraints, key))
        complete = self._indexed(catalog, named, context)
        parents = tuple(dict.fromkeys(s.parent.table for s in shapes if s.parent.table != table))
        step = Step(
            phase=Phase.EXPAND,
            title=f"create table {table}",
            tables=(table, *parents),
            statements=tuple(self._statements(complete)),
            # Nobody else sees the new table yet; a foreign key locks what it refers to.
            lock=LockMode.SHARE_ROW_EXCLUSIVE if parents else LockMode.NONE,
            probe=probe("is_table_with", relation=table.quoted, columns=[c.name for c in self.columns]),
            undo=(_undo(complete),),
            undo_lock=LockMode.ACCESS_EXCLUSIVE,
        )
        return Planned(
            catalog=_with_users(catalog.with_relation(complete), complete, parents),
            steps=(step,),
            touched=(table, *parents),
            notices=tuple(self._notices(table)),
        )

    def _column(self, catalog: Catalog, column: NewColumn) -> Column:
        key = f"columns.{column.name}"
        plain = column.type.strip().lower()
        serial = _SERIAL.get(plain)
        if serial and (column.default or column.generated or column.identity):
            raise PlanError(f"{key}: {plain} numbers the rows itself", hint=f"type: {serial}, with what else it has")
        if column.default is not None:
            expression_of(catalog, parse_expression, column.default, f"{key}.default")
        if column.generated is not None:
            expression_of(catalog, parse_predicate, column.generated.expression, f"{key}.generated.expression")
        identity = _IDENTITY.get(column.identity or ("by default" if serial else ""), "")
        return Column(
            name=column.name,
            type=serial or checked(normalise_type, column.type, f"{key}.type"),
            nullable=column.nullable and not identity and column.name not in self.primary_key,
            default=column.generated.expression if column.generated else column.default,
            generated=("s" if column.generated.stored else "v") if column.generated else "",
            identity=identity,
            collation=text(sql.Identifier(*split(column.collation))) if column.collation else None,
            comment=column.comment,
        )

    def _partition_key(self) -> str | None:
        if self.partition_by is None:
            return None
        columns = _COMMA.join(map(sql.Identifier, self.partition_by.columns))
        return text(sql.SQL("{} ({})").format(sql.SQL(self.partition_by.method.upper()), columns))

    def _constraints(self, catalog: Catalog, bare: Relation) -> Iterator[Constraint]:
        taken = bare

        def named(kind: str, definition: sql.Composable, columns: tuple[str, ...], *parts: str) -> Constraint:
            nonlocal taken
            numbers = ("", *map(str, range(1, 100)))
            names = (short_name(bare.table.name, *parts[:-1], f"{parts[-1]}{n}") for n in numbers)
            name = next(n for n in names if all(c.name != n for c in taken.constraints))
            made = Constraint(name, kind, text(definition), columns=columns)
            taken = replace(taken, constraints=(*taken.constraints, made))
            return made

        if self.primary_key:
            listed = _COMMA.join(map(sql.Identifier, self.primary_key))
            yield named("p", sql.SQL("PRIMARY KEY ({})").format(listed), self.primary_key, "pkey")
        for columns in self.unique:
            listed = _COMMA.join(map(sql.Identifier, columns))
            yield named("u", sql.SQL("UNIQUE ({})").format(listed), columns, *columns, "key")
        for check in self.checks:
            condition = expression_of(catalog, parse_predicate, check, "checks")
            for column in condition.columns:
                column_of(bare, column)
            definition = sql.SQL("CHECK ({})").format(raw(condition.text))
            yield named("c", definition, condition.columns, *condition.columns[:1], "check")

    def _shape(self, catalog: Catalog, relation: Relation, key: NewForeignKey) -> foreign_key_recipe.Shape:
        parent = table_of(catalog, key.references.table, partitions=True)
        for column in key.references.columns:
            column_of(parent, column)
        shape = foreign_key_recipe.Shape(
            relation=relation,
            columns=key.columns,
            parent=parent,
            parent_columns=key.references.columns or foreign_key_recipe.primary_key(parent),
            on_delete=key.on_delete.upper().replace("_", " "),
            on_update=key.on_update.upper().replace("_", " "),
            full=False,
            deferrable="",
        )
        foreign_key_recipe.refuse_unfit(shape)
        return shape

    def _indexed(self, catalog: Catalog, relation: Relation, context: PlanContext) -> Relation:
        """Return the relation with its other indexes, planned as create_index does."""
        for index in self.indexes:
            operation = CreateIndex(table=relation.table.quoted, **index.model_dump())
            catalog = operation.plan(catalog.with_relation(relation), context).catalog
            relation = catalog.relations[relation.table]
        return relation

    def _statements(self, relation: Relation) -> Iterator[str]:
        table = relation.table.identifier
        items = [_column(c) for c in relation.columns]
        items += [
            sql.SQL("CONSTRAINT {} {}").format(sql.Identifier(c.name), raw(c.definition)) for c in relation.constraints
        ]
        divided = raw(f" PARTITION BY {relation.partition_key}" if relation.partition_key else "")
        yield text(sql.SQL("CREATE TABLE {} ({}){}").format(table, _COMMA.join(items), divided))
        keys = {c.name for c in relation.constraints}
        yield from (i.definition for i in relation.indexes if i.name not in keys)
        if relation.comment is not None:
            yield text(sql.SQL("COMMENT ON TABLE {} IS {}").format(table, sql.Literal(relation.comment)))
        for column in (c for c in relation.columns if c.comment is not None):
            comment = sql.SQL("COMMENT ON COLUMN {}.{} IS {}")
            yield text(comment.format(table, sql.Identifier(column.name), sql.Literal(column.comment)))
        for role, privileges in self.grants.items():
            yield text(
                sql.SQL("GRANT {} ON {} TO {}").format(
                    _COMMA.join(sql.SQL(p.upper()) for p in privileges),
                    table,
                    sql.SQL("PUBLIC") if role == "public" else sql.Identifier(role),
                )
            )

    def _notices(self, table: Table) -> Iterator[str]:
        for column in self.columns:
            if serial := _SERIAL.get(column.type.strip().lower()):
                yield f"{column.name} becomes {serial} GENERATED BY DEFAULT AS IDENTITY, which {column.type} stands for"
        if self.partition_by is not None:
            yield f"{table} takes rows only once it has partitions for them"
        yield f"a rollback drops {table}; rows written into it by then are kept in schema schema_change_retired"


def _refuse_taken(catalog: Catalog, table: Table) -> None:
    kinds = ("sequence", "enum", "domain", "composite", "range")
    if is_taken(catalog, table) or any(f"{kind} {shown(table)}" in catalog.objects for kind in kinds):
        raise PlanError(
            f"there is already something named {table}",
            hint="choose another name; a table that was made by hand is adopted by leaving the operation out",
        )
    if table.schema != "public" and f"schema {identifier(table.schema)}" not in catalog.objects:
        raise PlanError(f"there is no schema {table.schema}", hint="create it first, or name another one")


def _key_indexes(relation: Relation) -> Iterator[Index]:
    """Yield the indexes of the keys, as the catalog will show them."""
    for constraint in (c for c in relation.constraints if c.type in {"p", "u"}):
        definition = sql.SQL("CREATE UNIQUE INDEX {} ON {} USING btree ({})").format(
            sql.Identifier(constraint.name),
            relation.table.identifier,
            _COMMA.join(map(sql.Identifier, constraint.columns)),
        )
        primary = constraint.type == "p"
        yield Index(constraint.name, text(definition), constraint.columns, unique=True, primary=primary)


def _column(column: Column) -> sql.Composed:
    value = ""
    if column.identity:
        value = f" GENERATED {'ALWAYS' if column.identity == 'a' else 'BY DEFAULT'} AS IDENTITY"
    elif column.generated:
        value = f" GENERATED ALWAYS AS ({column.default}) {'STORED' if column.generated == 's' else 'VIRTUAL'}"
    elif column.default is not None:
        value = f" DEFAULT {column.default}"
    return sql.SQL("{} {}{}{}{}").format(
        sql.Identifier(column.name),
        raw(column.type),
        raw(f" COLLATE {column.collation}" if column.collation else ""),
        raw(value),
        sql.SQL("" if column.nullable else " NOT NULL"),
    )


def _undo(relation: Relation) -> str:
    """Return the statement that drops the table, or moves it to what is kept when somebody wrote rows into it."""
    table = relation.table
    body = sqlfiles.block("queries/retention", "undo_create").format(
        table=table.identifier,
        name=sql.Literal(table.quoted),
        schema=sql.Literal(table.schema),
        table_name=sql.Literal(table.name),
        # The id of the run goes behind it.
        prefix=sql.Literal(hashed_name("created", table.schema, table.name).encode()[:40].decode(errors="ignore")),
        key=sql.Literal(list(relation.key)),
    )
    return text(sql.SQL("DO {}").format(sql.Literal(text(body))))


def _with_users(catalog: Catalog, relation: Relation, parents: tuple[Table, ...]) -> Catalog:
    """Return the catalog in which the tables referred to know of the foreign keys."""
    for parent in filter(None, map(catalog.get, parents)):
        keys = [c for c in relation.constraints if c.references == parent.table]
        uses = tuple(Use("foreign key", f"{identifier(c.name)} of {shown(relation.table)}") for c in keys)
        dependants = tuple(sorted((*parent.dependants, *map(str, uses))))
        catalog = catalog.with_relation(replace(parent, uses=(*parent.uses, *uses), dependants=dependants))
    return catalog
