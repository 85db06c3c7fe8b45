"""``table_version``: a new version of a table beside the old one, kept in step with it until readers have switched."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

from psycopg import sql
from pydantic import BaseModel, ConfigDict, Field

from schema_change.core.catalog.model import Catalog, Column, Relation
from schema_change.core.errors import PlanError
from schema_change.core.fields import Identifier, TableName
from schema_change.core.model import DataCheck, Expectation, LockMode, Phase, Step
from schema_change.core.names import Table
from schema_change.core.operations.base import (
    Operation,
    PlanContext,
    Planned,
    checked,
    column_of,
    expression_of,
    table_of,
)
from schema_change.core.operations.drop_table import DropTable
from schema_change.core.operations.split_table import NewIndex, with_indexes
from schema_change.core.recipes import raw, retire, switched_view, table_beside, text, versions_in_step
from schema_change.core.recipes.dependents import shown
from schema_change.core.recipes.versions_in_step import Value, Versions
from schema_change.core.sqltext.expression import normalise_type, parse_expression

_ALWAYS = "a"
_ACTS = re.compile(r" ON (?:DELETE|UPDATE) (?:CASCADE|SET )")


class VersionColumn(BaseModel):
    """A column of the new version."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    name: Identifier = Field(description="Name of the column in the new version")
    from_: str | None = Field(
        default=None,
        alias="from",
        description="Column of the old version, or an SQL expression over its row; left out for a column that is only "
        "in the new one",
    )
    type: str | None = Field(default=None, description="PostgreSQL type; that of the column copied by default")
    default: str | None = Field(default=None, description="SQL expression; that of the column copied by default")
    nullable: bool | None = Field(default=None, description="false is NOT NULL; as the column copied by default")
    comment: str | None = Field(default=None, description="Comment; that of the column copied by default")


@dataclass(frozen=True, slots=True)
class _Version:
    """The new table, what is kept in step with it, and which of its columns are plain copies (new: old)."""

    old: Relation
    new: Relation
    versions: Versions
    copies: dict[str, str]
    checks: tuple[DataCheck, ...]


