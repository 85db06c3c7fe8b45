"""Rules about rows: written, removed or configured away in one statement."""

from __future__ import annotations

from collections.abc import Iterator

from pglast import ast

from schema_change.core.model import LockMode
from schema_change.core.planning.rules.base import Found, Rule, Scene
from schema_change.core.sqltext.grammar import is_a
from schema_change.core.sqltext.statements import Statement


def dml_without_where(statement: Statement, scene: Scene) -> Iterator[Found]:
    """Find writes to every row: all are locked and rewritten at once, and the table doubles in size."""
    node = statement.node
    if not is_a(node, ast.UpdateStmt, ast.DeleteStmt) or node.whereClause is not None:
        return
    if level := scene.level(*statement.writes):
        yield Found(
            f"{statement.kind} without WHERE touches every row of {statement.writes[0]} in one transaction",
            "say which rows with WHERE; fill a column with the section backfill:, which works in batches",
            level,
        )


def truncate(statement: Statement, scene: Scene) -> Iterator[Found]:
    """Find TRUNCATE: all rows are gone at once, also for readers of older snapshots."""
    if is_a(statement.node, ast.TruncateStmt) and (level := scene.level(*statement.tables)):
        yield Found(
            f"TRUNCATE removes all rows of {', '.join(map(str, statement.tables))} under ACCESS EXCLUSIVE; revert.sql "
            "cannot bring them back",
            "rename the table and create a new one; drop the old one in a later change (operation drop_table)",
            level,
        )


def ddl_with_bulk_dml(statement: Statement, scene: Scene) -> Iterator[Found]:
    """Find rows written beside DDL in one transaction: its lock is held for as long as they take."""
    if not scene.step.transactional or not _is_bulk(statement) or statement is not _first_bulk(scene):
        return
    locked = [t for s in scene.statements for t, mode in s.locks.items() if mode >= LockMode.SHARE]
    held = [t for t in locked if scene.level(t)]
    level = scene.level(*statement.writes, *statement.reads)
    if held and level:
        yield Found(
            f"{statement.kind} of many rows runs in the transaction that has locked {held[0]}",
            "put COMMIT between them (BEGIN … COMMIT blocks are kept apart), or fill with the section backfill:",
            level,
        )


def _first_bulk(scene: Scene) -> Statement | None:
    return next((s for s in scene.statements if _is_bulk(s)), None)


def _is_bulk(statement: Statement) -> bool:
    node = statement.node
    values = is_a(node, ast.InsertStmt) and is_a(node.selectStmt, ast.SelectStmt) and bool(node.selectStmt.valuesLists)
    return is_a(node, ast.InsertStmt, ast.UpdateStmt, ast.DeleteStmt, ast.MergeStmt) and not values


def partman_retention(statement: Statement, scene: Scene) -> Iterator[Found]:
    """Find a changed retention of pg_partman: the next maintenance drops partitions, far from this change."""
    node = statement.node
    if not is_a(node, ast.InsertStmt, ast.UpdateStmt) or node.relation.relname != "part_config":
        return
    targets = node.targetList if is_a(node, ast.UpdateStmt) else node.cols
    if any((target.name or "").startswith("retention") for target in targets or ()):
        yield Found(
            "pg_partman's retention changes: its next maintenance drops partitions, and no rollback brings them back",
            "detach and keep the partitions that would go (retention_keep_table), see which they are, then waive this",
        )


RULES = {
    "dml-without-where": Rule(dml_without_where),
    "truncate": Rule(truncate),
    "ddl-with-bulk-dml": Rule(ddl_with_bulk_dml),
    "partman-retention": Rule(partman_retention),
}
