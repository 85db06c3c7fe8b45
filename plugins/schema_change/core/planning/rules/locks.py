"""Rules about locks that stop an application: taken by hand, for long, or on more tables than the text names."""

from __future__ import annotations

from collections.abc import Iterator

from pglast import ast
from pglast.enums import AlterTableType as At
from pglast.enums import ConstrType

from schema_change.core.catalog.model import Constraint, Relation
from schema_change.core.model import LockMode
from schema_change.core.planning.rules.base import Found, Rule, Scene, added_columns, commands
from schema_change.core.sqltext.grammar import is_a
from schema_change.core.sqltext.statements import Statement


def lock_table(statement: Statement, scene: Scene) -> Iterator[Found]:
    """Find locks taken by hand: they are held until the end of the transaction."""
    level = scene.level(*statement.tables)
    if is_a(statement.node, ast.LockStmt) and statement.lock >= LockMode.SHARE and level:
        yield Found(
            f"LOCK TABLE … IN {statement.lock.sql} MODE blocks {statement.lock.blocks} until the step ends",
            "leave it out: the executor takes the lock each step needs, and bounds it",
            level,
        )


def many_tables_locked(statement: Statement, scene: Scene) -> Iterator[Found]:
    """Find transactions that hold strong locks on several tables: all of them wait for the slowest."""
    if not scene.step.transactional or statement is not scene.statements[-1]:
        return
    single = [{t for t, mode in s.locks.items() if mode >= LockMode.SHARE and scene.busy(t)} for s in scene.statements]
    tables = sorted(set().union(*single))
    if len(tables) > max(map(len, single)):
        yield Found(
            f"one transaction blocks {', '.join(map(str, tables))} together until its end; an application that takes "
            "them in another order runs into a deadlock",
            "put COMMIT between the statements of different tables (BEGIN … COMMIT blocks are kept apart)",
            "warning",
        )


def refresh_materialized_view(statement: Statement, scene: Scene) -> Iterator[Found]:
    """Find REFRESH that keeps readers out while the query runs."""
    node = statement.node
    level = scene.level(*statement.tables[:1])
    if not is_a(node, ast.RefreshMatViewStmt) or node.concurrent or level is None:
        return
    view = statement.tables[0]
    relation = scene.catalog.get(view)
    ready = relation is not None and any(
        i.unique and i.valid and " WHERE " not in i.definition for i in relation.indexes
    )
    yield Found(
        f"REFRESH MATERIALIZED VIEW {view} keeps readers out for as long as its query runs",
        f"REFRESH MATERIALIZED VIEW CONCURRENTLY {view}" + ("" if ready else ", behind a unique index on its rows"),
        level,
    )


def create_trigger(statement: Statement, scene: Scene) -> Iterator[Found]:
    """Find triggers put on tables in use: writes wait while it is made, and are slower ever after."""
    if is_a(statement.node, ast.CreateTrigStmt) and scene.level(*statement.tables[:1]):
        yield Found(
            f"CREATE TRIGGER keeps writers of {statement.tables[0]} out until the step ends; then every write fires it",
            "let it be alone in its transaction (BEGIN … COMMIT), and its function be quick; typed operations bring "
            "the triggers they need",
            "warning",
        )


def disable_trigger(statement: Statement, scene: Scene) -> Iterator[Found]:
    """Find triggers switched off for everybody: what they enforce is not enforced for rows written meanwhile."""
    kinds = (At.AT_DisableTrig, At.AT_DisableTrigAll, At.AT_DisableTrigUser)
    for command in commands(statement, *kinds):
        table = statement.tables[0]
        if level := scene.level(table):
            everything = "all triggers, those of foreign keys too,"
            what = f"trigger {command.name}" if command.name else everything
            yield Found(
                f"{what} of {table} do nothing for any session until they are enabled again, under a lock that blocks "
                "writes",
                "write with the section backfill:, or let the trigger's WHEN look at a setting of your session",
                level,
            )


def drop_table_with_foreign_keys(statement: Statement, scene: Scene) -> Iterator[Found]:
    """Find dropped tables whose foreign keys point at tables in use: those are locked exclusively too."""
    if statement.kind != "DROP TABLE":
        return
    for table in statement.tables:
        relation = scene.catalog.get(table)
        for key in _keys_to_busy(relation, scene) if relation else ():
            yield Found(
                f"dropping {table} drops its foreign key {key.name}, which takes ACCESS EXCLUSIVE on {key.references} "
                "as well, in one transaction with everything else that goes",
                f"drop the foreign keys first, each in a transaction of its own, then the table: operation drop_table, "
                f"or ALTER TABLE {table} DROP CONSTRAINT {key.name} behind a COMMIT",
            )


def drop_column_with_parts(statement: Statement, scene: Scene) -> Iterator[Found]:
    """Find dropped columns that take indexes and foreign keys with them, unnamed."""
    for command in commands(statement, At.AT_DropColumn):
        table = statement.tables[0]
        relation = scene.catalog.get(table)
        if relation is None:
            continue
        keys = [k for k in _keys_to_busy(relation, scene) if command.name in k.columns]
        for key in keys:
            yield Found(
                f"dropping {table}.{command.name} drops foreign key {key.name}, which takes ACCESS EXCLUSIVE on "
                f"{key.references} as well",
                f"ALTER TABLE {table} DROP CONSTRAINT {key.name} first, in a transaction of its own, or the operation "
                "drop_column",
            )
        indexes = [
            i.name for i in relation.indexes if command.name in (*i.columns, *relation.parts_of(command.name, "index"))
        ]
        if indexes and scene.busy(table):
            yield Found(
                f"dropping {table}.{command.name} drops {', '.join(indexes)} with it; queries that need them get slow",
                "DROP INDEX CONCURRENTLY (or DROP CONSTRAINT) each by name first, when nothing uses it any more",
                "warning",
            )


def _keys_to_busy(relation: Relation, scene: Scene) -> Iterator[Constraint]:
    """Yield a table's foreign keys to other tables in use that the plan has not dropped yet."""
    for key in relation.constraints:
        other = key.references if key.type == "f" and key.references != relation.table else None
        if other is not None and scene.busy(other) and not scene.past.dropped(relation.table, key.name):
            yield key


def add_reference(statement: Statement, scene: Scene) -> Iterator[Found]:
    """Find a column that comes with its foreign key: two tables are locked, and no index serves the key."""
    for column, constraints in added_columns(statement):
        keys = [c for c in constraints if c.contype == ConstrType.CONSTR_FOREIGN]
        plain = all(c.contype != ConstrType.CONSTR_DEFAULT for c in constraints)
        if keys and plain and scene.level(*statement.tables):
            yield Found(
                f"column {column.colname} comes with its foreign key: writes to {keys[0].pktable.relname} wait too, "
                "and deleting there reads the whole table, as no index serves the key",
                "three operations: add_column, create_index, add_foreign_key",
                "warning",
            )


RULES = {
    "lock-table": Rule(lock_table),
    "many-tables-locked": Rule(many_tables_locked),
    "refresh-materialized-view": Rule(refresh_materialized_view),
    "create-trigger": Rule(create_trigger),
    "disable-trigger": Rule(disable_trigger),
    "drop-table-with-foreign-keys": Rule(drop_table_with_foreign_keys),
    "drop-column-with-parts": Rule(drop_column_with_parts),
    "add-reference": Rule(add_reference, instead_of=("adding-foreign-key-constraint",)),
}
