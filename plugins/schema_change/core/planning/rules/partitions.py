"""Rules about partitioned tables: what reaches every partition, or reads one under ACCESS EXCLUSIVE."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pglast import ast
from pglast.enums import AlterTableType as At

from schema_change.core.catalog.model import Relation
from schema_change.core.names import Table
from schema_change.core.planning.rules.base import Found, Rule, Scene, commands, rows_of
from schema_change.core.sqltext import grammar
from schema_change.core.sqltext.grammar import Node, is_a
from schema_change.core.sqltext.statements import Statement


def partitioned_index(statement: Statement, scene: Scene) -> Iterator[Found]:
    """Find an index on all partitions at once: each is built while writes to all of them wait."""
    node = statement.node
    if not is_a(node, ast.IndexStmt) or not node.relation.inh:
        return
    table = statement.tables[0]
    relation = scene.catalog.get(table)
    if relation is None or relation.kind != "p":
        return
    if node.concurrent:
        message = f"{table} is partitioned: PostgreSQL refuses CREATE INDEX CONCURRENTLY there"
    elif scene.busy(table):
        message = f"the index is built on every partition of {table} while nobody can write to any of them"
    else:
        return
    yield Found(
        message,
        "use the operation create_index: CREATE INDEX ON ONLY the parent, CONCURRENTLY on each partition, then "
        "ALTER INDEX … ATTACH PARTITION",
    )


def attach_partition(statement: Statement, scene: Scene) -> Iterator[Found]:
    """Find partitions attached without proof that their rows fit: all are read under ACCESS EXCLUSIVE."""
    for command in commands(statement, At.AT_AttachPartition):
        if command.def_.bound is None:  # an index attached to an index
            continue
        parent, table = scene.catalog.get(statement.tables[0]), statement.tables[1]
        key, values = _key_columns(parent), _values(command.def_.bound)
        level = scene.level(table)
        if level and not (_proves(table, key, values, scene) and all(scene.never_null(table, c) for c in key)):
            partition = scene.busy(table)
            condition = " AND ".join([*(f"{c} IS NOT NULL" for c in key), "<the bounds>"])
            yield Found(
                f"ATTACH PARTITION reads all of {rows_of(partition, table)} while nobody can read or write it: no "
                "validated CHECK says that its rows are within the bounds",
                f"ALTER TABLE {table} ADD CONSTRAINT … CHECK ({condition}) NOT VALID, VALIDATE CONSTRAINT in a "
                "transaction of its own, then ATTACH",
                level,
            )
        if parent is not None:
            yield from _default_partition(parent, key, values, scene)
            yield from _missing_indexes(parent, scene.busy(table))


def _default_partition(parent: Relation, key: tuple[str, ...], values: list[str], scene: Scene) -> Iterator[Found]:
    for name in scene.partitions(parent.table):
        other = scene.busy(name)
        if other is not None and other.partition_bound == "DEFAULT" and not _proves(name, key, values, scene):
            yield Found(
                f"a new partition of {parent.table} reads all of its default partition {rows_of(other, name)} while "
                "nobody can read or write it",
                f"give {name} a CHECK that excludes the new bounds, NOT VALID, and VALIDATE it before the attachment",
            )


def _missing_indexes(parent: Relation, partition: Relation | None) -> Iterator[Found]:
    if partition is None:
        return
    has = {(i.columns, i.unique) for i in partition.indexes if i.valid}
    if missing := [i.name for i in parent.indexes if (i.columns, i.unique) not in has]:
        yield Found(
            f"ATTACH PARTITION builds what {partition.table} lacks of {', '.join(missing)} under its lock",
            "CREATE INDEX CONCURRENTLY with the same columns on the partition first",
        )


def create_partition(statement: Statement, scene: Scene) -> Iterator[Found]:
    """Find CREATE TABLE … PARTITION OF: it locks the whole parent exclusively and may read its default partition."""
    node = statement.node
    if not is_a(node, ast.CreateStmt) or node.partbound is None:
        return
    parent = scene.busy(next(t for t in statement.tables if t not in statement.creates))
    if parent is None:
        return
    yield Found(
        f"CREATE TABLE … PARTITION OF takes ACCESS EXCLUSIVE on all of {parent.table}",
        "CREATE TABLE … (LIKE parent INCLUDING ALL), then ALTER TABLE … ATTACH PARTITION, which lets reads and writes "
        "of the other partitions go on",
        "warning",
    )
    yield from _default_partition(parent, _key_columns(parent), _values(node.partbound), scene)


def _key_columns(parent: Relation | None) -> tuple[str, ...]:
    """Return the columns that a partition key names."""
    if parent is None or not parent.partition_key:
        return ()
    words = set(re.findall(r'"(?:[^"]|"")+"|\w+', parent.partition_key.partition("(")[2]))
    return tuple(c.name for c in parent.columns if grammar.identifier(c.name) in words)


def _values(bound: Node) -> list[str]:
    """Return the constants of a partition's bounds as text."""
    values = (n.val for n in grammar.walk(bound) if is_a(n, ast.A_Const) and not n.isnull)
    return [str(next(getattr(v, f) for f in ("sval", "ival", "fval", "boolval") if hasattr(v, f))) for v in values]


def _proves(table: Table, key: tuple[str, ...], values: list[str], scene: Scene) -> bool:
    """Tell whether a valid CHECK names the key and every value of the bounds; PostgreSQL does the real proof."""
    texts = (text for columns, text in scene.checks(table) if columns >= set(key))
    return bool(key) and any(all(value in text for value in values) for text in texts)


RULES = {
    "partitioned-index": Rule(partitioned_index, instead_of=("require-concurrent-index-creation",)),
    "attach-partition": Rule(attach_partition),
    "create-partition": Rule(create_partition),
}