class TableVersion(Operation):
    """Make a new version of a table: written with the old one, filled, compared, then read in its place."""

    kind: ClassVar[str] = "table_version"

    table: TableName = Field(description="Table to replace, as schema.table")
    to: TableName = Field(description="Name of the new version, as schema.table")
    columns: tuple[VersionColumn, ...] = Field(min_length=1, description="Columns of the new version, in order")
    down: dict[Identifier, str] | None = Field(
        default=None,
        description="Columns of the old version and the SQL expressions over a row of the new one that give their "
        "values; columns copied as they are need none. Without it, computed columns make the change one-way after "
        "cutover",
    )
    view: TableName | None = Field(
        default=None, description="View that readers use: of the old version until cutover, then of the new one"
    )
    indexes: tuple[NewIndex, ...] = Field(default=(), description="Indexes of the new version, beside its key")
    comment: str | None = Field(default=None, description="Comment on the new version")

    def plan(self, catalog: Catalog, context: PlanContext) -> Planned:
        """Return the steps: create, keep in step, copy; switch the view at cutover; retire the old one in contract."""
        old = table_of(catalog, self.table)
        _refuse(catalog, old, context)
        version = self._version(catalog, old)
        versions, new = version.versions, version.new
        view = self._view(catalog, version)
        retired = self._retire(
            switched_view.after(catalog, view, new) if view else catalog.with_relation(new), version, context
        )
        steps = (
            table_beside.create(new),
            *((view.create,) if view and view.create else ()),
            versions_in_step.keep(versions),
            versions_in_step.copy(versions, old.key),
            *((view.switch,) if view else ()),
            _stop(catalog, version),
            *(replace(step, phase=Phase.CONTRACT, undo=()) for step in retired.steps),
        )
        return Planned(
            catalog=retired.catalog,
            steps=steps,
            expectations=tuple(_expectations(versions)),
            data_checks=(*version.checks, *retired.data_checks),
            written=(old.table, new.table),
            read=tuple(t for v in versions.up for t in parse_expression(v.expression).tables),
            filled=frozenset((new.table, c.name) for c in new.columns),
            data_migration=True,
            notices=tuple(_notices(version)),
            touched=(*retired.touched, *((view.relation.table,) if view else ())),
            one_way=self._one_way(version),
            retired=retired.retired,
        )

    def _version(self, catalog: Catalog, old: Relation) -> _Version:
        table = Table.parse(self.to)
        if table.name == old.table.name:
            raise PlanError(
                f"{table} has the bare name of {old.table}, so expressions could not tell their rows apart",
                hint="give the new version another name",
            )
        if len({c.name for c in self.columns}) < len(self.columns):
            raise PlanError("columns: a name is there twice", hint="name each column once")
        copies = {c.name: o.name for c in self.columns if (o := _copied(old, c.from_)) is not None}
        columns = tuple(self._column(catalog, old, c, copies.get(c.name)) for c in self.columns)
        key = _key(old, copies)
        new = table_beside.shape(catalog, old, table, columns, tuple(n for _, n in key))
        new = replace(with_indexes(catalog, new, self.indexes), comment=self.comment)
        keys = {n for _, n in key}
        up = tuple(
            Value(c.name, shape.type, self._up(catalog, old, c))
            for c, shape in zip(self.columns, columns, strict=True)
            if c.from_ is not None and c.name not in keys
        )
        versions = Versions(
            old=old.table,
            new=table,
            key=key,
            up=up,
            down=self._down(catalog, old, new, copies, key),
            numbered=tuple((o, n) for n, o in copies.items() if (c := old.column(o)) and c.identity),
        )
        checks = (*self._nulls(old, new, copies), *versions_in_step.fits(catalog, old, new, versions))
        return _Version(old, new, versions, copies, checks)

    def _column(self, catalog: Catalog, old: Relation, column: VersionColumn, copied: str | None) -> Column:
        where = f"columns.{column.name}"
        source = old.column(copied) if copied is not None else None
        if column.type is None and source is None:
            raise PlanError(f"{where}: its type is not known", hint="write type:")
        type_ = checked(normalise_type, column.type, f"{where}.type") if column.type else source.type if source else ""
        if column.default is not None:
            expression_of(catalog, parse_expression, column.default, f"{where}.default")
        if column.nullable is False and column.from_ is None and column.default is None:
            raise PlanError(f"{where} is NOT NULL, but nothing gives it a value", hint="add from: or default:")
        default, nullable, comment = column.default, column.nullable, column.comment
        if source is not None:
            plain = not source.generated and type_ == source.type
            default = default if default is not None else source.default if plain else None
            nullable = source.nullable if nullable is None else nullable
            comment = source.comment if comment is None else comment
        return Column(
            column.name,
            type_,
            nullable is not False,
            default,
            collation=source.collation if source and type_ == source.type else None,
            comment=comment,
        )

    def _up(self, catalog: Catalog, old: Relation, column: VersionColumn) -> str:
        if (source := _copied(old, column.from_)) is not None:
            return text(sql.SQL("{}").format(sql.Identifier(old.table.name, source.name)))
        read = expression_of(catalog, parse_expression, column.from_ or "", f"columns.{column.name}.from")
        for virtual in (c.name for c in old.columns if c.generated == "v"):
            if read.may_read(old.table.name, virtual):
                raise PlanError(
                    f"columns.{column.name}.from reads {virtual}, which is computed when it is read, not in a trigger",
                    hint="write that column's own expression instead",
                )
        return read.text

    def _down(
        self,
        catalog: Catalog,
        old: Relation,
        new: Relation,
        copies: dict[str, str],
        key: tuple[tuple[str, str], ...],
    ) -> tuple[Value, ...] | None:
        """Return how the old row is made of the new one; None when it is not."""
        computed = any(c.from_ is not None and _same(c, copies, old, new) is None for c in self.columns)
        if self.down is None and computed:
            return None
        found: dict[str, Value] = {}
        keys = {o for o, _ in key}
        for column in self.columns:
            source = _same(column, copies, old, new)
            if source is not None and source.name not in keys and not source.generated:
                expression = text(sql.SQL("{}").format(sql.Identifier(new.table.name, column.name)))
                found.setdefault(source.name, Value(source.name, source.type, expression))
        for name, written in (self.down or {}).items():
            target = column_of(old, name)
            if name in keys or target.generated or name in found:
                reason = "is generated" if target.generated else "is copied as it is"
                raise PlanError(f"down: {name} {reason}", hint="leave it out")
            read = expression_of(catalog, parse_expression, written, f"down.{name}")
            found[name] = Value(name, target.type, read.text)
        _refuse_unwritable(old, keys, found)
        return tuple(found.values())

    def _nulls(self, old: Relation, new: Relation, copies: dict[str, str]) -> Iterator[DataCheck]:
        """Yield the pre-checks that no value is NULL which must not be."""
        for column in self.columns:
            shape, source = new.column(column.name), old.column(copies.get(column.name, ""))
            if shape is None or shape.nullable or column.from_ is None or (source and not source.nullable):
                continue
            value = text(sql.Identifier(source.name)) if source else column.from_
            where = sql.SQL("FROM {} WHERE ({}) IS NULL").format(old.table.identifier, raw(value))
            shown = sql.SQL(", ").join(map(sql.Identifier, old.key))
            yield DataCheck(
                name=f"NULL for {new.table}.{column.name}",
                count=text(sql.SQL("SELECT count(*) {}").format(where)),
                sample=text(sql.SQL("SELECT {} {} LIMIT 10").format(shown, where)),
                remedy="let from: give these rows a value, for example with coalesce(…)",
            )

    def _view(self, catalog: Catalog, version: _Version) -> switched_view.Switch | None:
        if self.view is None:
            return None
        values = {v.column: v.expression for v in version.versions.up}
        values |= {n: text(sql.Identifier(version.old.table.name, o)) for o, n in version.versions.key}
        down = {v.column: v.expression for v in version.versions.down or ()}
        down |= {o: text(sql.Identifier(version.new.table.name, n)) for o, n in version.versions.key}
        return switched_view.switch(
            catalog, Table.parse(self.view), old=version.old, new=version.new, up=values, down=down
        )

    def _retire(self, catalog: Catalog, version: _Version, context: PlanContext) -> Planned:
        """Return how the old version is moved out of the way, once its sequences are the new one's."""
        taken = {f"sequence {shown(s)}" for s, _ in _sequences(catalog, version)}
        objects = {name: d for name, d in catalog.objects.items() if name not in taken}
        return DropTable(table=self.table).plan(replace(catalog, objects=objects), context)

    def _one_way(self, version: _Version) -> tuple[str, ...]:
        if version.versions.down is not None:
            return ()
        return (f"rows written to {version.new.table} do not reach {version.old.table}: write down:",)


