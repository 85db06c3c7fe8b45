"""Two columns of a table kept in step, in both directions, while applications write either of them.

One of them has the published name. A statement that changes both in a row has its way with the published one; the
other then follows it. An INSERT that gives only one of them is told by the other being NULL, or, where the published
column has a default, by its having that value; a default that differs from row to row counts as not given.

Without a way back, what is written under the published name after cutover is only noted: a rollback is then refused
rather than losing it.
"""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql

from schema_change.core import sqlfiles
from schema_change.core.catalog.model import Relation
from schema_change.core.model import Backfill, LockMode, NewRows, Phase, Step
from schema_change.core.names import hashed_name
from schema_change.core.recipes import raw, text, triggers
from schema_change.core.sqltext.expression import Expression
from schema_change.core.sqltext.renaming import is_constant

_FILE = "queries/dual_write"


@dataclass(frozen=True, slots=True)
class Conversion:
    """How the value of one column becomes that of the other: an expression over the row, or a cast of the value.

    ``cast`` is a type in format_type()'s spelling; empty leaves the conversion to the assignment.
    """

    cast: str = ""
    expression: Expression | None = None

    def of(self, column: str) -> str:
        """Return it as SQL over the row, where the value is in that column."""
        if self.expression is not None:
            return self.expression.text
        value = sql.Identifier(column)
        return text(sql.SQL("{}::{}").format(value, raw(self.cast)) if self.cast else value)


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two columns: its type, and the default that rows inserted without it get."""

    type: str
    default: str | None = None
    identity: bool = False


@dataclass(frozen=True, slots=True)
class Pair:
    """The two columns. ``old`` is the one that is there before the change, ``new`` the one that is there after it.

    Before cutover the old one is called ``column`` and the new one ``hidden``; after it they are called
    ``column_after`` and ``hidden_after``. ``up`` makes the new value of the old one, ``down`` the reverse.
    """

    relation: Relation
    column: str
    hidden: str
    column_after: str
    hidden_after: str
    old: Side
    new: Side
    up: Conversion
    down: Conversion | None

    @property
    def name(self) -> str:
        """Return the name of the trigger's function."""
        table = self.relation.table
        return hashed_name("keep", table.schema, table.name, self.column)

    @property
    def triggers(self) -> dict[str, str]:
        """Return the functions by the names of the triggers that call them."""
        parts = (self.relation.table.schema, self.relation.table.name, self.column)
        # Triggers fire in the order of their names; the last must see what the user's made of the row.
        last = hashed_name("zz_schema_change_keep", *parts)
        if not self.is_rename or not self.relation.triggers:
            return {last: self.name}
        # The user's triggers know one of the names, so they must see both in step already.
        return {hashed_name("!_schema_change_keep", *parts): self.name, last: hashed_name("keep_last", *parts)}

    @property
    def is_rename(self) -> bool:
        """Tell whether both columns are the same but for their names."""
        return self.column != self.column_after

    def keep(self) -> tuple[str, ...]:
        """Return the statements that keep them in step from now on, before cutover."""
        table, when = self.relation.table, "BEFORE INSERT OR UPDATE"
        calls = (triggers.trigger(name, table, when, function) for name, function in self.triggers.items())
        return (*self.before_cutover(), *calls)

    def before_cutover(self) -> tuple[str, ...]:
        """Return the statements that make the column under the old shape's name the one that wins."""
        filled = sql.SQL("NEW.{} IS DISTINCT FROM NULL").format(sql.Identifier(self.hidden))
        return self._function(
            self.column,
            self.hidden,
            given=self._given(self.column, self.old),
            back=self._assign(self.down, self.hidden, self.column, self.column_after) if self.down else None,
            forth=self._assign(self.up, self.column, self.hidden, self.column),
            # A row that is not filled yet may be moved, by its key, to where the backfill has been.
            settled=[filled, *self._unmoved(self.up)],
        )

    def after_cutover(self) -> tuple[str, ...]:
        """Return the statements that make the column under the new shape's name the one that wins."""
        column, hidden = self.column_after, self.hidden_after
        forth = self._assign(self.down, column, hidden, column) if self.down else self._note()
        return self._function(
            column,
            hidden,
            given=self._given(column, self.new),
            back=self._assign(self.up, hidden, column, self.column),
            forth=forth,
            settled=self._unmoved(self.down) if self.down else [],
        )

    def drop(self) -> tuple[str, ...]:
        """Return the statements that end it."""
        drops = (triggers.drop_trigger(name, self.relation.table) for name in self.triggers)
        return (*drops, *map(triggers.drop_function, self.triggers.values()), *self.forget())

    def refuse_if_one_way(self) -> tuple[str, ...]:
        """Return the statement that fails when a way back would lose rows; nothing when there is an inverse."""
        if self.down is not None:
            return ()
        message = (
            f"rows of {self.relation.table} were written since cutover whose {self.column_after} cannot be given back "
            "to the old type: the change has no down:"
        )
        body = sqlfiles.block(_FILE, "refuse_one_way").format(
            message=sql.Literal(message),
            hint=sql.Literal("go forward (clear the failed task), or restore the backup, which loses these rows"),
            **self._noted(),
        )
        return (text(sql.SQL("DO {}").format(sql.Literal(text(body)))),)

    def forget(self) -> tuple[str, ...]:
        """Return the statement that forgets that rows were written which cannot be given back."""
        return () if self.down else (text(sqlfiles.block(_FILE, "forget_one_way").format(**self._noted())),)

    def backfill(self) -> Step:
        """Return the step that fills the new column; pending is a mismatch, so cutover asserts that there is none."""
        table, hidden, column = self.relation.table, sql.Identifier(self.hidden), sql.Identifier(self.column)
        value = self.up.of(self.column)
        missing = sql.SQL("{} IS DISTINCT FROM NULL").format(column)
        if self.up.expression is not None:
            missing = sql.SQL("({} OR ({}) IS DISTINCT FROM NULL)").format(missing, raw(value))
        # IS NULL looks into the fields of a composite value. CASE keeps the expression from being evaluated where it
        # has not been before: it may fail there.
        pending = sql.SQL(
            "CASE WHEN {0} IS NOT DISTINCT FROM NULL THEN {1} ELSE ROW({0})::record *<> ROW(({2})::{3})::record END"
        ).format(hidden, missing, raw(value), raw(self.new.type))
        return Step(
            phase=Phase.BACKFILL,
            title=f"fill {table}.{self.hidden} from {self.column}",
            tables=(table,),
            lock=LockMode.ROW_EXCLUSIVE,
            lasting=False,
            backfill=Backfill(
                table=table,
                column=self.hidden,
                expression=value,
                pending=text(pending),
                key=self.relation.key,
                new_rows=NewRows.TRIGGER,
            ),
        )

    def agree(self) -> str:
        """Return the condition that both columns of a row agree, once they have changed names."""
        row = sql.Identifier(self.relation.table.name)
        new = sql.SQL("ROW({}.{})::record").format(row, sql.Identifier(self.column_after))
        old = sql.SQL("{}.{}").format(row, sql.Identifier(self.hidden_after))
        up = sql.SQL("{} *= ROW(({})::{})::record").format(
            new, self._value(self.up, row, self.hidden_after, self.column), raw(self.new.type)
        )
        if self.down is None:
            return text(sql.SQL("{} OR {} IS NOT DISTINCT FROM NULL").format(up, old))
        down = self._value(self.down, row, self.column_after, self.column_after)
        return text(sql.SQL("{} OR ROW({})::record *= ROW(({})::{})::record").format(up, old, down, raw(self.old.type)))

    def _value(self, conversion: Conversion, row: sql.Composable, source: str, name: str) -> sql.Composed:
        """Return a conversion of a row's column ``source``, which its expression knows by ``name``."""
        value = sql.SQL("{}.{}").format(row, sql.Identifier(source))
        if conversion.expression is None:
            return sql.SQL("{}::{}").format(value, raw(conversion.cast)) if conversion.cast else value
        others = (
            sql.SQL("{}.{}").format(row, sql.Identifier(c.name))
            for c in self.relation.columns
            if c.name != self.column and not c.generated
        )
        return sql.SQL("(SELECT ({}) FROM (SELECT {}) AS {})").format(
            raw(conversion.expression.text),
            sql.SQL(", ").join([*others, sql.SQL("{} AS {}").format(value, sql.Identifier(name))]),
            sql.Identifier(self.relation.table.name),
        )

    def _assign(self, conversion: Conversion, source: str, target: str, name: str) -> sql.Composed:
        value = self._value(conversion, sql.SQL("NEW"), source, name)
        return sql.SQL("NEW.{} := {};").format(sql.Identifier(target), value)

    def _given(self, column: str, side: Side) -> sql.Composable:
        """Return the condition that an INSERT gave the published column itself."""
        if side.identity or (side.default is not None and not is_constant(side.default)):
            return sql.SQL("false")
        given = sql.SQL("NEW.{} IS DISTINCT FROM NULL").format(sql.Identifier(column))
        if side.default is None:
            return given
        return sql.SQL("{} AND ROW(NEW.{})::record *<> ROW(({})::{})::record").format(
            given, sql.Identifier(column), raw(side.default), raw(side.type)
        )

    def _unmoved(self, conversion: Conversion) -> list[sql.Composable]:
        """Return the conditions that what else a conversion reads of the row is as it was."""
        expression, table = conversion.expression, self.relation.table.name
        if expression is None:
            return []
        return [
            sql.SQL("ROW(NEW.{0})::record *= ROW(OLD.{0})::record").format(sql.Identifier(c.name))
            for c in self.relation.columns
            if c.name != self.column and not c.generated and expression.may_read(table, c.name)
        ]

    def _function(
        self,
        published: str,
        other: str,
        *,
        given: sql.Composable,
        back: sql.Composable | None,
        forth: sql.Composable,
        settled: list[sql.Composable],
    ) -> tuple[str, ...]:
        columns = {"published": sql.Identifier(published), "other": sql.Identifier(other)}
        first, *last = self.triggers.values()
        kept = sql.SQL("{};").format(sqlfiles.block(_FILE, "remember_kept").format(**columns)) if last else sql.SQL("")
        body = sqlfiles.block(_FILE, "keep_body").format(
            # Without a way back the published column wins, also where it was not written.
            given=given if back else sql.SQL("true"),
            back=back or forth,
            forth=forth,
            settled=sql.SQL(" AND ").join(settled) if settled else sql.SQL("true"),
            kept=kept,
            **columns,
        )
        behind = sqlfiles.block(_FILE, "keep_last_body").format(back=back or forth, forth=forth, **columns)
        return (triggers.function(first, body), *(triggers.function(name, behind) for name in last))

    def _noted(self) -> dict[str, sql.Composable]:
        table = self.relation.table
        return {
            "schema_name": sql.Literal(table.schema),
            "table_name": sql.Literal(table.name),
            "column_name": sql.Literal(self.column_after),
        }

    def _note(self) -> sql.Composed:
        note = sqlfiles.block(_FILE, "note_one_way").format(
            published=sql.Identifier(self.column_after), other=sql.Identifier(self.hidden_after), **self._noted()
        )
        return sql.SQL("{};").format(note)
