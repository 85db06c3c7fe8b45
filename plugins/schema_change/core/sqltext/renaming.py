"""Definitions as the catalog prints them, with another column in a column's place.

The tree is changed, printed and parsed again: what comes back must be the changed tree, so that nothing is lost on the
way. A definition for which that does not hold is refused.
"""

from __future__ import annotations

from pglast import ast
from pglast.enums import BoolExprType
from pglast.parser import ParseError
from pglast.stream import RawStream
from pglast.visitors import Visitor

from schema_change.core.errors import PlanError
from schema_change.core.sqltext import grammar
from schema_change.core.sqltext.functions import HARMLESS_VOLATILE
from schema_change.core.sqltext.grammar import Node, is_a

_FROM_CALL_TO_CALL = HARMLESS_VOLATILE | {"now", "transaction_timestamp", "statement_timestamp"}
_HEAD = "ALTER TABLE t ADD CONSTRAINT x "


def mentions(definition: str, column: str) -> bool:
    """Tell whether the definition of an index names a column. The text is pg_get_indexdef()'s."""
    return any(_named(node, column) for node in grammar.walk(grammar.parse(definition)[0].stmt))


def is_plain(definition: str) -> bool:
    """Tell whether an index has only columns: no expression and no predicate."""
    index = grammar.parse(definition)[0].stmt
    return index.whereClause is None and all(key.name for key in index.indexParams)


def index_copy(definition: str, name: str, old: str, new: str, *, concurrently: bool = True) -> str:
    """Return the statement that builds the same index under another name, with another column in the column's place."""
    tree = grammar.parse(definition)
    index = tree[0].stmt
    index.idxname, index.concurrent = name, concurrently
    _rename(index, old, new)
    if not index.nulls_not_distinct:
        return _print(tree, definition)
    # pglast prints NULLS NOT DISTINCT behind the predicate, where the grammar does not know it.
    where, options = index.whereClause, index.options
    index.whereClause = index.options = None
    index.nulls_not_distinct = False
    head = _print(tree, definition)
    index.whereClause, index.options, index.nulls_not_distinct = where, options, True
    behind = grammar.parse("CREATE INDEX i ON t (x)")
    behind[0].stmt.whereClause, behind[0].stmt.options = where, options
    tail = _print(behind, definition).removeprefix("CREATE INDEX i ON t (x)")
    text = f"{head} NULLS NOT DISTINCT{tail}"
    if grammar.parse(text) != tree:
        raise _refused(definition)
    return text


def check_copy(definition: str, old: str, new: str) -> str:
    """Return a CHECK constraint's definition with another column in the column's place, without NOT VALID."""
    tree = grammar.parse(_HEAD + definition)
    constraint = tree[0].stmt.cmds[0].def_
    constraint.skip_validation, constraint.initially_valid = False, True
    _rename(constraint.raw_expr, old, new)
    return _print(tree, definition).removeprefix(_HEAD)


def foreign_key_copy(
    definition: str, *, local: tuple[str, str] | None = None, referenced: tuple[str, str] | None = None
) -> str:
    """Return a foreign key's definition with columns replaced on either side, ``(old, new)``, without NOT VALID."""
    tree = grammar.parse(_HEAD + definition)
    constraint = tree[0].stmt.cmds[0].def_
    constraint.skip_validation, constraint.initially_valid = False, True
    for pair, lists in ((local, ("fk_attrs", "fk_del_set_cols")), (referenced, ("pk_attrs",))):
        for field in lists:
            for item in getattr(constraint, field) or () if pair else ():
                if pair and item.sval == pair[0]:
                    item.sval = pair[1]
    return _print(tree, definition).removeprefix(_HEAD)


def referenced_columns(definition: str) -> tuple[str, ...]:
    """Return the columns that a foreign key references, from pg_get_constraintdef()'s text."""
    return tuple(item.sval for item in grammar.parse(_HEAD + definition)[0].stmt.cmds[0].def_.pk_attrs or ())


