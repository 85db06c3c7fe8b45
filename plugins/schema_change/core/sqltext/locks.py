"""Which lock a statement takes on which relation, from its tree alone.

Sources: PostgreSQL's documentation ("Explicit Locking", each command's page) and AlterTableGetLockLevel() in
tablecmds.c. An integration test executes the statements and compares with pg_locks. What only the catalog knows
(partitions, inheritance, the table of an index, foreign keys of a dropped table, rows a function touches) is not here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pglast import ast
from pglast.enums import AlterTableType as At
from pglast.enums import ConstrType, ObjectType

from schema_change.core.model import LockMode
from schema_change.core.names import Table
from schema_change.core.sqltext import grammar
from schema_change.core.sqltext.grammar import Node, is_a

#: Pairs of relation and lock; a relation may appear more than once, the strongest counts.
Locks = Iterator[tuple[Table, LockMode]]

_ALTER_SHARE_ROW_EXCLUSIVE = {
    At.AT_EnableTrig,
    At.AT_EnableAlwaysTrig,
    At.AT_EnableReplicaTrig,
    At.AT_EnableTrigAll,
    At.AT_EnableTrigUser,
    At.AT_DisableTrig,
    At.AT_DisableTrigAll,
    At.AT_DisableTrigUser,
}
_ALTER_SHARE_UPDATE_EXCLUSIVE = {
    At.AT_SetStatistics,
    At.AT_SetOptions,
    At.AT_ResetOptions,
    At.AT_ClusterOn,
    At.AT_DropCluster,
    At.AT_ValidateConstraint,
    At.AT_AttachPartition,
    At.AT_DetachPartitionFinalize,
}
# Storage parameters that take more than SHARE UPDATE EXCLUSIVE.
_STRONG_PARAMETERS = {"user_catalog_table", "security_barrier", "security_invoker", "check_option", "buffering"}
_NAMED_LIKE_TABLES = {
    ObjectType.OBJECT_TABLE,
    ObjectType.OBJECT_VIEW,
    ObjectType.OBJECT_MATVIEW,
    ObjectType.OBJECT_FOREIGN_TABLE,
    ObjectType.OBJECT_SEQUENCE,
    ObjectType.OBJECT_INDEX,
}
_PARTS_OF_TABLES = {
    ObjectType.OBJECT_COLUMN,
    ObjectType.OBJECT_TABCONSTRAINT,
    ObjectType.OBJECT_TRIGGER,
    ObjectType.OBJECT_POLICY,
    ObjectType.OBJECT_RULE,
}


def named(names: Node, schema: str) -> Table:
    """Return the relation of a list of names."""
    parts = grammar.dotted(names)
    return Table(parts[-2], parts[-1]) if len(parts) > 1 else Table(schema, parts[-1])


def relation(node: Node, schema: str) -> Table:
    """Return the relation of a RangeVar."""
    return Table(node.schemaname or schema, node.relname)


def locks_of(node: Node, schema: str) -> dict[Table, LockMode] | None:
    """Return the strongest lock per relation, or None when the statement is not understood."""
    handler = _HANDLERS.get(type(node))
    if handler is None:
        return {} if type(node) in _NO_RELATION else None
    found: dict[Table, LockMode] = {}
    for table, mode in handler(node, schema):
        found[table] = max(found.get(table, LockMode.NONE), mode)
    if type(node) not in _WITHOUT_READS:
        for table in grammar.tables_of(node, schema):
            found.setdefault(table, LockMode.ACCESS_SHARE)
    return found


def _whole(mode: LockMode, field: str = "relation") -> Callable[[Node, str], Locks]:
    def locks(node: Node, schema: str) -> Locks:
        yield relation(getattr(node, field), schema), mode

    return locks


def _written(node: Node, schema: str) -> Locks:
    """Yield what has rows written anywhere in a statement, common table expressions too, or locked by SELECT … FOR."""
    for part in grammar.walk(node):
        if is_a(part, ast.InsertStmt, ast.UpdateStmt, ast.DeleteStmt, ast.MergeStmt):
            yield relation(part.relation, schema), LockMode.ROW_EXCLUSIVE
        if is_a(part, ast.SelectStmt) and part.lockingClause:
            for item in part.fromClause or ():
                for found in grammar.references(item, schema):
                    yield found.table, LockMode.ROW_SHARE
        if is_a(part, ast.IntoClause) and part.rel is not None:
            yield relation(part.rel, schema), LockMode.NONE


def _alter_table(node: Node, schema: str) -> Locks:
    table = relation(node.relation, schema)
    for command in node.cmds:
        yield table, _alter_level(command)
        yield from _alter_others(command, schema)


def _alter_level(command: Node) -> LockMode:
    kind = command.subtype
    if kind in _ALTER_SHARE_UPDATE_EXCLUSIVE:
        return LockMode.SHARE_UPDATE_EXCLUSIVE
    if kind in _ALTER_SHARE_ROW_EXCLUSIVE:
        return LockMode.SHARE_ROW_EXCLUSIVE
    if kind in {At.AT_SetRelOptions, At.AT_ResetRelOptions}:
        strong = any(option.defname in _STRONG_PARAMETERS for option in command.def_ or ())
        return LockMode.ACCESS_EXCLUSIVE if strong else LockMode.SHARE_UPDATE_EXCLUSIVE
    if kind == At.AT_AddConstraint and command.def_.contype == ConstrType.CONSTR_FOREIGN:
        return LockMode.SHARE_ROW_EXCLUSIVE
    if kind == At.AT_DetachPartition and command.def_.concurrent:
        return LockMode.SHARE_UPDATE_EXCLUSIVE
    return LockMode.ACCESS_EXCLUSIVE


def _alter_others(command: Node, schema: str) -> Locks:
    """Yield the other relations an ALTER TABLE command locks: referenced tables, partitions, parents."""
    if command.subtype in {At.AT_AttachPartition, At.AT_DetachPartition, At.AT_DetachPartitionFinalize}:
        yield relation(command.def_.name, schema), LockMode.ACCESS_EXCLUSIVE
    elif command.subtype == At.AT_AddInherit:
        yield relation(command.def_, schema), LockMode.SHARE_UPDATE_EXCLUSIVE
    elif command.def_ is not None and is_a(command.def_, ast.Node):
        yield from _referenced(command.def_, schema)


def _referenced(node: Node, schema: str) -> Locks:
    for part in grammar.walk(node):
        if is_a(part, ast.Constraint) and part.pktable is not None:
            yield relation(part.pktable, schema), LockMode.SHARE_ROW_EXCLUSIVE


def _create_table(node: Node, schema: str) -> Locks:
    yield relation(node.relation, schema), LockMode.NONE
    parent = LockMode.ACCESS_EXCLUSIVE if node.partbound is not None else LockMode.SHARE_UPDATE_EXCLUSIVE
    for inherited in node.inhRelations or ():
        yield relation(inherited, schema), parent
    yield from _referenced(node, schema)


def _create_index(node: Node, schema: str) -> Locks:
    yield (
        relation(node.relation, schema),
        LockMode.SHARE_UPDATE_EXCLUSIVE if node.concurrent else LockMode.SHARE,
    )


def _drop(node: Node, schema: str) -> Locks:
    mode = LockMode.SHARE_UPDATE_EXCLUSIVE if node.concurrent else LockMode.ACCESS_EXCLUSIVE
    for item in node.objects:
        if node.removeType in _NAMED_LIKE_TABLES:
            yield named(item, schema), mode
        elif node.removeType in _PARTS_OF_TABLES:
            yield named(item[:-1], schema), mode


def _rename(node: Node, schema: str) -> Locks:
    if node.relation is not None:
        weak = node.renameType == ObjectType.OBJECT_INDEX
        yield (
            relation(node.relation, schema),
            LockMode.SHARE_UPDATE_EXCLUSIVE if weak else LockMode.ACCESS_EXCLUSIVE,
        )


def _set_schema(node: Node, schema: str) -> Locks:
    if node.relation is not None:
        yield relation(node.relation, schema), LockMode.ACCESS_EXCLUSIVE


def _comment(node: Node, schema: str) -> Locks:
    if node.objtype in _NAMED_LIKE_TABLES:
        yield named(node.object, schema), LockMode.SHARE_UPDATE_EXCLUSIVE
    elif node.objtype in _PARTS_OF_TABLES:
        yield named(node.object[:-1], schema), LockMode.SHARE_UPDATE_EXCLUSIVE


def _reindex(node: Node, schema: str) -> Locks:
    if node.relation is not None:
        yield relation(node.relation, schema), LockMode.SHARE_UPDATE_EXCLUSIVE if concurrently(node) else LockMode.SHARE


def _vacuum(node: Node, schema: str) -> Locks:
    full = has_option(node.options, "full")
    for item in node.rels or ():
        yield (
            relation(item.relation, schema),
            LockMode.ACCESS_EXCLUSIVE if full else LockMode.SHARE_UPDATE_EXCLUSIVE,
        )


def _cluster(node: Node, schema: str) -> Locks:
    if node.relation is not None:
        yield relation(node.relation, schema), LockMode.ACCESS_EXCLUSIVE


def _truncate(node: Node, schema: str) -> Locks:
    for item in node.relations:
        yield relation(item, schema), LockMode.ACCESS_EXCLUSIVE


def _lock_table(node: Node, schema: str) -> Locks:
    for item in node.relations:
        yield relation(item, schema), LockMode(node.mode)


def _refresh(node: Node, schema: str) -> Locks:
    yield relation(node.relation, schema), LockMode.EXCLUSIVE if node.concurrent else LockMode.ACCESS_EXCLUSIVE


def _create_view(node: Node, schema: str) -> Locks:
    yield relation(node.view, schema), LockMode.ACCESS_EXCLUSIVE if node.replace else LockMode.NONE


def _copy(node: Node, schema: str) -> Locks:
    if node.relation is not None:
        yield relation(node.relation, schema), LockMode.ROW_EXCLUSIVE if node.is_from else LockMode.ACCESS_SHARE
    elif node.query is not None:
        yield from _written(node.query, schema)


def _statistics(node: Node, schema: str) -> Locks:
    for item in node.relations:
        yield relation(item, schema), LockMode.SHARE_UPDATE_EXCLUSIVE


def _publication(node: Node, schema: str) -> Locks:
    for found in grammar.references(node, schema):
        yield found.table, LockMode.SHARE_UPDATE_EXCLUSIVE


def _create_trigger(node: Node, schema: str) -> Locks:
    yield relation(node.relation, schema), LockMode.SHARE_ROW_EXCLUSIVE
    if node.constrrel is not None:
        yield relation(node.constrrel, schema), LockMode.SHARE_ROW_EXCLUSIVE


def _nothing(node: Node, schema: str) -> Locks:
    yield from ()


def has_option(options: Node, name: str) -> bool:
    """Tell whether a parenthesised option is set: ``(FULL)``, ``(FULL true)``, but not ``(FULL off)``."""
    for option in options or ():
        if option.defname == name:
            value = option.arg
            text = str(getattr(value, "sval", getattr(value, "boolval", getattr(value, "ival", True)))).lower()
            return text not in {"off", "false", "0", "no"}
    return False


def concurrently(node: Node) -> bool:
    """Tell whether a statement says CONCURRENTLY, in whichever way its grammar spells it."""
    return bool(getattr(node, "concurrent", False)) or has_option(getattr(node, "params", None), "concurrently")


_A = LockMode.ACCESS_EXCLUSIVE
_HANDLERS: dict[type[ast.Node], Callable[[Node, str], Locks]] = {
    ast.SelectStmt: _written,
    ast.InsertStmt: _written,
    ast.UpdateStmt: _written,
    ast.DeleteStmt: _written,
    ast.MergeStmt: _written,
    ast.CreateTableAsStmt: _written,
    ast.ExplainStmt: _written,
    ast.CopyStmt: _copy,
    ast.AlterTableStmt: _alter_table,
    ast.CreateStmt: _create_table,
    ast.IndexStmt: _create_index,
    ast.DropStmt: _drop,
    ast.RenameStmt: _rename,
    ast.AlterObjectSchemaStmt: _set_schema,
    ast.CommentStmt: _comment,
    ast.SecLabelStmt: _comment,
    ast.ReindexStmt: _reindex,
    ast.VacuumStmt: _vacuum,
    ast.ClusterStmt: _cluster,
    ast.TruncateStmt: _truncate,
    ast.LockStmt: _lock_table,
    ast.RefreshMatViewStmt: _refresh,
    ast.ViewStmt: _create_view,
    ast.CreateStatsStmt: _statistics,
    ast.CreatePublicationStmt: _publication,
    ast.AlterPublicationStmt: _publication,
    ast.CreateTrigStmt: _create_trigger,
    ast.CreatePolicyStmt: _whole(_A, "table"),
    ast.AlterPolicyStmt: _whole(_A, "table"),
    ast.RuleStmt: _whole(_A),
    ast.AlterSeqStmt: _whole(LockMode.SHARE_ROW_EXCLUSIVE, "sequence"),
    ast.CreateSeqStmt: _whole(LockMode.NONE, "sequence"),
    ast.GrantStmt: _nothing,
}
#: Their relations are named, but not read.
_WITHOUT_READS = {ast.CreateSeqStmt}
_NO_RELATION: set[type[ast.Node]] = {
    ast.CreateSchemaStmt,
    ast.CreateForeignTableStmt,
    ast.CreateFunctionStmt,
    ast.AlterFunctionStmt,
    ast.CreateEnumStmt,
    ast.AlterEnumStmt,
    ast.CreateDomainStmt,
    ast.CompositeTypeStmt,
    ast.CreateRangeStmt,
    ast.DefineStmt,
    ast.CreateExtensionStmt,
    ast.AlterExtensionStmt,
    ast.CreateRoleStmt,
    ast.AlterRoleStmt,
    ast.AlterRoleSetStmt,
    ast.DropRoleStmt,
    ast.GrantRoleStmt,
    ast.AlterDefaultPrivilegesStmt,
    ast.AlterOwnerStmt,
    ast.AlterDatabaseSetStmt,
    ast.CreatedbStmt,
    ast.CreateCastStmt,
    ast.CreateEventTrigStmt,
    ast.AlterEventTrigStmt,
    ast.NotifyStmt,
    ast.ConstraintsSetStmt,
    ast.VariableShowStmt,
    ast.CheckPointStmt,
}