def _same(column: VersionColumn, copies: dict[str, str], old: Relation, new: Relation) -> Column | None:
    """Return the old column that a new one is a copy of, with the same type: writes of it can be given back as is."""
    source, shape = old.column(copies.get(column.name, "")), new.column(column.name)
    return source if source is not None and shape is not None and source.type == shape.type else None


def _copied(old: Relation, written: str | None) -> Column | None:
    """Return the column that ``from:`` names, if it is nothing but a name."""
    return table_beside.named(old, written) if written is not None else None


def _key(old: Relation, copies: dict[str, str]) -> tuple[tuple[str, str], ...]:
    if not old.key:
        raise PlanError(f"{old.table} has no key that tells its rows apart", hint="add a primary key first")
    if any(c.columns == old.key and "DEFERRABLE" in c.definition for c in old.constraints if c.type in {"p", "u"}):
        raise PlanError(f"the key of {old.table} is deferrable", hint="replace it by one that is not")
    found = {o: n for n, o in reversed(copies.items())}
    if missing := [c for c in old.key if c not in found]:
        raise PlanError(
            f"columns: the key of {old.table} is not in the new version: {', '.join(missing)}",
            hint="copy it with from: <column>; another key can come in a later change",
        )
    return tuple((o, found[o]) for o in old.key)


def _refuse_unwritable(old: Relation, keys: set[str], found: dict[str, Value]) -> None:
    """Raise PlanError when a row of the new version could not be written to the old one."""
    for column in old.columns:
        given = column.name in keys or column.name in found
        if column.name in found and column.identity == _ALWAYS:
            raise PlanError(
                f"{old.table}.{column.name} is GENERATED ALWAYS AS IDENTITY, so it cannot follow the new version",
                hint="ALTER COLUMN … SET GENERATED BY DEFAULT first",
            )
        free = column.nullable or column.default is not None or column.identity or column.generated
        if not given and not free:
            raise PlanError(
                f"{old.table}.{column.name} is NOT NULL, but rows written to the new version have no value for it",
                hint=f"add down: {{{column.name}: <expression over the new row>}}",
            )