def trigger_copy(
    definition: str, old: str, columns: tuple[str, ...], *, new: str | None = None, only_if: str | None = None
) -> str:
    """Return a trigger's definition that fires on UPDATE OF other columns where it fired on a column.

    With ``new``, the trigger's condition reads that column instead; ``only_if`` is one more condition.
    """
    tree = grammar.parse(definition)
    trigger = tree[0].stmt
    fires_on: list[ast.String] = []
    for item in trigger.columns or ():
        fires_on += [ast.String(c) for c in columns] if item.sval == old else [item]
    trigger.columns = tuple(fires_on) or None
    if new is not None and trigger.whenClause is not None:
        for node in grammar.walk(trigger.whenClause):
            if is_a(node, ast.ColumnRef) and len(node.fields) == 2 and _last(node) == old:
                node.fields[-1].sval = new
    if only_if is not None:
        condition = grammar.parse(f"SELECT ({only_if})")[0].stmt.targetList[0].val
        both = (condition, trigger.whenClause)
        joined = ast.BoolExpr(boolop=BoolExprType.AND_EXPR, args=both)
        trigger.whenClause = condition if trigger.whenClause is None else joined
    return _print(tree, definition)


def fires_on_update_of(definition: str, column: str) -> bool:
    """Tell whether a trigger fires on UPDATE OF a column."""
    return any(item.sval == column for item in grammar.parse(definition)[0].stmt.columns or ())


def substituted(expression: str, row: str, column: str, value: str) -> str | None:
    """Return an expression with a value in a column's place; None when it reads anything else, such as a subquery."""
    tree = grammar.parse(f"SELECT ({expression})")
    wanted = grammar.parse(f"SELECT ({value})")[0].stmt.targetList[0].val
    others = False

    class Put(Visitor):
        def visit_ColumnRef(self, _: object, node: ast.ColumnRef) -> Node:  # noqa: N802 - the visitor's name for it
            nonlocal others
            names = tuple(f.sval if is_a(f, ast.String) else "*" for f in node.fields or ())
            others |= names not in {(column,), (row, column)}
            return wanted

        def visit_SubLink(self, *_: object) -> None:  # noqa: N802 - the visitor's name for it
            nonlocal others
            others = True

    Put()(tree)
    return None if others else str(RawStream()(tree[0].stmt.targetList[0].val))


def is_repeatable(expression: str) -> bool:
    """Tell whether an expression gives a row the same value tomorrow: no clock, no chance."""
    for node in grammar.walk(grammar.parse(f"SELECT ({expression})")[0].stmt):
        if is_a(node, ast.SQLValueFunction):
            return False
        if is_a(node, ast.FuncCall) and grammar.dotted(node.funcname)[-1] in _FROM_CALL_TO_CALL:
            return False
    return True


def is_constant(expression: str) -> bool:
    """Tell whether a default gives every row of a transaction the same value: it calls no function."""
    tree = grammar.parse(f"SELECT ({expression})")
    return not any(is_a(node, ast.FuncCall, ast.SubLink) for node in grammar.walk(tree[0].stmt))


def _rename(tree: Node, old: str, new: str) -> None:
    for node in grammar.walk(tree):
        if not _named(node, old):
            continue
        if is_a(node, ast.IndexElem):
            node.name = new
        else:
            node.fields[-1].sval = new


def _named(node: Node, column: str) -> bool:
    if is_a(node, ast.IndexElem):
        return bool(node.name == column)
    return is_a(node, ast.ColumnRef) and len(node.fields) == 1 and _last(node) == column


def _last(node: Node) -> str | None:
    last = node.fields[-1]
    return last.sval if is_a(last, ast.String) else None


def _print(tree: Node, definition: str) -> str:
    text = str(RawStream()(tree))
    try:
        if grammar.parse(text) == tree:
            return text
    except ParseError as error:
        raise _refused(definition) from error
    raise _refused(definition)


def _refused(definition: str) -> PlanError:
    return PlanError(
        f"this definition cannot be carried over to another column: {definition}",
        hint="drop it in a change before this one and create it again behind it",
    )
