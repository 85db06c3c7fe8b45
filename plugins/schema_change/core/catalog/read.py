"""Read the catalog of a database in a handful of set-based queries, in one snapshot."""

from __future__ import annotations

import contextlib
import json
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
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
        holders = [f"{name} (session {pid} of {user})" for name, pid, user in _rows(connection, "exclusive")]
        raise LockNotAvailable(
            f"the catalog cannot be read while a table is locked exclusively: {', '.join(holders) or 'it is free now'}",
            hint="try again when that session has finished",
        ) from error


def _scope(connection: Connection, scope: Collection[Table]) -> Catalog:
    with connection.transaction():
        connection.execute(sqlfiles.block("queries/catalog", "begin"))
        if scope:
            names = {"schemas": [t.schema for t in scope], "names": [t.name for t in scope]}
            oids = [row[0] for row in _rows(connection, "oids", **names)]
            return Catalog(server_version(connection), _relations(connection, oids))
        return _catalog(connection, _relations(connection, None))


def _around(connection: Connection, tables: Collection[Table]) -> Catalog:
    with connection.transaction():
        connection.execute(sqlfiles.block("queries/catalog", "begin"))
        found = {oid: (Table(schema, name), indexes) for oid, schema, name, indexes in _rows(connection, "names")}
        wanted = [oid for oid, (table, _) in found.items() if table in tables]
        near = {oid: surrounded for oid, surrounded in _rows(connection, "around", oids=wanted) if oid in found}
        read = _relations(connection, list(near))
        unread = {table: indexes for oid, (table, indexes) in found.items() if oid not in near}
        relations = PartlyRead(
            read,
            unread=frozenset(unread),
            indexes={Table(t.schema, index): t for t, indexes in unread.items() for index in indexes},
            beside=frozenset(found[oid][0] for oid, surrounded in near.items() if not surrounded),
        )
        return _catalog(connection, relations)


def _catalog(connection: Connection, relations: Mapping[Table, Relation]) -> Catalog:
    objects = {f"{row[0]} {row[1]}": _object(row) for row in _rows(connection, "objects")}
    extensions = tuple(row[0] for row in _rows(connection, "extensions"))
    return Catalog(server_version(connection), relations, dict(sorted(objects.items())), extensions)


def _relations(connection: Connection, oids: list[int] | None) -> dict[Table, Relation]:
    """Return relations by name, in order; None means all of them."""
    relations = {row[0]: _relation(row) for row in _rows(connection, "relations", oids=oids)}
    columns = _grouped(connection, "columns", oids)
    constraints = _grouped(connection, "constraints", oids)
    indexes = _grouped(connection, "indexes", oids)
    triggers = _grouped(connection, "triggers", oids)
    parts = _grouped(connection, "parts", oids)
    uses = _grouped(connection, "uses", oids)
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
    return {r.table: r for r in sorted(complete, key=lambda r: r.table)}


def _rows(connection: Connection, name: str, **parameters: object) -> list[Any]:
    return connection.execute(sqlfiles.block("queries/catalog", name), parameters or None).fetchall()


def _grouped(connection: Connection, name: str, oids: list[int] | None) -> _ByRelation:
    groups: defaultdict[int, list[_Row]] = defaultdict(list)
    for row in _rows(connection, name, oids=oids):
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