def _refuse(catalog: Catalog, old: Relation, context: PlanContext) -> None:
    """Raise PlanError for what the new version would not have, or what fills the old one at the same time."""
    if old.triggers:
        names = ", ".join(t.name for t in old.triggers)
        raise PlanError(
            f"{old.table} has triggers, which the new version would not have: {names}",
            hint="drop them first, or make the new version in a raw change",
        )
    if old.row_security or old.policies or old.rules:
        raise PlanError(
            f"{old.table} has row-level security or rules, which the new version would not have",
            hint="make the new version in a raw change, with its policies",
        )
    if old.inherits or catalog.below(old.table):
        raise PlanError(f"{old.table} inherits or is inherited from", hint="use a raw change")
    acting = (c for c in old.constraints if c.type == "f" and c.references == old.table and _ACTS.search(c.definition))
    if keys := [c.name for c in acting]:
        raise PlanError(
            f"{', '.join(keys)} of {old.table} refers to the table itself and changes or deletes rows, which the new "
            "version would not be told of",
            hint="give it no action first, with add_foreign_key and replace:",
        )
    if fresh := [c for t, c in context.filled if t == old.table]:
        raise PlanError(
            f"{old.table}.{fresh[0]} gets its values in this change", hint="make the new version in a change of its own"
        )


def _sequences(catalog: Catalog, version: _Version) -> Iterator[tuple[Table, str]]:
    """Yield the sequences that columns of the old version own and of which the new one takes its numbers."""
    for new, old in version.copies.items():
        source, shape = version.old.column(old), version.new.column(new)
        if source and shape and not source.identity and "nextval(" in (shape.default or ""):
            yield from ((s, new) for s in retire.sequences_of(catalog, version.old.table, old))


def _stop(catalog: Catalog, version: _Version) -> Step:
    versions = version.versions
    owned = []
    for sequence, column in _sequences(catalog, version):
        same = sequence.schema == versions.new.schema
        whose = sql.Identifier(versions.new.schema, versions.new.name, column) if same else sql.SQL("NONE")
        owned.append(text(sql.SQL("ALTER SEQUENCE {} OWNED BY {}").format(sequence.identifier, whose)))
    kinds = {c.name: c.identity for c in version.old.columns}
    return Step(
        phase=Phase.CONTRACT,
        title=f"{versions.new} goes on without {versions.old}",
        tables=(versions.old, versions.new),
        statements=(*versions_in_step.stop(versions), *owned, *versions_in_step.go_on_counting(versions, kinds)),
        lock=LockMode.ACCESS_EXCLUSIVE,
    )


def _expectations(versions: Versions) -> Iterator[Expectation]:
    # One way, rows of the new version go their own ways from cutover on.
    severity = "critical" if versions.down is not None else "warning"
    yield Expectation(
        table=versions.old,
        type="expect_rows_to_satisfy_sql",
        kwargs={"sql": versions_in_step.agreement(versions)},
        check_id=f"agrees_with_{versions.new.name}",
        severity=severity,
        notes=f"every row is in {versions.new} with the values it should have",
        until_contract=True,
    )
    yield Expectation(
        table=versions.new,
        type="expect_no_orphaned_rows",
        kwargs={
            "columns": [n for _, n in versions.key],
            "parent_table": str(versions.old),
            "parent_columns": [o for o, _ in versions.key],
        },
        check_id=f"rows_are_in_{versions.old.name}",
        severity=severity,
        until_contract=True,
    )


def _notices(version: _Version) -> Iterator[str]:
    old, new = version.old.table, version.new.table
    yield f"TRUNCATE of {old} is refused until contract; in contract {old} moves out of the way and is kept for a while"
    of_key = {c.name for c in version.old.constraints if c.type in {"p", "u"} and c.columns == version.old.key}
    left = [c.name for c in version.old.constraints if c.name not in of_key]
    left += [i.name for i in version.old.indexes if i.name not in {*of_key, *left} and not i.primary]
    if left:
        yield (
            f"{new} does not have {', '.join(left)} of {old}: add what it needs with add_check, add_unique, "
            "add_foreign_key behind this operation, or with indexes:"
        )
    if version.versions.down is not None:
        own = [c.name for c in version.new.columns if not _given_back(version, c.name)]
        if own:
            yield f"a rollback gives back no values of {', '.join(own)}, which {old} does not have"


def _given_back(version: _Version, name: str) -> bool:
    """Tell whether a value of the new version is in the old one too."""
    reads = (parse_expression(v.expression) for v in version.versions.down or ())
    of_key = any(n == name for _, n in version.versions.key)
    return of_key or any(read.may_read(version.new.table.name, name) for read in reads)
