"""Read the catalog of a database in a handful of set-based queries, in one snapshot."""

from __future__ import annotations

import contextlib
import json
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import psycopg

from schema_change.core import sqlfiles
from schema_change.core.catalog.model import (
    OWN_PARTS,
    Catalog,
    Column,
    Constraint,
    Index,
    PartlyRead,
    Relation,
    Trigger,
    Unread,
    Use,
)
from schema_change.core.database import Connection, server_version
from schema_change.core.errors import ConfigurationError, LockNotAvailable
from schema_change.core.names import Table

#: The oldest major version whose catalog these queries know.
OLDEST = 15

_RETRIES = 2
#: The most tables that are asked for with plans made for few.
_FEW = 100
#: The blocks that a relation is made of.
_RELATION = ("relations", "columns", "constraints", "indexes", "triggers", "parts", "uses")
#: A plan that looks at one more table each time is better off with all of them.
_ROUNDS = 4
_VARCHAR_LIST = re.compile(r"\(ARRAY\[((?:'(?:[^']|'')*'::character varying(?:, )?)+)\]\)::text\[\]")
_VARCHAR_ITEM = re.compile(r"('(?:[^']|'')*'::character varying)")

_T = TypeVar("_T")
_Row = Sequence[Any]
_ByRelation = Mapping[int, list[_Row]]


def read_catalog(connection: Connection, scope: Collection[Table] = ()) -> Catalog:
    """Return the catalog of a scope, as ``Catalog.restricted`` does: an empty one means the whole database.

    System schemas, temporary schemas and ``schema_change`` are left out. ``connection`` is an autocommit session
    outside a transaction; the queries share one read-only snapshot with an empty search_path. Raises LockNotAvailable
    when a table stays locked exclusively longer than the session's lock_timeout, and ConfigurationError for a server
    that is too old.
    """
    return _patiently(connection, lambda: _scope(connection, scope))


def read_around(connection: Connection, tables: Collection[Table]) -> Catalog:
    """Return the catalog with these tables, if they exist, and all that refers to them; the rest by name only.

    See :class:`PartlyRead`, and :func:`read_catalog` for the connection and what is raised.
    """
    return _patiently(connection, lambda: _around(connection, tables))


def on_catalog(connection: Connection, tables: Collection[Table], work: Callable[[Catalog], _T]) -> _T:
    """Return what ``work`` makes of the catalog around some tables; when it looks further, more is read for it.

    ``work`` has no side effects: it starts again with a catalog that has what it missed.
    """
    for _ in range(_ROUNDS):
        try:
            return work(read_around(connection, tables))
        except Unread as missing:
            if missing.table is None:
                break
            tables = {*tables, missing.table}
    return work(read_catalog(connection))


def _patiently(connection: Connection, read: Callable[[], Catalog]) -> Catalog:
    version = server_version(connection)
    if version < OLDEST * 10000:
        raise ConfigurationError(
            f"the server is PostgreSQL {version // 10000}; {OLDEST} or newer is needed",
            hint="upgrade the server first",
        )
    try:
        for _ in range(_RETRIES):
            # pg_get_*def() look at the newest catalog rather than at our snapshot: they fail for what was just dropped.
            with contextlib.suppress(psycopg.errors.InternalError_, psycopg.errors.UndefinedTable):
                return read()
        return read()
    except psycopg.errors.LockNotAvailable as error:
        holders = [f"{name} (session {pid} of {user})" for name, pid, user in _ask(connection, "exclusive")[0]]
        raise LockNotAvailable(
            f"the catalog cannot be read while a table is locked exclusively: {', '.join(holders) or 'it is free now'}",
            hint="try again when that session has finished",
        ) from error


@contextlib.contextmanager
def _one_snapshot(connection: Connection, tables: Collection[Table]) -> Iterator[None]:
    """Begin the transaction that all queries share; what does not need an answer is sent along with what does."""
    with connection.pipeline(), connection.transaction():
        connection.execute(sqlfiles.block("queries/catalog", "one_snapshot"))
        few = 0 < len(tables) <= _FEW
        connection.execute(sqlfiles.block("queries/catalog", "settings"), {"few": few}, prepare=True)
        yield


def _scope(connection: Connection, scope: Collection[Table]) -> Catalog:
    with _one_snapshot(connection, scope):
        if scope:
            names = {"schemas": [t.schema for t in scope], "names": [t.name for t in scope]}
            [oids] = _ask(connection, "oids", **names)
            relations, _ = _relations(connection, [row[0] for row in oids])
            return Catalog(server_version(connection), relations)
        [names_of_all] = _ask(connection, "names")
        return _catalog(connection, *_relations(connection, [row[0] for row in names_of_all], "objects"))


def _around(connection: Connection, tables: Collection[Table]) -> Catalog:
    with _one_snapshot(connection, tables):
        [names] = _ask(connection, "names")
        found = {oid: (Table(schema, name), indexes) for oid, schema, name, indexes in names}
        wanted = [oid for oid, (table, _) in found.items() if table in tables]
        [surroundings] = _ask(connection, "around", oids=_array(wanted))
        near = {oid: surrounded for oid, surrounded in surroundings if oid in found}
        read, others = _relations(connection, list(near), "objects")
        unread = {table: indexes for oid, (table, indexes) in found.items() if oid not in near}
        relations = PartlyRead(
            read,
            unread=frozenset(unread),
            indexes={Table(t.schema, index): t for t, indexes in unread.items() for index in indexes},
            beside=frozenset(found[oid][0] for oid, surrounded in near.items() if not surrounded),
        )
        return _catalog(connection, relations, others)


