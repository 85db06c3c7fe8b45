"""Two tables kept in step: ``many`` repeats, in every row of a key, the values that ``one`` has once for that key.

Either side may be written until contract. A write of the copies in a row of ``many`` goes to the row of ``one`` and
from there to every row of the key; a write of the row of ``one`` goes to all its copies: the latest write wins, for
the whole key. A row written without the copies gets them. Nothing is written, or locked exclusively, where the values
agree already, which also ends the recursion. Columns of ``one`` may be derived from the group of rows with the key
(aggregates); they follow ``many`` until contract.

Two sessions that change the values of one key at the same moment from different sides, or the values of several keys
in different order, can deadlock, as two that update the same rows in different order can; PostgreSQL ends one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from psycopg import sql

from schema_change.core import sqlfiles
from schema_change.core.model import Batch
from schema_change.core.names import Table, hashed_name
from schema_change.core.recipes import groups, links, raw, text, triggers
from schema_change.core.recipes.links import MANY, NEW, OLD, ONE, Link

_AND, _OR, _COMMA = sql.SQL(" AND "), sql.SQL(" OR "), sql.SQL(", ")


# -- what the operations put into steps --------------------------------------------------------------------------------


def start(link: Link) -> tuple[str, ...]:
    """Return the statements that create the functions and triggers on both tables."""
    statements: list[str] = []
    for part in _parts(link):
        statements += [
            triggers.function(part.name, part.body),
            triggers.trigger(
                *(part.trigger, part.table, part.when, part.name),
                transition=part.transition,
                each=part.each,
            ),
        ]
    return (*statements, *(() if link.creates else (_look_up(link),)))


def stop(link: Link) -> tuple[str, ...]:
    """Return the statements that remove them."""
    parts = _parts(link)
    return (
        *(triggers.drop_trigger(part.trigger, part.table) for part in parts),
        *(triggers.drop_function(part.name) for part in parts),
        *(() if link.creates else (_drop_look_up(link),)),
    )


def stopped(link: Link) -> str:
    """Return the probe that is true once the triggers are gone."""
    names = sql.SQL("ARRAY[{}]").format(_COMMA.join(sql.Literal(part.trigger) for part in _parts(link)))
    block = sqlfiles.block("queries/tables_in_step", "functions_absent")
    quoted = {"left": sql.Literal(link.many.quoted), "right": sql.Literal(link.one.quoted)}
    return text(block.format(triggers=names, **quoted))


def copied(link: Link) -> tuple[Batch, str]:
    """Return the batch that makes the rows of ``one`` for the keys of a range of ``many``, and what is pending."""
    name = link.many.name
    matching = sql.SQL("EXISTS (SELECT FROM {} AS {} WHERE {})").format(
        link.one.identifier, sql.Identifier(ONE), _AND.join([links.same_key(link, name), *links.agree(link, name)])
    )
    pending = sql.SQL("NOT ({}) AND NOT {}").format(links.keyless(link, name), matching)
    head = sql.SQL("WITH schema_change_keys ({}) AS (SELECT DISTINCT {} FROM {} WHERE ").format(
        groups.numbered(link), _COMMA.join(sql.Identifier(m) for m, _ in link.key), link.many.identifier
    )
    return Batch(head=text(head), tail=text(groups.copied(link)), verb="copied"), text(pending)


def filled(link: Link) -> tuple[Batch, str]:
    """Return the batch that fills the copies of a range of ``many``, and what is pending."""
    name = link.many.name
    source = sql.SQL("(SELECT {} FROM {}({}) AS {})").format(
        _COMMA.join(sql.Identifier(ONE, c.one) for c in link.copies),
        *(sql.Identifier("schema_change", _look_up_name(link)), sql.Identifier(name), sql.Identifier(ONE)),
    )
    columns = _COMMA.join(sql.Identifier(c.many) for c in link.copies)
    assigned = sql.SQL("({})" if len(link.copies) > 1 else "{}").format(columns)
    head = sql.SQL("UPDATE {} SET {} = {} WHERE ").format(link.many.identifier, assigned, source)
    pending = sql.SQL("EXISTS (SELECT FROM {} AS {} WHERE {} AND ({}))").format(
        *(link.one.identifier, sql.Identifier(ONE)), links.same_key(link, name), links.differ(link, ONE, name)
    )
    return Batch(head=text(head), verb="filled"), text(pending)


def agreement(link: Link) -> str:
    """Return the condition over a row of ``many`` that its copies agree; rows without a key are left out."""
    _, pending = copied(link) if link.creates else filled(link)
    return text(sql.SQL("NOT ({})").format(raw(pending)))


# -- the triggers ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Part:
    """One trigger and its function."""

    name: str
    trigger: str
    table: Table
    when: str
    body: sql.Composable
    transition: str = ""

    @property
    def each(self) -> str:
        return "STATEMENT" if self.transition or self.when.endswith("TRUNCATE") else "ROW"


def _parts(link: Link) -> tuple[_Part, ...]:
    # Triggers fire in the order of their names: ours must see what the user's made of the row.
    def part(role: str, table: Table, when: str, body: sql.Composable, transition: str = "") -> _Part:
        names = (link.many.schema, link.many.name, link.one.schema, link.one.name)
        ours = hashed_name(f"zz_schema_change_{role}", *names)
        return _Part(hashed_name(role, *names), ours, table, when, body, transition)

    events = "AFTER UPDATE" if link.creates else "AFTER INSERT OR UPDATE OR DELETE"
    parts = [
        part("take_over", link.many, "BEFORE INSERT OR UPDATE", _take_over(link)),
        part("hand_over", link.many, "AFTER INSERT OR UPDATE", _hand_over(link)),
        part("spread", link.one, events, _spread_body(link)),
    ]
    if link.derived:
        new, old = "NEW TABLE AS schema_change_new", "OLD TABLE AS schema_change_old"
        for event, tables in (("INSERT", new), ("UPDATE", f"{old} {new}"), ("DELETE", old)):
            body = groups.recompute(link, event.lower())
            parts.append(part(f"recompute_{event.lower()}", link.many, f"AFTER {event}", body, tables))
        parts.append(part("recompute_truncate", link.many, "AFTER TRUNCATE", groups.recompute_all(link)))
    if not link.creates:
        body = sqlfiles.block("queries/tables_in_step", "clear_all_body").format(**_cleared(link))
        parts.append(part("clear_all", link.one, "AFTER TRUNCATE", body))
    return tuple(parts)


def _take_over(link: Link) -> sql.Composed:
    """Fill the copies of a row that was written without them; make the row of ``one`` that a foreign key wants."""
    take = [
        sql.SQL("IF {} THEN NEW.{} := theirs.{}; END IF;").format(
            links.not_given(copy), sql.Identifier(copy.many), sql.Identifier(groups.label("c", place))
        )
        for place, copy in enumerate(link.copies)
    ]
    theirs = _COMMA.join(
        sql.SQL("{} AS {}").format(sql.Identifier(ONE, c.one), sql.Identifier(groups.label("c", place)))
        for place, c in enumerate(link.copies)
    )
    return sqlfiles.block("queries/tables_in_step", "take_over_body").format(
        **_names(link),
        theirs=theirs,
        has_its_like=links.has_its_like(link, NEW),
        ensure=_ensure(link, NEW, _group_and_row),
        take=sql.SQL(" ").join(take),
    )


def _hand_over(link: Link) -> sql.Composed:
    """Give the copies of a row that was written to ``one``, and to the other rows of the key."""
    return sqlfiles.block("queries/tables_in_step", "hand_over_body").format(
        **_names(link),
        copies_kept=sql.SQL("NOT ({})").format(
            links.differ_in(((c.many, c.many, c.type) for c in link.copies), NEW, OLD)
        ),
        ensure=_ensure(link, NEW, groups.of_key),
        differs=links.differ(link, ONE, NEW),
        hand_over=_COMMA.join(
            sql.SQL("{} = NEW.{}").format(sql.Identifier(c.one), sql.Identifier(c.many)) for c in link.copies
        ),
        spread=_spread(link, of_one=False),
    )


def _spread_body(link: Link) -> sql.Composed:
    """Give the values of a row of ``one`` that was written to the rows of its key."""
    kept = links.key_kept(o for _, o in link.key)
    clear: sql.Composable = sql.SQL("NULL")
    if not link.creates:
        clear = sqlfiles.block("queries/tables_in_step", "clear").format(
            key_kept=kept, same_key=links.many_has_key_of(link, OLD), **_cleared(link)
        )
    return sqlfiles.block("queries/tables_in_step", "spread_body").format(
        key_kept=kept,
        copies_kept=sql.SQL("NOT ({})").format(
            links.differ_in(((c.one, c.one, c.type) for c in link.copies), NEW, OLD)
        ),
        clear=clear,
        one=link.one.identifier,
        same_key=links.pairs(((o, o) for _, o in link.key), ONE, NEW),
        spread=_spread(link, of_one=True),
    )


def _cleared(link: Link) -> dict[str, sql.Composable]:
    something = _OR.join(sql.SQL("{} IS NOT NULL").format(sql.Identifier(MANY, c.many)) for c in link.copies)
    return {
        "many": link.many.identifier,
        "nothing": _COMMA.join(sql.SQL("{} = NULL").format(sql.Identifier(c.many)) for c in link.copies),
        "something": sql.SQL("({})").format(something),
    }


def _look_up_name(link: Link) -> str:
    return hashed_name("look_up", link.many.schema, link.many.name, link.one.schema, link.one.name)


def _look_up(link: Link) -> str:
    """Return the statement that creates what batches read ``one`` with.

    A row of ``many`` that was written while its batch runs is looked at anew, but in the batch's own snapshot: it would
    get values of ``one`` that are no longer there. A function sees what is committed when it is called, and waits for
    who is changing it.
    """
    body = sqlfiles.block("queries/tables_in_step", "look_up_body").format(
        one=link.one.identifier, same_key=links.same_key(link, MANY)
    )
    arguments = sql.SQL("{} {}").format(sql.Identifier(MANY), link.many.identifier)
    return triggers.function(_look_up_name(link), body, arguments=arguments, returns=link.one.identifier)


def _drop_look_up(link: Link) -> str:
    name = sql.Identifier("schema_change", _look_up_name(link))
    return text(sql.SQL("DROP FUNCTION IF EXISTS {}({})").format(name, link.many.identifier))


# -- making rows of ``one`` --------------------------------------------------------------------------------------------


def _ensure(link: Link, row: str, of_rows: Callable[[Link, str], sql.Composed]) -> sql.Composable:
    """Return the statements that make the row of ``one`` for the key of a row written to ``many``."""
    return of_rows(link, row) if link.creates else _given(link)


def _group_and_row(link: Link, row: str) -> sql.Composed:
    """Make it of the rows that are there, else of the row that comes."""
    new = sqlfiles.block("queries/tables_in_step", "insert_new").format(**_row_of_new(link))
    return sql.SQL("{};\n        {}").format(groups.of_key(link, row), new)


def _given(link: Link) -> sql.Composed:
    """Make it only of values that somebody gave."""
    given = _OR.join(sql.SQL("NEW.{} IS NOT NULL").format(sql.Identifier(c.many)) for c in link.copies)
    return sqlfiles.block("queries/tables_in_step", "insert_given").format(given=given, **_row_of_new(link))


def _row_of_new(link: Link) -> dict[str, sql.Composable]:
    pairs = [*link.key, *((c.many, c.one) for c in link.copies)]
    return {
        "one": link.one.identifier,
        "columns": _COMMA.join(sql.Identifier(o) for _, o in pairs),
        "values": _COMMA.join(sql.SQL("NEW.{}").format(sql.Identifier(m)) for m, _ in pairs),
        "key": _COMMA.join(sql.Identifier(o) for _, o in link.key),
        "same_key": links.same_key(link, NEW),
    }


def _names(link: Link) -> dict[str, sql.Composable]:
    return {
        "one": link.one.identifier,
        "keyless": links.keyless(link, NEW),
        "key_kept": links.key_kept(m for m, _ in link.key),
        "same_key": links.same_key(link, NEW),
    }


def _spread(link: Link, *, of_one: bool) -> sql.Composed:
    """Return the update of every row of the key whose copies differ from NEW, a row of ``one`` or of ``many``."""
    source = [(c.many, c.one if of_one else c.many, c.type) for c in link.copies]
    key = link.key if of_one else [(m, m) for m, _ in link.key]
    return sqlfiles.block("queries/tables_in_step", "spread").format(
        many=link.many.identifier,
        values=_COMMA.join(
            sql.SQL("{} = NEW.{}").format(sql.Identifier(m), sql.Identifier(theirs)) for m, theirs, _ in source
        ),
        same_key=links.pairs(key, MANY, NEW),
        differs=links.differ_in(source, MANY, NEW),
    )
