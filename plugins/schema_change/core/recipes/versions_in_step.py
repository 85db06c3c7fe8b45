"""Two versions of a table kept in step, row by row: a write of one is done to the other, in the same transaction.

Each side's trigger writes the other side and says so, so that the other side's trigger leaves it at that: what an
application wrote in its own shape is never changed by the way there and back. The latest write wins. Two sessions that
write the same row in both shapes at the same moment deadlock, as those that update two rows in different order do;
PostgreSQL ends one of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from psycopg import sql

from schema_change.core import sqlfiles
from schema_change.core.catalog.model import Catalog, Relation
from schema_change.core.model import Backfill, Batch, DataCheck, LockMode, Phase, Step
from schema_change.core.names import Table, hashed_name
from schema_change.core.recipes import conversion, raw, text, triggers, unique

_AND, _COMMA = sql.SQL(" AND "), sql.SQL(", ")
_NEW_ROW, _THEIRS = "schema_change_new", "schema_change_theirs"
_FILE = "queries/tables_in_step"


@dataclass(frozen=True, slots=True)
class Value:
    """A column and the expression, over a row of the other table, that gives its value."""

    column: str
    type: str
    expression: str


@dataclass(frozen=True, slots=True)
class Versions:
    """The old and the new table; ``key`` pairs their key columns, ``up`` and ``down`` are all other columns.

    Without ``down`` only the new table follows the old one. ``numbered`` are pairs of columns whose numbers come from
    the old table's identity.
    """

    old: Table
    new: Table
    key: tuple[tuple[str, str], ...]
    up: tuple[Value, ...]
    down: tuple[Value, ...] | None
    numbered: tuple[tuple[str, str], ...] = ()


def keep(versions: Versions) -> Step:
    """Return the step that makes the triggers."""
    return Step(
        phase=Phase.EXPAND,
        title=f"keep {versions.old} and {versions.new} in step",
        tables=(versions.old, versions.new),
        statements=start(versions),
        lock=LockMode.SHARE_ROW_EXCLUSIVE,
        undo=stop(versions),
        undo_lock=LockMode.ACCESS_EXCLUSIVE,
        lasting=False,
    )


def copy(versions: Versions, key: tuple[str, ...]) -> Step:
    """Return the step that copies the old table along its key."""
    batch, pending = copied(versions)
    return Step(
        phase=Phase.BACKFILL,
        title=f"copy {versions.old} to {versions.new}",
        tables=(versions.old, versions.new),
        lock=LockMode.ROW_EXCLUSIVE,
        lasting=False,
        backfill=Backfill(table=versions.old, column="", expression="true", pending=pending, key=key, batch=batch),
    )


def start(versions: Versions) -> tuple[str, ...]:
    """Return the statements that create the functions and triggers on both tables."""
    found: list[str] = []
    for name, ours, table, when, body, each in _parts(versions):
        found += [triggers.function(name, body), triggers.trigger(ours, table, when, name, each=each)]
    return tuple(found)


def stop(versions: Versions) -> tuple[str, ...]:
    """Return the statements that remove them."""
    parts = list(_parts(versions))
    return (
        *(triggers.drop_trigger(ours, table) for _, ours, table, *_ in parts),
        *(triggers.drop_function(name) for name, *_ in parts),
    )


def copied(versions: Versions) -> tuple[Batch, str]:
    """Return the batch that copies a range of the old table, and what is pending."""
    head = sql.SQL("INSERT INTO {} ({}) SELECT {} FROM {} WHERE ").format(
        versions.new.identifier,
        _COMMA.join(sql.Identifier(c) for c in (*(n for _, n in versions.key), *(v.column for v in versions.up))),
        _COMMA.join([*(sql.Identifier(versions.old.name, o) for o, _ in versions.key), *map(_assigned, versions.up)]),
        versions.old.identifier,
    )
    # A row that is deleted meanwhile is waited for and then left out: else it would live on in the new table.
    tail = sql.SQL(" FOR KEY SHARE OF {} ON CONFLICT ({}) DO NOTHING").format(
        sql.Identifier(versions.old.name), _COMMA.join(sql.Identifier(n) for _, n in versions.key)
    )
    pending = sql.SQL("NOT ({})").format(raw(agreement(versions)))
    return Batch(head=text(head), tail=text(tail), verb="copied"), text(pending)


def agreement(versions: Versions) -> str:
    """Return the condition over a row of the old table that the new one has it with the values it should have.

    They are those made of the old row or, where the row was written in its new shape, the old row is made of them.
    """
    same_key = _AND.join(
        sql.SQL("{} = {}").format(sql.Identifier(_NEW_ROW, n), sql.Identifier(versions.old.name, o))
        for o, n in versions.key
    )
    forth = _equal(
        map(_value, versions.up),
        (sql.Identifier(_NEW_ROW, v.column) for v in versions.up),
        sql.SQL("{} AS {}").format(versions.new.identifier, sql.Identifier(_NEW_ROW)),
        same_key,
    )
    if versions.down is None:
        return text(forth)
    name = versions.new.name
    back = _equal(
        (sql.Identifier(versions.old.name, v.column) for v in versions.down),
        map(_value, versions.down),
        sql.SQL("{} AS {}").format(versions.new.identifier, sql.Identifier(name)),
        _AND.join(
            sql.SQL("{} = {}").format(sql.Identifier(name, n), sql.Identifier(versions.old.name, o))
            for o, n in versions.key
        ),
    )
    return text(sql.SQL("({}) OR ({})").format(forth, back))


def fits(catalog: Catalog, old: Relation, new: Relation, versions: Versions) -> Iterator[DataCheck]:
    """Yield the pre-checks that the values of the old table fit the types and the unique indexes of the new one."""
    for value in versions.up:
        condition = conversion.too_long(value.expression, value.type) or _misfit(catalog, old, value)
        if condition is None:
            continue
        where = sql.SQL("FROM {} WHERE {}").format(old.table.identifier, raw(condition))
        shown = _COMMA.join((*map(sql.Identifier, old.key), sql.SQL("({})").format(raw(value.expression))))
        yield DataCheck(
            name=f"values that do not fit {value.type} of {new.table}.{value.column}",
            count=text(sql.SQL("SELECT count(*) {}").format(where)),
            sample=text(sql.SQL("SELECT {} {} LIMIT 10").format(shown, where)),
            remedy="correct these rows first, or choose another type or expression",
        )
    values: list[tuple[str, sql.Composable]] = [(n, sql.Identifier(old.table.name, o)) for o, n in versions.key]
    values += [(v.column, _value(v)) for v in versions.up]
    listed = _COMMA.join(sql.SQL("{} AS {}").format(value, sql.Identifier(name)) for name, value in values)
    rows = sql.SQL("SELECT {} FROM {}").format(listed, old.table.identifier)
    yield from unique.duplicates_to_be(new, rows, tuple(name for name, _ in values))


def _misfit(catalog: Catalog, old: Relation, value: Value) -> str | None:
    """Return the condition of the values that the new type cannot hold, for a copy of a column."""
    for column in old.columns:
        if value.expression == text(sql.Identifier(old.table.name, column.name)):
            return conversion.misfit(column.name, column.type, value.type, catalog.server_version)
    return None


def go_on_counting(versions: Versions, kinds: dict[str, str]) -> tuple[str, ...]:
    """Return the statements that give the new table identities of its own, which go on where the old ones are."""
    found = []
    for old, new in versions.numbered:
        add = sql.SQL("ALTER TABLE {} ALTER COLUMN {} ADD GENERATED {} AS IDENTITY").format(
            versions.new.identifier,
            sql.Identifier(new),
            sql.SQL("ALWAYS" if kinds[old] == "a" else "BY DEFAULT"),
        )
        count = sqlfiles.block(_FILE, "go_on_counting").format(
            table=sql.Literal(versions.new.quoted),
            column=sql.Literal(new),
            old_table=sql.Literal(versions.old.quoted),
            old_column=sql.Literal(old),
        )
        found += [text(add), text(count)]
    return tuple(found)


_Part = tuple[str, str, Table, str, sql.Composable, str]


def _parts(versions: Versions) -> Iterable[_Part]:
    """Yield function, trigger, table, event, body and level of each trigger."""
    old, new = versions.old, versions.new

    def part(role: str, table: Table, when: str, body: sql.Composable, each: str = "ROW") -> _Part:
        names = (old.schema, old.name, new.schema, new.name)
        # Triggers fire in the order of their names: ours must see what the user's made of the row.
        return hashed_name(role, *names), hashed_name(f"zz_schema_change_{role}", *names), table, when, body, each

    written = "AFTER INSERT OR UPDATE OR DELETE"
    refused = sqlfiles.block(_FILE, "refuse_truncate_body")
    yield part("follow", old, written, _follow(old, new, versions.key, versions.up))
    yield part("keep", old, "BEFORE TRUNCATE", refused, "STATEMENT")
    for number, (theirs, ours) in enumerate(versions.numbered):
        body = sqlfiles.block(_FILE, "number_body").format(
            column=sql.Identifier(ours), table=sql.Literal(old.quoted), old_column=sql.Literal(theirs)
        )
        yield part(f"number{number}", new, "BEFORE INSERT", body)
    if versions.down is not None:
        key = tuple((n, o) for o, n in versions.key)
        yield part("follow_back", new, written, _follow(new, old, key, versions.down))
        yield part("keep_new", new, "BEFORE TRUNCATE", refused, "STATEMENT")


def _follow(ours: Table, theirs: Table, key: tuple[tuple[str, str], ...], values: tuple[Value, ...]) -> sql.Composed:
    """Return the body of the trigger on ``ours`` that writes ``theirs``; ``key`` pairs ours with theirs."""
    keys = [sql.SQL("{} = {}").format(sql.Identifier(t), sql.SQL("NEW.{}").format(sql.Identifier(o))) for o, t in key]
    new, old = (
        _COMMA.join(row.format(sql.Identifier(o)) for o, _ in key) for row in (sql.SQL("NEW.{}"), sql.SQL("OLD.{}"))
    )
    update = _COMMA.join(sql.SQL("{0} = EXCLUDED.{0}").format(sql.Identifier(v.column)) for v in values)
    return sqlfiles.block(_FILE, "follow_body").format(
        theirs=theirs.identifier,
        same_key=_AND.join(
            sql.SQL("{} = OLD.{}").format(sql.Identifier(_THEIRS, t), sql.Identifier(o)) for o, t in key
        ),
        # Byte by byte: a key that its type or collation calls the same may be spelled another way now.
        key_kept=sql.SQL("(ROW({})::record *= ROW({})::record)").format(new, old),
        new_key=_COMMA.join(keys),
        columns=_COMMA.join(sql.Identifier(c) for c in (*(t for _, t in key), *(v.column for v in values))),
        values=_COMMA.join([*(sql.Identifier(ours.name, o) for o, _ in key), *map(_assigned, values)]),
        row=sql.Identifier(ours.name),
        key=_COMMA.join(sql.Identifier(t) for _, t in key),
        update=sql.SQL("UPDATE SET {}").format(update) if values else sql.SQL("NOTHING"),
    )


def _value(value: Value) -> sql.Composed:
    return sql.SQL("({})::{}").format(raw(value.expression), raw(value.type))


def _assigned(value: Value) -> sql.Composed:
    """Return the value for an INSERT, which refuses a text that is too long where a cast would cut it."""
    return sql.SQL("({})::{}").format(raw(value.expression), raw(conversion.assignment(value.type)))


def _equal(
    ours: Iterable[sql.Composable], theirs: Iterable[sql.Composable], table: sql.Composable, same_key: sql.Composable
) -> sql.Composed:
    """Return that the values are those of the row of a table with the key; the first are computed outside of it."""
    # As text, which is never NULL, and which tells apart what some types call equal.
    return sql.SQL("{} IN (SELECT {} FROM {} WHERE {})").format(_text_of(ours), _text_of(theirs), table, same_key)


def _text_of(values: Iterable[sql.Composable]) -> sql.Composed:
    return sql.SQL("ROW({})::text").format(_COMMA.join(sql.SQL("{}::text").format(v) for v in values))
