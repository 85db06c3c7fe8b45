"""What two tables have in common that are kept in step, and the conditions over their rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from psycopg import sql

from schema_change.core.catalog.model import Relation
from schema_change.core.names import Table
from schema_change.core.recipes import raw
from schema_change.core.recipes.unique import is_plain_and_unique

ONE, MANY, NEW, OLD = "schema_change_one", "schema_change_many", "NEW", "OLD"
_AND, _OR = sql.SQL(" AND "), sql.SQL(" OR ")

#: Types whose = tells values apart as their text does. For others it does not: 1.0 = 1.00, '1 day' = '24 hours'.
_COMPARABLE = frozenset({"bigint", "boolean", "bytea", "date", "integer", "smallint", "time", "timestamp", "uuid"})


@dataclass(frozen=True, slots=True)
class Copy:
    """A column that both tables have; ``default`` is what ``many`` gives to a row that was written without it."""

    many: str
    one: str
    type: str
    default: str | None = None


@dataclass(frozen=True, slots=True)
class Derived:
    """A column of ``one`` computed from the rows of ``many`` with its key."""

    one: str
    type: str
    expression: str


@dataclass(frozen=True, slots=True)
class Link:
    """What is kept in step. ``key`` pairs columns of ``many`` and ``one``; ``inputs`` are what derived columns read.

    ``order`` says which row of a key gives the values when they contradict each other; empty when none may.
    ``creates`` tells that a row of ``one`` is made for every key of ``many`` (a foreign key demands it); else only for
    values that somebody gives, and rows of ``one`` that go away take the copies with them. ``unique`` are the columns
    of each unique index of ``many``: a row that has its like there is inserted by nobody.
    """

    many: Table
    one: Table
    key: tuple[tuple[str, str], ...]
    copies: tuple[Copy, ...]
    derived: tuple[Derived, ...] = ()
    inputs: tuple[str, ...] = ()
    order: str = ""
    creates: bool = True
    unique: tuple[tuple[str, ...], ...] = ()


def _row(name: str) -> sql.SQL | sql.Identifier:
    return sql.SQL(name) if name in {NEW, OLD} else sql.Identifier(name)


def column(row: str, name: str) -> sql.Composed:
    """Return a column of a row; NEW and OLD are those of a trigger."""
    return sql.SQL("{}.{}").format(_row(row), sql.Identifier(name))


def pairs(columns: Iterable[tuple[str, str]], left: str, right: str) -> sql.Composed:
    """Return that columns of two rows are equal, pair by pair."""
    return _AND.join(sql.SQL("{} = {}").format(column(left, a), column(right, b)) for a, b in columns)


def same_key(link: Link, row: str) -> sql.Composed:
    """Return that a row of ``one`` has the key of this row of ``many``."""
    return pairs(((o, m) for m, o in link.key), ONE, row)


def many_has_key_of(link: Link, row: str) -> sql.Composed:
    """Return that a row of ``many`` has the key of this row of ``one``."""
    return pairs(link.key, MANY, row)


def keyless(link: Link, row: str) -> sql.Composed:
    """Return that a row of ``many`` has NULL in its key, so that it belongs to no row of ``one``."""
    return sql.SQL("({})").format(_OR.join(sql.SQL("{} IS NULL").format(column(row, m)) for m, _ in link.key))


def uniquely(relation: Relation) -> tuple[tuple[str, ...], ...]:
    """Return the columns of each unique index over plain columns and all rows."""
    return tuple(dict.fromkeys(i.columns for i in relation.indexes if i.primary or is_plain_and_unique(i)))


def has_its_like(link: Link, row: str) -> sql.Composable:
    """Return that ``many`` has a row with a unique key of this one already."""
    alike = sql.SQL("EXISTS (SELECT FROM {} AS {} WHERE {})")
    found = (
        alike.format(link.many.identifier, sql.Identifier(MANY), pairs(((c, c) for c in columns), MANY, row))
        for columns in link.unique
    )
    return sql.SQL("({})").format(_OR.join(found)) if link.unique else sql.SQL("false")


def key_kept(columns: Iterable[str]) -> sql.Composed:
    """Return that an UPDATE leaves these columns as they are."""
    return sql.SQL("({})").format(
        _AND.join(sql.SQL("NEW.{0} IS NOT DISTINCT FROM OLD.{0}").format(sql.Identifier(c)) for c in columns)
    )


def differ_in(columns: Iterable[tuple[str, str, str]], left: str, right: str) -> sql.Composed:
    """Return that two rows differ in a pair of columns; the third item is their type."""
    return _OR.join(
        sql.SQL("{0}{2} IS DISTINCT FROM {1}{2}").format(column(left, a), column(right, b), _as_text(type_))
        for a, b, type_ in columns
    )


def _as_text(type_: str) -> sql.SQL:
    base = type_.partition("(")[0].removesuffix(" without time zone").removesuffix(" with time zone")
    # A collation may call different texts equal.
    return sql.SQL("" if base in _COMPARABLE else '::text COLLATE "C"')


def differ(link: Link, one: str, row: str) -> sql.Composed:
    """Return that the copies in a row of ``many`` differ from a row of ``one``."""
    return differ_in(((c.one, c.many, c.type) for c in link.copies), one, row)


def agree(link: Link, row: str) -> tuple[sql.Composed, ...]:
    """Return that the copies agree; not demanded where old rows contradict each other."""
    return () if link.order else (sql.SQL("NOT ({})").format(differ(link, ONE, row)),)


def not_given(copy: Copy) -> sql.Composed:
    """Return that a row came without this copy: NULL or the default when inserted, unchanged when its key moved."""
    column = sql.Identifier(copy.many)
    same = sql.SQL("NEW.{0}{1} IS NOT DISTINCT FROM {2}{1}")
    inserted = [sql.SQL("NEW.{} IS NULL").format(column)]
    if copy.default is not None:
        default = sql.SQL("({})::{}").format(raw(copy.default), raw(copy.type))
        inserted.append(same.format(column, _as_text(copy.type), default))
    # In brackets: PL/pgSQL takes the first THEN outside of any for that of its IF.
    moved = same.format(column, _as_text(copy.type), sql.SQL("OLD.{}").format(column))
    return sql.SQL("(CASE TG_OP WHEN 'INSERT' THEN {} ELSE {} END)").format(_OR.join(inserted), moved)
