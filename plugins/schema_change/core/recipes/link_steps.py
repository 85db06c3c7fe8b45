"""The steps around two tables kept in step that splitting and merging have in common."""

from __future__ import annotations

from psycopg import sql

from schema_change.core import sqlfiles
from schema_change.core.catalog.model import Catalog, Relation
from schema_change.core.model import DataCheck, LockMode, Phase, Step
from schema_change.core.recipes import index, links, raw, tables_in_step, text, unique
from schema_change.core.recipes.links import MANY, ONE, Link

_OR, _COMMA = sql.SQL(" OR "), sql.SQL(", ")


def searchable(catalog: Catalog, relation: Relation, key: tuple[str, ...]) -> tuple[Step, ...]:
    """Return the step that builds an index on the key, unless there is one: foreign key and triggers search by it."""
    whole = (i for i in relation.indexes if i.valid and " WHERE " not in i.definition)
    if any(set(i.columns[: len(key)]) == set(key) for i in whole):
        return ()
    name = index.free_name(catalog, relation.table, *key)
    definition = sql.SQL("CREATE INDEX CONCURRENTLY {} ON {} ({})").format(
        sql.Identifier(name), relation.table.identifier, _COMMA.join(map(sql.Identifier, key))
    )
    return (index.build(relation.table, name, text(definition), phase=Phase.EXPAND),)


def keep_in_step(link: Link) -> Step:
    """Return the step that makes the triggers."""
    return Step(
        phase=Phase.EXPAND,
        title=f"keep {link.many} and {link.one} in step",
        tables=(link.many, link.one),
        statements=tables_in_step.start(link),
        lock=LockMode.SHARE_ROW_EXCLUSIVE,
        undo=tables_in_step.stop(link),
        undo_lock=LockMode.ACCESS_EXCLUSIVE,
        lasting=False,
    )


def contradictions(link: Link) -> DataCheck:
    """Return the pre-check that counts the keys whose rows have different values."""
    as_text = _COMMA.join(sql.SQL('{}::text COLLATE "C"').format(sql.Identifier(MANY, c.many)) for c in link.copies)
    groups = sqlfiles.block("queries/tables_in_step", "contradictions").format(
        key=_COMMA.join(sql.Identifier(MANY, m) for m, _ in link.key),
        row=sql.SQL("ROW({})").format(as_text),
        many=link.many.identifier,
        keyed=sql.SQL("NOT ({})").format(links.keyless(link, MANY)),
    )
    names = ", ".join(m for m, _ in link.key)
    return DataCheck(
        name=f"values of ({names}) in {link.many} that contradict each other",
        count=text(sql.SQL("SELECT count(*) FROM ({}) AS groups").format(groups)),
        sample=text(sql.SQL("{} LIMIT 10").format(groups)),
        remedy="make the rows of each key agree, or say which row wins with conflicts: first or {latest: <expression>}",
    )


def duplicates(link: Link, new: Relation) -> tuple[DataCheck, ...]:
    """Return the pre-checks that the rows made for the keys fit the unique indexes of ``one``."""
    pairs = [*link.key, *((c.many, c.one) for c in link.copies)]
    rows = sql.SQL("SELECT DISTINCT ON ({key}) {values} FROM {many} WHERE NOT {keyless} ORDER BY {key}{order}").format(
        key=_COMMA.join(sql.Identifier(link.many.name, m) for m, _ in link.key),
        values=_COMMA.join(
            sql.SQL("{} AS {}").format(sql.Identifier(link.many.name, m), sql.Identifier(o)) for m, o in pairs
        ),
        many=link.many.identifier,
        keyless=links.keyless(link, link.many.name),
        order=sql.SQL(", {}").format(raw(link.order)) if link.order else sql.SQL(""),
    )
    return unique.duplicates_to_be(new, rows, tuple(o for _, o in pairs))


def lost_without_key(link: Link) -> DataCheck:
    """Return the pre-check that counts rows without a key that have values, which ``one`` could not hold."""
    having = _OR.join(sql.SQL("{} IS NOT NULL").format(sql.Identifier(MANY, c.many)) for c in link.copies)
    where = sql.SQL("FROM {} AS {} WHERE ({}) AND ({})").format(
        link.many.identifier, sql.Identifier(MANY), links.keyless(link, MANY), having
    )
    values = _COMMA.join(sql.Identifier(MANY, c.many) for c in link.copies)
    return DataCheck(
        name=f"values in rows of {link.many} without {', '.join(m for m, _ in link.key)}",
        count=text(sql.SQL("SELECT count(*) {}").format(where)),
        sample=text(sql.SQL("SELECT {} {} LIMIT 10").format(values, where)),
        remedy="give these rows a key, or set the values to NULL, first",
    )


def unmatched(link: Link) -> DataCheck:
    """Return the pre-check that counts the rows of ``one`` that no row of ``many`` refers to."""
    where = sql.SQL("FROM {} AS {} WHERE NOT EXISTS (SELECT FROM {} AS {} WHERE {})").format(
        *(link.one.identifier, sql.Identifier(ONE), link.many.identifier, sql.Identifier(MANY)),
        links.same_key(link, MANY),
    )
    return DataCheck(
        name=f"rows of {link.one} that no row of {link.many} refers to",
        count=text(sql.SQL("SELECT count(*) {}").format(where)),
        sample=text(
            sql.SQL("SELECT {} {} LIMIT 10").format(_COMMA.join(sql.Identifier(ONE, o) for _, o in link.key), where)
        ),
        remedy="delete them first, or let them go with unmatched: retire",
    )