def _catalog(connection: Connection, relations: Mapping[Table, Relation], others: list[_Row]) -> Catalog:
    objects = {f"{row[0]} {row[1]}": _object(row) for row in others if row[0] != "extension"}
    extensions = tuple(sorted(row[1] for row in others if row[0] == "extension"))
    return Catalog(server_version(connection), relations, dict(sorted(objects.items())), extensions)


def _relations(connection: Connection, oids: list[int], *besides: str) -> tuple[dict[Table, Relation], list[_Row]]:
    """Return relations by name, in order, and the rows of a block that is asked for ``besides``."""
    found, *parts_of = _ask(connection, *_RELATION, *besides, oids=_array(oids))
    others = parts_of.pop() if besides else []
    relations = {row[0]: _relation(row) for row in found}
    columns, constraints, indexes, triggers, parts, uses = map(_grouped, parts_of)
    complete = (
        _with_parts(
            replace(
                relation,
                columns=tuple(_column(row) for row in columns[oid]),
                constraints=tuple(_constraint(row) for row in constraints[oid]),
                indexes=tuple(_index(row) for row in indexes[oid]),
                triggers=tuple(Trigger(row[1], row[2], row[3], row[4]) for row in triggers[oid]),
                uses=tuple(Use(row[1], row[2], tuple(row[3])) for row in uses[oid]),
                dependants=tuple(sorted(f"{row[1]} {row[2]}" for row in uses[oid] if row[1] not in OWN_PARTS)),
                replica_identity=_replica_identity(relation, indexes[oid]),
            ),
            parts[oid],
        )
        for oid, relation in relations.items()
    )
    return {r.table: r for r in sorted(complete, key=lambda r: r.table)}, others


def _ask(connection: Connection, *names: str, **parameters: object) -> list[list[Any]]:
    """Return the rows of each block, asked for together."""
    blocks = [sqlfiles.block("queries/catalog", name) for name in names]
    cursors = [connection.execute(block, parameters or None, prepare=True) for block in blocks]
    return [cursor.fetchall() for cursor in cursors]


def _array(oids: Iterable[int]) -> str:
    return f"{{{','.join(map(str, oids))}}}"  # as text it is of one type, whatever its numbers are


def _grouped(rows: Iterable[_Row]) -> _ByRelation:
    groups: defaultdict[int, list[_Row]] = defaultdict(list)
    for row in rows:
        groups[row[0]].append(row)
    return groups


def _relation(row: _Row) -> Relation:
    return Relation(
        table=Table(row[1], row[2]),
        kind=row[3],
        persistence=row[4],
        owner=row[5],
        row_security=row[6],
        force_row_security=row[7],
        replica_identity=row[8],
        options=tuple(row[9]),
        partition_key=row[10],
        partition_bound=row[11],
        definition=_canonical(row[12]),
        comment=row[13],
        grants=tuple(row[14]),
        rows=row[15],
        bytes=row[16],
        writes=row[17],
    )


def _column(row: _Row) -> Column:
    return Column(
        name=row[1],
        type=row[2],
        nullable=row[3],
        default=_canonical(row[4]),
        generated=row[5],
        identity=row[6],
        collation=row[7],
        comment=row[8],
        grants=tuple(row[9]),
        options=tuple(row[10]),
    )


def _constraint(row: _Row) -> Constraint:
    return Constraint(
        name=row[1],
        type=row[2],
        definition=_canonical(row[3]) or "",
        columns=tuple(row[4]),
        validated=row[5],
        references=Table(row[6], row[7]) if row[7] is not None else None,
        comment=row[8],
    )


def _index(row: _Row) -> Index:
    return Index(
        name=row[1],
        definition=_canonical(row[2]) or "",
        columns=tuple(row[3]),
        unique=row[4],
        primary=row[5],
        valid=row[6],
        comment=row[7],
        clustered=row[8],
    )


def _replica_identity(relation: Relation, indexes: Iterable[_Row]) -> str:
    if relation.replica_identity != "index":
        return relation.replica_identity
    return "index " + next((row[1] for row in indexes if row[9]), "(dropped)")


def _with_parts(relation: Relation, parts: Iterable[_Row]) -> Relation:
    texts: defaultdict[str, list[str]] = defaultdict(list)
    for _, kind, text in parts:
        texts[kind].append(text)
    parents = tuple(Table(*json.loads(text)) for text in texts["parent"])
    is_partition = relation.partition_bound is not None
    return replace(
        relation,
        policies=tuple(_canonical(text) or "" for text in texts["policy"]),
        rules=tuple(texts["rule"]),
        statistics=tuple(texts["statistics"]),
        inherits=() if is_partition else parents,
        partition_of=parents[0] if is_partition and parents else None,
    )


def _object(row: _Row) -> str:
    _, _, definition, owner, grants, comment = row
    lines = [definition or "", f"owner: {owner}", f"grants: {', '.join(grants)}"]
    if comment is not None:
        lines.append(f"comment: {comment}")
    return "\n".join(line for line in lines if line)


def _canonical(definition: str | None) -> str | None:
    """Return an expression in the spelling that dumping and restoring it settles on.

    ``x IN ('a', 'b')`` on a varchar is deparsed with one cast of the whole array; parsed again, with one per element.
    """
    if definition is None or "::text[]" not in definition:
        return definition
    return _VARCHAR_LIST.sub(lambda m: "ARRAY[" + _VARCHAR_ITEM.sub(r"(\1)::text", m.group(1)) + "]", definition)
