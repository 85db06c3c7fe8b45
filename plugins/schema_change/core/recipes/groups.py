"""Rows of ``one`` made of the group of rows of ``many`` that have its key: copies and derived values."""

from __future__ import annotations

from collections.abc import Iterable

from psycopg import sql

from schema_change.core import sqlfiles
from schema_change.core.recipes import links, raw
from schema_change.core.recipes.links import MANY, ONE, Link

_TOUCHED = "touched"
_AND, _COMMA = sql.SQL(" AND "), sql.SQL(", ")
_NOTHING = sql.SQL("")


def _group(link: Link, same_key: sql.Composable) -> sql.Composed:
    """Return the query of the derived values of a key: one row, also when no row has the key."""
    return sqlfiles.block("queries/tables_in_step", "group").format(
        columns=derived_columns(link),
        many=link.many.identifier,
        row=sql.Identifier(link.many.name),
        same_key=same_key,
        key=_COMMA.join(sql.Identifier(link.many.name, m) for m, _ in link.key),
    )


def _taken_from_group(link: Link) -> dict[str, sql.Composable]:
    labelled = [(d, label("d", place)) for place, d in enumerate(link.derived)]
    return {
        "one": link.one.identifier,
        "values": _COMMA.join(
            sql.SQL("{} = schema_change_group.{}").format(sql.Identifier(d.one), sql.Identifier(place))
            for d, place in labelled
        ),
        "differs": links.differ_in(((d.one, place, d.type) for d, place in labelled), ONE, "schema_change_group"),
    }


def recompute_all(link: Link) -> sql.Composed:
    """Return the body that computes the derived columns of every key anew, none of which has a row any more."""
    block = sqlfiles.block("queries/tables_in_step", "recompute_all_body")
    return block.format(derived=_group(link, sql.SQL("false")), **_taken_from_group(link))


_TOUCHED_BY = {"insert": "touched_by_insert", "update": "touched_by_update", "delete": "touched_by_delete"}


def recompute(link: Link, event: str) -> sql.Composed:
    """Return the body that computes the derived columns of the keys that a statement touched anew."""
    keys = [sql.Identifier(MANY, m) for m, _ in link.key]
    columns = tuple(dict.fromkeys((*(m for m, _ in link.key), *link.inputs)))
    touched = sqlfiles.block("queries/tables_in_step", _TOUCHED_BY[event]).format(
        key=_COMMA.join(
            sql.SQL("{} AS {}").format(key, sql.Identifier(label("k", place))) for place, key in enumerate(keys)
        ),
        keyed=sql.SQL("NOT ({})").format(links.keyless(link, MANY)),
        order=_COMMA.join(sql.SQL(str(place + 1)) for place in range(len(keys))),
        # As text: not every type can be compared.
        inputs=_COMMA.join(
            sql.SQL("{}" if c in dict(link.key) else '{0}::text COLLATE "C" AS {1}').format(
                sql.Identifier(MANY, c), sql.Identifier(c)
            )
            for c in columns
        ),
    )
    group = sql.SQL("{} = touched.{}")
    same_key = _AND.join(
        group.format(sql.Identifier(link.many.name, m), sql.Identifier(label("k", place)))
        for place, (m, _) in enumerate(link.key)
    )
    return sqlfiles.block("queries/tables_in_step", "recompute_body").format(
        touched=touched,
        ensure=of_key(link, _TOUCHED),
        same_key=_AND.join(
            group.format(sql.Identifier(ONE, o), sql.Identifier(label("k", place)))
            for place, (_, o) in enumerate(link.key)
        ),
        derived=_group(link, same_key),
        **_taken_from_group(link),
    )


def of_key(link: Link, row: str) -> sql.Composed:
    """Return the insert of the row of ``one`` for a key, made of the rows of ``many`` as the backfill does."""
    columns = [label("k", place) for place in range(len(link.key))] if row == _TOUCHED else [m for m, _ in link.key]
    keys = _COMMA.join(sql.SQL("{}.{}").format(sql.SQL(row), sql.Identifier(c)) for c in columns)
    head = sql.SQL("WITH schema_change_keys ({}) AS (SELECT {}").format(numbered(link), keys)
    return sql.SQL("{}{}").format(head, copied(link))


def copied(link: Link) -> sql.Composed:
    """Return the insert into ``one`` for the keys in schema_change_keys, from the bracket that closes their query."""
    row = link.many.name
    keys = [(sql.Identifier(row, m), sql.Identifier(label("k", place))) for place, (m, _) in enumerate(link.key)]
    same_key = _AND.join(
        sql.SQL("{} = {}").format(column, sql.SQL("schema_change_keys.{}").format(place)) for column, place in keys
    )
    many_key = _COMMA.join(column for column, _ in keys)
    labelled = [sql.SQL("{} AS {}").format(column, place) for column, place in keys]
    copies = [
        sql.SQL("{} AS {}").format(sql.Identifier(row, c.many), sql.Identifier(label("c", place)))
        for place, c in enumerate(link.copies)
    ]
    first = [
        sql.Identifier("schema_change_first", name) for name in (*labels("k", link.key), *labels("c", link.copies))
    ]
    group = [sql.Identifier("schema_change_group", name) for name in labels("d", link.derived)]
    derived: sql.Composable = _NOTHING
    if link.derived:
        derived = sqlfiles.block("queries/tables_in_step", "copy_derived").format(
            values=sql.SQL("{}, {}").format(_COMMA.join(labelled), derived_columns(link)),
            many=link.many.identifier,
            row=sql.Identifier(row),
            same_key=same_key,
            many_key=many_key,
            same_group=_AND.join(
                sql.SQL("schema_change_group.{0} = schema_change_first.{0}").format(place) for _, place in keys
            ),
        )
    columns = [*(o for _, o in link.key), *(c.one for c in link.copies), *(d.one for d in link.derived)]
    return sqlfiles.block("queries/tables_in_step", "copy_groups").format(
        one=link.one.identifier,
        columns=_COMMA.join(map(sql.Identifier, columns)),
        values=_COMMA.join([*first, *group]),
        many_key=many_key,
        many_values=_COMMA.join([*labelled, *copies]),
        many=link.many.identifier,
        row=sql.Identifier(row),
        same_key=same_key,
        order=sql.SQL(", {}").format(raw(link.order)) if link.order else _NOTHING,
        derived=sql.SQL("{}\n").format(derived) if link.derived else _NOTHING,
        key=_COMMA.join(sql.Identifier(o) for _, o in link.key),
    )


def labels(letter: str, items: Iterable[object]) -> list[str]:
    """Return the labels of numbered items."""
    return [label(letter, place) for place, _ in enumerate(items)]


def label(letter: str, number: int) -> str:
    """Return the name of a column in our queries."""
    # Not a name that a column of somebody's has: expressions name columns without their table.
    return f"schema_change_{letter}{number}"


def numbered(link: Link) -> sql.Composed:
    """Return the labels of the key's columns."""
    return _COMMA.join(map(sql.Identifier, labels("k", link.key)))


def derived_columns(link: Link) -> sql.Composed:
    """Return the derived values of a group, under their labels."""
    return _COMMA.join(
        sql.SQL("({})::{} AS {}").format(raw(d.expression), raw(d.type), sql.Identifier(label("d", place)))
        for place, d in enumerate(link.derived)
    )
