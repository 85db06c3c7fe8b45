"""``change_type``: another type for a column, in place where that takes no time, else by a column kept in step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from psycopg import sql
from pydantic import Field

from schema_change.core.catalog.model import Catalog, Column, Relation
from schema_change.core.errors import PlanError
from schema_change.core.fields import Identifier, TableName
from schema_change.core.model import DataCheck, Expectation, LockMode, Phase, Step
from schema_change.core.names import hashed_name
from schema_change.core.operations.base import (
    Operation,
    PlanContext,
    Planned,
    checked,
    column_of,
    expression_of,
    table_of,
)
from schema_change.core.recipes import conversion, dependents, filled_on_write, in_place, raw, swap, text
from schema_change.core.recipes.carried import alter
from schema_change.core.recipes.dual_write import Conversion, Pair, Side
from schema_change.core.sqltext import renaming
from schema_change.core.sqltext.expression import Expression, normalise_type, parse_expression


class ChangeType(Operation):
    """Change the type of a column; what it carries stays: indexes, constraints, defaults, views, privileges."""

    kind: ClassVar[str] = "change_type"

    table: TableName = Field(description="Table, as schema.table")
    column: Identifier = Field(description="Name of the column")
    type: str = Field(description="The new PostgreSQL type, such as bigint or numeric(10,2)")
    using: str | None = Field(
        default=None, description="SQL expression over the row that gives the new value; by default a cast"
    )
    down: str | None = Field(
        default=None,
        description="The inverse: SQL expression over the row, in which the column has its new value, that gives the "
        "old one. By default the cast back, where the change loses nothing; without one it is one-way after cutover",
    )
    strategy: Literal["auto", "direct", "expand"] = Field(
        default="auto",
        description="direct changes the type in place, expand by a second column kept in step; auto chooses by the "
        "size of the table and the types",
    )
    lossy: Literal["fail", "allow"] = Field(
        default="fail", description="What to do when values lose something, such as digits: fail, or allow"
    )
    collation: Identifier | None = Field(default=None, description="Collation of the new column; the old one's if none")

    def plan(self, catalog: Catalog, context: PlanContext) -> Planned:
        """Return the steps of the strategy. Raises PlanError listing what cannot be carried over to the new type."""
        relation = table_of(catalog, self.table)
        column = column_of(relation, self.column)
        self._refuse(catalog, relation, column, context)
        change = self._conversion(catalog, relation, column)
        direct = self._strategy(catalog, relation, column, change) == "direct"
        planned = (self._direct if direct else self._expand)(catalog, relation, column, change)
        conversions = (c.expression for c in (change.up, change.down) if c is not None and c.expression)
        used = {column.name, *(name for e in conversions for name in e.columns if relation.column(name))}
        if not context.has_rows_of(relation.table, used):
            return planned
        return replace(planned, data_checks=self._checks(catalog, relation, column, change))

    def _refuse(self, catalog: Catalog, relation: Relation, column: Column, context: PlanContext) -> None:
        """Raise PlanError for what neither strategy can do."""
        where = f"{relation.table}.{column.name}"
        if column.generated:
            raise PlanError(
                f"{where} is a generated column", hint="drop it and add it again with the other type, in two operations"
            )
        if (relation.table, column.name) in context.filled:
            raise PlanError(
                f"{where} has its values only after the backfill of this change",
                hint="change its type in a change of its own, behind this one",
            )
        swap.refuse_family(catalog, relation)
        new = self._type(catalog)
        collation = _quoted_collation(self.collation)
        if new == column.type and self.using is None and (collation is None or collation == column.collation):
            raise PlanError(f"{where} is of type {new} already", hint="remove the operation")

    def _type(self, catalog: Catalog) -> str:
        """Return the new type; one of schema public has its schema, whatever a session's search_path is."""
        new = checked(normalise_type, self.type, "type")
        names = {f"{kind} public.{new.removesuffix('[]')}" for kind in ("enum", "domain", "composite", "range")}
        return f"public.{new}" if names & catalog.objects.keys() else new

    def _conversion(self, catalog: Catalog, relation: Relation, column: Column) -> _Change:
        new = self._type(catalog)
        lossless = self.using is None and conversion.loses_nothing(column.type, new)
        up, down = Conversion(), Conversion() if lossless else None
        if not lossless:
            up = Conversion(cast=conversion.assignment(new))
        if self.using is not None:
            up = Conversion(expression=self._expression(catalog, relation, column, self.using, "using"))
        if self.down is not None:
            down = Conversion(expression=self._expression(catalog, relation, column, self.down, "down"))
        kept = column.collation if conversion.Type.parse(new).has_collation else None
        return _Change(new, up, down, lossless, _quoted_collation(self.collation) or kept)

    def _expression(self, catalog: Catalog, relation: Relation, column: Column, given: str, key: str) -> Expression:
        expression = expression_of(catalog, parse_expression, given, key)
        if not renaming.is_repeatable(expression.text):
            raise PlanError(
                f"{key}: the expression gives another value each time, so the two columns would never agree",
                hint="use an expression of the row's columns only",
            )
        remedy = "write that column's own expression instead"
        filled_on_write.refuse_generated(relation, column.name, expression, remedy)
        return expression

    def _strategy(self, catalog: Catalog, relation: Relation, column: Column, change: _Change) -> str:
        """Return the strategy asked for, else the one that is safe: in place where that is brief and loses nothing."""
        if self.strategy == "direct":
            if change.down is None:
                raise PlanError(
                    f"{relation.table}.{column.name} cannot be changed in place from {column.type} to {change.type}: "
                    "nothing says how a rollback gets the old values back",
                    hint="add down: with the inverse, or leave the choice of the strategy to the plan",
                )
            return "direct"
        if self.strategy == "expand":
            return "expand"
        brief = in_place.is_small(catalog, relation, column.name) or in_place.is_instant(
            relation, column, change.type, change.collation
        )
        return "direct" if brief and change.lossless else "expand"

    def _direct(self, catalog: Catalog, relation: Relation, column: Column, change: _Change) -> Planned:
        assert change.down is not None  # noqa: S101 - the strategy demands it
        small = in_place.is_small(catalog, relation, column.name)
        instant = in_place.is_instant(relation, column, change.type, change.collation)
        step, touched = in_place.step(
            catalog,
            relation,
            column,
            in_place.Target(change.type, change.collation, change.up, change.down),
            # The way back copies a large table, so such a change waits until there is no way back.
            phase=Phase.CONTRACT if instant and not small else Phase.EXPAND,
        )
        late = step.phase is Phase.CONTRACT
        notices = [f"{relation.table}.{column.name} changes its type in place, under a brief lock"]
        if late:
            notices = [f"{notices[0]}, as the last step: to narrow it again would copy the table"]
        return self._planned(
            catalog,
            relation,
            column,
            change,
            steps=(step,),
            touched=touched,
            filled=frozenset({(relation.table, column.name)}) if late else frozenset(),
            notices=(*notices, *_PLANS),
            data_migration=not change.lossless,
            one_way=(f"{relation.table}.{column.name} is changed in place, and its values come back by down: only",)
            if not change.lossless
            else (),
        )

    def _expand(self, catalog: Catalog, relation: Relation, column: Column, change: _Change) -> Planned:
        pair = self._pair(relation, column, change)
        if relation.column(pair.hidden) is not None:
            raise PlanError(
                f"{relation.table} already has a column {pair.hidden}, as this operation would add",
                hint="another change of this column has not ended; roll it back, or drop what it left",
            )
        remedy = "change to the domain's base type and add the constraints with add_check"
        swap.refuse_domain(catalog, change.type, remedy)
        steps, everything = swap.of_type(catalog, pair)
        table = relation.table
        shape = (
            f"from cutover on {column.name} is the last column of {table} in SELECT *; until contract {pair.hidden} is "
            "there besides"
        )
        notices = [shape, *_PLANS]
        if pair.down is not None:
            notices.append(f"until contract a value written to {relation.table}.{column.name} must fit both types")
        return self._planned(
            catalog,
            relation,
            column,
            change,
            steps=(self._add(pair, column, change), pair.backfill(), *steps, swap.drop(pair, everything)),
            touched=everything.touched,
            filled=frozenset({(table, column.name)}),
            notices=tuple(notices),
            data_migration=not change.lossless,
            one_way=()
            if pair.down
            else (f"{relation.table}.{column.name} has no down:, so values written after cutover have no old ones",),
            expectations=(
                Expectation(
                    table=relation.table,
                    type="expect_rows_to_satisfy_sql",
                    kwargs={"sql": pair.agree()},
                    check_id=f"{column.name}_agrees",
                    notes=f"old and new {column.name} of every row agree",
                ),
            ),
        )

    def _pair(self, relation: Relation, column: Column, change: _Change) -> Pair:
        hidden = hashed_name("schema_change", column.name, relation.table.schema, relation.table.name)
        new_default = column.default
        if column.default is not None and not change.lossless:
            new_default = in_place.converted_default(relation, column, change.up, change.type)
        identity = bool(column.identity)
        return Pair(
            relation=relation,
            column=column.name,
            hidden=hidden,
            column_after=column.name,
            hidden_after=hidden,
            old=Side(column.type, column.default, identity),
            new=Side(change.type, new_default, identity),
            up=change.up,
            down=change.down,
        )

    def _add(self, pair: Pair, column: Column, change: _Change) -> Step:
        table = pair.relation.table
        hidden = sql.Identifier(pair.hidden)
        add = sql.SQL("ALTER TABLE {} ADD COLUMN {} {}{}").format(
            table.identifier, hidden, raw(change.type), raw(f" COLLATE {change.collation}" if change.collation else "")
        )
        varying = conversion.Type.parse(change.type).is_varying
        options = tuple(o for o in column.options if varying or not o.startswith(("storage=", "compression=")))
        bare = replace(column, name=pair.hidden, comment=None, grants=())
        return Step(
            phase=Phase.EXPAND,
            title=f"add {table}.{pair.hidden} {change.type}, kept in step with {column.name}",
            tables=(table,),
            statements=(text(add), *dependents.dress(table, bare, options=options), *pair.keep()),
            lock=LockMode.ACCESS_EXCLUSIVE,
            probe=swap.probe("column_type", table=table.quoted, column=pair.hidden, type=change.type),
            undo=(*pair.drop(), alter(table, "DROP COLUMN IF EXISTS {}", pair.hidden)),
            undo_lock=LockMode.ACCESS_EXCLUSIVE,
            lasting=False,
        )

    def _planned(
        self, catalog: Catalog, relation: Relation, column: Column, change: _Change, **parts: object
    ) -> Planned:
        after = replace(column, type=change.type, collation=change.collation)
        read = (*(change.up.expression.tables if change.up.expression else ()),)
        read += change.down.expression.tables if change.down and change.down.expression else ()
        return Planned(
            catalog=catalog.with_relation(relation.with_column(after)),
            written=(relation.table,),
            read=read,
            **parts,  # type: ignore[arg-type]
        )

    def _checks(self, catalog: Catalog, relation: Relation, column: Column, change: _Change) -> tuple[DataCheck, ...]:
        """Return the pre-checks that count the values which do not fit, and those that would lose something."""
        where = f"{relation.table}.{column.name}"
        misfit = None
        checks = []
        if change.up.expression is None:
            misfit = conversion.misfit(column.name, column.type, change.type, catalog.server_version)
        if misfit is not None:
            remedy = f"correct these values first, or give the new ones with using: (the new type is {change.type})"
            checks.append(_check(relation, column, f"{where} that does not fit {change.type}", misfit, remedy))
        value, there = sql.Identifier(column.name), raw(f"({change.up.of(column.name)})::{change.type}")
        if change.up.expression is not None:
            null = text(sql.SQL("{} IS NOT NULL AND {} IS NULL").format(value, there))
            if self.lossy == "fail":
                remedy = "give these rows a value in using:, or write lossy: allow"
                checks.append(_check(relation, column, f"{where} that using: makes NULL", null, remedy))
        back: sql.Composable | None = None
        if change.down is not None and change.down.expression is not None:
            back = _there_and_back(relation, column, change)
        elif change.up.expression is None and conversion.rounds(column.type, change.type):
            back = sql.SQL("{}::{}").format(there, raw(column.type))
        if back is not None and self.lossy == "fail":
            differs = text(
                sql.SQL("CASE WHEN {} THEN false ELSE ROW({})::record *<> ROW(({})::{})::record END").format(
                    raw(misfit or "false"), value, back, raw(column.type)
                )
            )
            remedy = "correct using: and down:, or write lossy: allow when that is meant"
            checks.append(_check(relation, column, f"{where} that is another one there and back", differs, remedy))
        return tuple(checks)


