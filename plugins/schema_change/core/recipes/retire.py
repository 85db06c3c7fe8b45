"""A table moved out of everybody's way: to schema ``schema_change_retired``, under names that nothing else has there.

Its indexes and sequences move with it, so they get names of ours first: another schema's table may have retired ones of
the same name. The way back is the same moves in reverse.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from psycopg import sql

from schema_change.core import sqlfiles
from schema_change.core.catalog.model import Catalog, Relation
from schema_change.core.model import DataCheck
from schema_change.core.names import Table, hashed_name
from schema_change.core.recipes import text
from schema_change.core.recipes.dependents import shown
from schema_change.core.recipes.rows import HOME
from schema_change.core.sqltext.grammar import identifier


def there(catalog: Catalog, relation: Relation, kept: Table) -> tuple[str, ...]:
    """Return the statements that move a table away."""
    source = relation.table
    found = [_rename(kind, Table(source.schema, name), ours) for kind, name, ours in _parts(catalog, relation, kept)]
    return (*found, _rename("TABLE", source, kept.name), _move(Table(source.schema, kept.name), HOME))


def back(catalog: Catalog, relation: Relation, kept: Table) -> tuple[str, ...]:
    """Return the statements that bring a table back under its own names."""
    home = relation.table
    found = [_rename(kind, Table(home.schema, ours), name) for kind, name, ours in _parts(catalog, relation, kept)]
    return (_move(kept, home.schema), _rename("TABLE", Table(home.schema, kept.name), home.name), *found)


def is_free(kept: Table, what: str) -> DataCheck:
    """Return the pre-check that nothing is kept under that name already."""
    where = sqlfiles.block("queries/retention", "kept_as").format(schema=sql.Literal(HOME), name=sql.Literal(kept.name))
    return DataCheck(
        name=f"{what} kept by an earlier run of this change",
        count=text(sql.SQL("SELECT count(*) FROM ({}) AS k").format(where)),
        sample=text(where),
        remedy="look whether it is still needed, then: schema-change purge --id N, as schema-change retired lists it",
    )


def sequences_of(catalog: Catalog, table: Table, column: str | None = None) -> tuple[Table, ...]:
    """Return the sequences that a table, or one of its columns, owns: they go where it goes."""
    end = f"{shown(table)}." + (identifier(column) if column is not None else "")
    found = []
    for name, definition in catalog.objects.items():
        owner = definition.partition("\n")[0].partition(" owned by ")[2]
        if name.startswith("sequence ") and (owner == end if column is not None else owner.startswith(end)):
            found.append(Table.parse(name.removeprefix("sequence ")))
    return tuple(found)


def borrowers(catalog: Catalog, owner: Relation, sequences: Iterable[Table], column: str | None = None) -> list[str]:
    """Return the other columns whose default takes numbers from the sequences."""
    calls = [text(sql.SQL("nextval({}::regclass)").format(sql.Literal(shown(s)))) for s in sequences]
    if not calls:
        return []
    return [
        f"the default of {r.table}.{c.name}"
        for r in catalog.relations.values()
        for c in r.columns
        if (r.table != owner.table or (column is not None and c.name != column))
        and any(call in (c.default or "") for call in calls)
    ]


def users_of(relation: Relation, among: Iterable[Table]) -> Iterator[str]:
    """Yield what is made of a table and is not part of it, nor a foreign key, nor part of the tables ``among``."""
    own = tuple(f" on {shown(table)}" for table in among)
    for use in relation.uses:
        if use.kind in {"index", "constraint", "trigger", "statistics", "generated column", "foreign key"}:
            continue
        if use.kind in {"policy", "rule"} and use.name.endswith(own):
            continue
        if use.kind != "publication":
            yield str(use)


def publications_of(catalog: Catalog, relation: Relation) -> Iterator[str]:
    """Yield the publications that name a table; those of all tables, or of its schema, take what is there."""
    name = re.escape(shown(relation.table))
    for use in relation.uses:
        definition = catalog.objects.get(str(use), "").partition("\n")[0]
        if use.kind == "publication" and re.search(rf"(?:^|[ ,]){name}(?:$|[ ,])", definition):
            yield str(use)


def functions_naming(catalog: Catalog, name: str) -> tuple[str, ...]:
    """Return the functions whose text has a name as a word; PostgreSQL does not track what is inside most of them."""
    word = re.compile(rf"(?<![\w$]){re.escape(name)}(?![\w$])", re.IGNORECASE)
    kinds = ("function ", "procedure ")
    return tuple(k for k, d in catalog.objects.items() if k.startswith(kinds) and word.search(d.partition("AS ")[2]))


def _parts(catalog: Catalog, relation: Relation, kept: Table) -> Iterator[tuple[str, str, str]]:
    for index in relation.indexes:
        yield "INDEX", index.name, hashed_name("index", kept.name, index.name)
    for sequence in sequences_of(catalog, relation.table):
        if sequence.schema == relation.table.schema:
            yield "SEQUENCE", sequence.name, hashed_name("sequence", kept.name, sequence.name)


def _rename(kind: str, source: Table, name: str) -> str:
    return text(sql.SQL("ALTER {} {} RENAME TO {}").format(sql.SQL(kind), source.identifier, sql.Identifier(name)))


def _move(table: Table, schema: str) -> str:
    return text(sql.SQL("ALTER TABLE {} SET SCHEMA {}").format(table.identifier, sql.Identifier(schema)))
