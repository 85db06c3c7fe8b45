"""``split_table``: what a table repeats in many rows becomes a table of its own, with a foreign key to it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Literal

from psycopg import sql
from pydantic import BaseModel, ConfigDict, Field

from schema_change.core.catalog.model import Catalog, Column, Constraint, Relation
from schema_change.core.errors import PlanError
from schema_change.core.fields import Identifier, TableName
from schema_change.core.model import Backfill, DataCheck, Expectation, LockMode, Phase, Step
from schema_change.core.names import Table
from schema_change.core.operations.base import (
    Operation,
    PlanContext,
    Planned,
    checked,
    column_of,
    expression_of,
    refuse_shadowed,
    table_of,
)
from schema_change.core.recipes import (
    constraint,
    link_steps,
    links,
    raw,
    redundant_columns,
    table_beside,
    tables_in_step,
    text,
)
from schema_change.core.recipes.links import Copy, Derived, Link
from schema_change.core.sqltext.expression import index_keys, normalise_type, parse_expression, parse_over_rows

_COMMA = sql.SQL(", ")


class SplitColumn(BaseModel):
    """A column of the new table, beside its key."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    name: Identifier = Field(description="Name of the column in the new table")
    from_: str | None = Field(
        default=None,
        alias="from",
        description="Column of the original, or an expression over the rows of a key such as min(day); "
        "left out for a column that is only in the new table",
    )
    type: str | None = Field(default=None, description="PostgreSQL type; that of the original by default")
    default: str | None = Field(default=None, description="SQL expression for rows inserted without a value")
    nullable: bool = Field(default=True, description="false adds NOT NULL")
    comment: str | None = Field(default=None, description="Comment; that of the original by default")


class NewIndex(BaseModel):
    """An index of the new table."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    columns: tuple[str, ...] = Field(min_length=1, description="Columns or expressions")
    name: Identifier | None = Field(default=None, description="Name; made from table and columns by default")
    unique: bool = Field(default=False, description="Forbid duplicates")


class Into(BaseModel):
    """The new table."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    table: TableName = Field(description="New table, as schema.table")
    key: tuple[Identifier, ...] = Field(
        min_length=1, description="Columns of the original that become the primary key of the new table"
    )
    columns: tuple[SplitColumn, ...] = Field(min_length=1, description="Its other columns")
    indexes: tuple[NewIndex, ...] = Field(default=(), description="Its indexes")
    comment: str | None = Field(default=None, description="Comment on the table")