_PLANS = ("a client's prepared SELECT * fails once with 'cached plan must not change result type'",)


@dataclass(frozen=True, slots=True)
class _Change:
    """The new type, the conversions, and whether the old values come back exactly."""

    type: str
    up: Conversion
    down: Conversion | None
    lossless: bool
    collation: str | None


def _quoted_collation(name: str | None) -> str | None:
    return None if name is None else text(sql.Identifier(name))


def _there_and_back(relation: Relation, column: Column, change: _Change) -> sql.Composed:
    """Return the old value made again of the new one, by both expressions, each over the row."""
    assert change.down is not None  # noqa: S101 - the caller has looked
    table = sql.Identifier(relation.table.name)
    others = [sql.SQL("{}.{}").format(table, sql.Identifier(c.name)) for c in relation.columns if c.name != column.name]
    new = raw(f"({change.up.of(column.name)})::{change.type}")
    row = sql.SQL(", ").join([*others, sql.SQL("{} AS {}").format(new, sql.Identifier(column.name))])
    return sql.SQL("(SELECT ({}) FROM (SELECT {}) AS {})").format(raw(change.down.of(column.name)), row, table)


def _check(relation: Relation, column: Column, name: str, condition: str, remedy: str) -> DataCheck:
    where = sql.SQL("FROM {} WHERE {}").format(relation.table.identifier, raw(condition))
    shown = [sql.Identifier(c) for c in (*(c for c in relation.key if c != column.name), column.name)]
    return DataCheck(
        name=name,
        count=text(sql.SQL("SELECT count(*) {}").format(where)),
        sample=text(sql.SQL("SELECT {} {} LIMIT 10").format(sql.SQL(", ").join(shown), where)),
        remedy=remedy,
    )