class Latest(BaseModel):
    """The row with the greatest value of an expression gives the values."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    latest: str = Field(description="SQL expression over the row, such as updated_at")


def with_indexes(catalog: Catalog, new: Relation, wanted: Iterable[NewIndex]) -> Relation:
    """Return the new table with indexes. Raises PlanError for a column it does not have and a name that is taken."""
    for index in wanted:
        keys = checked(index_keys, index.columns, "indexes.columns")
        refuse_shadowed(catalog, (name for key in keys for name in key.bare_functions), "indexes.columns")
        for name in (c for key in keys for c in key.columns):
            column_of(new, name)
        new = table_beside.with_index(catalog, new, keys, index.name, unique=index.unique)
    return new


@dataclass(frozen=True, slots=True)
class _Split:
    """The new table, and what is kept in step with it."""

    relation: Relation
    new: Relation
    link: Link
    dropped: tuple[str, ...]


class SplitTable(Operation):
    """Move what a table repeats in many rows into a table of its own; both shapes are kept in step until contract."""

    kind: ClassVar[str] = "split_table"

    table: TableName = Field(description="Table to split, as schema.table")
    into: Into
    foreign_key: Identifier | None = Field(
        default=None, description="Name of the foreign key to the new table; made from table and key by default"
    )
    drop_columns: tuple[Identifier, ...] | None = Field(
        default=None, description="Columns that contract drops; by default every column that the new table has"
    )
    conflicts: Literal["fail", "first"] | Latest = Field(
        default="fail",
        description="What to do when rows of one key have different values: fail, first (by the table's key) or "
        "{latest: <expression>}",
    )

    def plan(self, catalog: Catalog, context: PlanContext) -> Planned:
        """Return the steps: create, keep in step, copy; the foreign key at cutover; drop the columns in contract."""
        relation = table_of(catalog, self.table)
        split = self._split(catalog, relation)
        link, table = split.link, relation.table
        _refuse_fresh(context, link)
        _refuse_in_the_way(catalog, split)
        name = constraint.free_name(relation, self.foreign_key, table.name, *self.into.key, "fkey")
        reference = sql.SQL("FOREIGN KEY ({0}) REFERENCES {1} ({0})").format(
            _COMMA.join(map(sql.Identifier, self.into.key)), link.one.identifier
        )
        dropped = redundant_columns.drop(relation, link, split.dropped, context.version)
        steps = (
            *link_steps.searchable(catalog, relation, self.into.key),
            table_beside.create(split.new),
            link_steps.keep_in_step(link),
            _copy(relation, link),
            *constraint.add(
                *(table, name, reference),
                phase=Phase.CUTOVER,
                lock=LockMode.SHARE_ROW_EXCLUSIVE,
                references=link.one,
            ),
            *dropped.steps,
        )
        foreign_key = Constraint(name, "f", text(reference), self.into.key, references=link.one)
        left = replace(
            relation,
            columns=tuple(c for c in relation.columns if c.name not in split.dropped),
            constraints=(*relation.constraints, foreign_key),
        )
        return Planned(
            catalog=catalog.with_relation(left).with_relation(split.new),
            steps=steps,
            expectations=tuple(_expectations(link)),
            data_checks=(*self._checks(link), *link_steps.duplicates(link, split.new), *dropped.checks),
            written=(table, link.one),
            filled=frozenset((link.one, c.name) for c in split.new.columns),
            data_migration=True,
            notices=tuple(_notices(split)),
            retired=dropped.retired,
        )

    def _split(self, catalog: Catalog, relation: Relation) -> _Split:
        key = tuple(_plain(relation, name) for name in self.into.key)
        copies: list[Copy] = []
        derived: list[Derived] = []
        inputs: list[str] = []
        columns = [replace(c, default=None, identity="", grants=(), options=(), nullable=False) for c in key]
        for column in self.into.columns:
            source = _source(relation, column.from_)
            if source is not None:
                columns.append(_copied(column, source))
                copies.append(Copy(source.name, column.name, source.type, source.default))
            elif column.from_ is not None:
                columns.append(_computed(column))
                where = f"into.columns.{column.name}.from"
                read = expression_of(catalog, partial(parse_over_rows, group=self.into.key), column.from_, where)
                derived.append(Derived(column.name, columns[-1].type, read.text))
                inputs += [c.name for c in relation.columns if read.may_read(relation.table.name, c.name)]
            else:
                columns.append(self._added(catalog, column))
        _refuse_twice([c.name for c in columns], "into.columns")
        _refuse_twice([c.many for c in copies], "into.columns: from")
        if not copies:
            raise PlanError(
                "into.columns: no column is taken from the original", hint=f"write from: <column of {relation.table}>"
            )
        table = Table.parse(self.into.table)
        new = table_beside.shape(catalog, relation, table, tuple(columns), self.into.key)
        link = Link(
            many=relation.table,
            one=table,
            key=tuple((k, k) for k in self.into.key),
            copies=tuple(copies),
            derived=tuple(derived),
            inputs=tuple(dict.fromkeys(inputs)),
            order=self._order(catalog, relation),
            unique=links.uniquely(relation),
        )
        new = replace(with_indexes(catalog, new, self.into.indexes), comment=self.into.comment)
        return _Split(relation, new, link, self._dropped(link))

    def _order(self, catalog: Catalog, relation: Relation) -> str:
        """Return what decides which row of a key gives the values; nothing when all must agree."""
        if self.conflicts == "fail":
            return ""
        first = [sql.Identifier(relation.table.name, c) for c in relation.key or ("ctid",)]
        if isinstance(self.conflicts, Latest):
            latest = expression_of(catalog, parse_expression, self.conflicts.latest, "conflicts.latest")
            return text(sql.SQL("({}) DESC NULLS LAST, {}").format(raw(latest.text), _COMMA.join(first)))
        return text(_COMMA.join(first))

    def _added(self, catalog: Catalog, column: SplitColumn) -> Column:
        if column.type is None:
            raise PlanError(f"into.columns: {column.name} has neither from: nor type:", hint="write its type")
        if not column.nullable and column.default is None:
            raise PlanError(
                f"into.columns: {column.name} is NOT NULL, but nothing gives it a value", hint="add default:"
            )
        if column.default is not None:
            expression_of(catalog, parse_expression, column.default, f"into.columns.{column.name}.default")
        return _shape(column, checked(normalise_type, column.type, f"into.columns.{column.name}.type"))

    def _dropped(self, link: Link) -> tuple[str, ...]:
        copied = tuple(c.many for c in link.copies)
        if self.drop_columns is None:
            return copied
        if others := [c for c in self.drop_columns if c not in copied]:
            raise PlanError(
                f"drop_columns: {', '.join(others)} would be lost: the new table does not have it",
                hint="take it into the new table with from:, or drop it with drop_column",
            )
        return self.drop_columns

    def _checks(self, link: Link) -> tuple[DataCheck, ...]:
        keyless = (link_steps.lost_without_key(link),) if self.drop_columns != () else ()
        return (*keyless, *(() if link.order else (link_steps.contradictions(link),)))


def _plain(relation: Relation, name: str) -> Column:
    """Return a column that a trigger can read before its row is written."""
    column = column_of(relation, name)
    if column.generated:
        raise PlanError(
            f"{relation.table}.{name} is generated, which is computed only after our trigger has seen the row",
            hint="take the columns it is made of, or an expression over the rows such as min(…)",
        )
    return column


def _source(relation: Relation, text_: str | None) -> Column | None:
    """Return the column that ``from:`` names, if it is nothing but a name."""
    source = table_beside.named(relation, text_) if text_ is not None else None
    return _plain(relation, source.name) if source is not None else None


def _shape(column: SplitColumn, type_: str) -> Column:
    return Column(column.name, type_, column.nullable, column.default, comment=column.comment)


def _copied(column: SplitColumn, source: Column) -> Column:
    where = f"into.columns.{column.name}"
    if column.type is not None and checked(normalise_type, column.type, f"{where}.type") != source.type:
        raise PlanError(
            f"{where}: {source.name} is {source.type}, not {column.type}",
            hint="leave out type:; change the type of the column with change_type in a change of its own",
        )
    if not column.nullable and source.nullable:
        raise PlanError(f"{where}: {source.name} may be NULL", hint="make it NOT NULL with set_not_null first")
    comment = column.comment if column.comment is not None else source.comment
    return replace(_shape(column, source.type), collation=source.collation, comment=comment)


def _computed(column: SplitColumn) -> Column:
    where = f"into.columns.{column.name}"
    if column.type is None:
        raise PlanError(f"{where} is computed, so its type is not known", hint="write type:")
    if not column.nullable:
        raise PlanError(
            f"{where} is computed once the rows of its key are there, so it cannot be NOT NULL yet",
            hint="leave out nullable: false; use set_not_null in a later change",
        )
    return _shape(column, checked(normalise_type, column.type, f"{where}.type"))


def _refuse_twice(names: list[str], where: str) -> None:
    if twice := sorted({n for n in names if names.count(n) > 1}):
        raise PlanError(f"{where}: {', '.join(twice)} is there twice", hint="name each column once")


def _refuse_fresh(context: PlanContext, link: Link) -> None:
    used = (*(m for m, _ in link.key), *(c.many for c in link.copies), *link.inputs)
    if fresh := [c for c in used if (link.many, c) in context.filled]:
        raise PlanError(
            f"{link.many}.{fresh[0]} gets its values in this change, after the triggers that copy it are made",
            hint="split the table in a change of its own, after this one",
        )


def _refuse_in_the_way(catalog: Catalog, split: _Split) -> None:
    """Raise PlanError listing what the dropped columns are used by, and what the new table would not have."""
    relation = split.relation
    if relation.inherits or catalog.below(relation.table):
        raise PlanError(
            f"{relation.table} inherits or is inherited from, so its rows are in several tables",
            hint="use a raw change (deploy.sql, revert.sql, verify.sql)",
        )
    if relation.row_security:
        raise PlanError(
            f"{relation.table} has row-level security, which the new table would not have",
            hint="create the new table and its policies in a raw change",
        )
    found: dict[str, None] = {}
    for column in split.dropped:
        users = (u for u in relation.users_of(column) if u.kind != "publication" or column in u.columns)
        found |= dict.fromkeys(map(str, users))
        for kind in ("constraint", "trigger"):
            found |= dict.fromkeys(f"{kind} {name}" for name in sorted(relation.parts_of(column, kind)))
    if found:
        raise PlanError(
            f"columns of {relation.table} that are to be dropped are used by {', '.join(found)}",
            hint="change or drop these first, or keep the columns with drop_columns:",
        )


def _copy(relation: Relation, link: Link) -> Step:
    batch, pending = tables_in_step.copied(link)
    return Step(
        phase=Phase.BACKFILL,
        title=f"copy {link.one} from {link.many}",
        tables=(link.many, link.one),
        lock=LockMode.ROW_EXCLUSIVE,
        lasting=False,
        backfill=Backfill(
            table=link.many, column="", expression="true", pending=pending, key=relation.key, batch=batch
        ),
    )


def _expectations(link: Link) -> Iterator[Expectation]:
    ours, theirs = [m for m, _ in link.key], [o for _, o in link.key]
    yield Expectation(link.one, "expect_compound_key_to_be_unique", {"columns": theirs}, f"{'_'.join(theirs)}_unique")
    yield Expectation(
        table=link.many,
        type="expect_no_orphaned_rows",
        kwargs={"columns": ours, "parent_table": str(link.one), "parent_columns": theirs},
        check_id=f"{'_'.join(ours)}_in_{link.one.name}",
        until_contract=True,
    )
    if not link.order:
        yield Expectation(
            table=link.many,
            type="expect_rows_to_satisfy_sql",
            kwargs={"sql": tables_in_step.agreement(link)},
            check_id=f"agrees_with_{link.one.name}",
            notes=f"the columns that {link.many} and {link.one} both have agree",
            until_contract=True,
        )


def _notices(split: _Split) -> Iterator[str]:
    link = split.link
    yield (
        f"until contract one write of {', '.join(c.many for c in link.copies)} in a row of {link.many} changes all "
        "rows of its key, and an inserted row without a value takes that of its key"
    )
    yield (
        f"a rollback drops {link.one}: rows whose key {link.many} does not have, and values of columns that only "
        "the new table has, go with it"
    )
    if link.derived:
        yield (
            f"until contract {', '.join(d.one for d in link.derived)} of {link.one} follow {link.many}; writers of "
            "rows of one key wait for each other"
        )
    if lost := sorted({i for c in split.dropped for i in split.relation.parts_of(c, "index")}):
        yield f"contract drops the indexes {', '.join(lost)} of {link.many} with their columns"
