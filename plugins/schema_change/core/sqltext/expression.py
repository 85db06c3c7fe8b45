"""Expressions, predicates, types and index keys: exactly one of each, and safe to put into our statements.

The method is the same everywhere: put the text into a statement of ours, parse that with PostgreSQL's grammar, and
demand that the tree is our statement with nothing changed but the one place. What is then embedded has no comments,
so nothing of ours can be swallowed. The statements composed here are parsed, never run.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from pglast import ast
from pglast.parser import ParseError

from schema_change.core.names import Table
from schema_change.core.sqltext import functions, grammar
from schema_change.core.sqltext.grammar import Node, SqlError

# format_type()'s spelling, so that a type can be compared with the catalog's.
_FORMAT = {
    "bool": "boolean",
    "bpchar": "character",
    "float4": "real",
    "float8": "double precision",
    "int2": "smallint",
    "int4": "integer",
    "int8": "bigint",
    "varbit": "bit varying",
    "varchar": "character varying",
}
_ZONED = {
    "time": "time{} without time zone",
    "timetz": "time{} with time zone",
    "timestamp": "timestamp{} without time zone",
    "timestamptz": "timestamp{} with time zone",
}
_SERIAL = {f"{kind}serial" for kind in ("", "small", "big")} | {"serial2", "serial4", "serial8"}
_REFUSALS: dict[type[ast.Node], str] = {
    ast.InsertStmt: "INSERT",
    ast.UpdateStmt: "UPDATE",
    ast.DeleteStmt: "DELETE",
    ast.MergeStmt: "MERGE",
    ast.LockingClause: "SELECT … FOR UPDATE or SHARE",
    ast.IntoClause: "SELECT … INTO",
    ast.ParamRef: "a parameter such as $1",
    ast.SetToDefault: "DEFAULT",
}


@dataclass(frozen=True, slots=True)
class Expression:
    """One SQL expression.

    ``text`` is the original without comments, its tables qualified by schema. ``tables`` are those its subqueries
    read, ``columns`` the last parts of all column names, ``functions`` the names of all functions,
    ``bare_functions`` of those without a schema. ``volatile_hint`` tells that a function is volatile, or belongs to a
    user's schema so that only pg_proc knows. ``names`` are the column names in their parts, with ``*`` for all.
    """

    text: str
    tables: tuple[Table, ...] = ()
    columns: tuple[str, ...] = ()
    volatile_hint: bool = False
    functions: tuple[str, ...] = ()
    bare_functions: tuple[str, ...] = ()
    names: tuple[tuple[str, ...], ...] = ()

    def may_read(self, row: str, column: str) -> bool:
        """Tell whether it may read a column of the row it is about, which is visible as ``row``, or the whole row."""
        whole = {(row,), (row, "*")}
        return any(n[-2:] in whole or (n[-1] == column and n[-2:-1] in {(), (row,)}) for n in self.names)


@dataclass(frozen=True, slots=True)
class IndexKey:
    """One item of an index: ``text`` as it goes into CREATE INDEX, ``column`` when it is a plain column."""

    text: str
    column: str | None
    columns: tuple[str, ...] = ()
    bare_functions: tuple[str, ...] = ()


def parse_expression(text: str, *, default_schema: str = "public") -> Expression:
    """Read exactly one expression over a row, without side effects. Raises SqlError (a ValueError) saying where."""
    clean, node = _one_value(text, "expression")
    _check(node, "expression")
    return _expression(clean, node, default_schema)


def parse_over_rows(text: str, group: Collection[str]) -> Expression:
    """Read exactly one expression over rows that have the columns of ``group`` in common, such as ``min(day)``.

    Columns outside aggregates are those of the group. Raises SqlError (a ValueError) saying what is not.
    """
    clean, node = _one_value(text, "expression")
    _check(node, "expression", of_rows=True)
    _check_row_only(node, "expression")
    for part in _outside_aggregates(node):
        if grammar.is_a(part, ast.ColumnRef) and getattr(part.fields[-1], "sval", "*") not in group:
            raise SqlError(
                f"expression: {clean[:80]!r} reads a column that rows of one group may have different values of",
                hint="put it into an aggregate, such as min(…) or max(…)",
            )
    return _expression(clean, node, "public")


def parse_predicate(text: str) -> Expression:
    """Read a condition of a CHECK constraint or a partial index: an expression over one row that never changes."""
    clean, node = _one_value(text, "condition")
    _check(node, "condition")
    _check_row_only(node, "condition")
    return _expression(clean, node, "public")


def normalise_type(text: str) -> str:
    """Return a type's name in format_type()'s spelling, safe to embed. Raises SqlError (a ValueError).

    A type that is not PostgreSQL's own keeps the schema it was written with, or none.
    """
    clean = _clean(text, "type")
    _parse(f"SELECT NULL::{clean}", "type", text, len("SELECT NULL::"))
    tree = _parse(f"SELECT CAST(NULL AS {clean})", "type", text, len("SELECT CAST(NULL AS "))
    template = grammar.parse("SELECT CAST(NULL AS text)")
    value = _only_target(tree)
    if not grammar.is_a(value, ast.TypeCast):
        raise SqlError(f"type: {text.strip()!r} is not one type", hint="write a type such as numeric(10,2)")
    type_name = value.typeName
    template[0].stmt.targetList[0].val.typeName = type_name
    if tree != template or type_name.setof or type_name.pct_type:
        raise SqlError(f"type: {text.strip()!r} is not one type", hint="write a type such as numeric(10,2)")
    return _format_type(type_name, clean)


def index_keys(items: Sequence[str]) -> tuple[IndexKey, ...]:
    """Read the items of an index: ``name``, ``lower(name)``, ``(a + b)``, ``name text_pattern_ops DESC NULLS LAST``.

    Raises SqlError (a ValueError) when an item is anything else.
    """
    return tuple(_index_key(item) for item in items)


def _index_key(item: str) -> IndexKey:
    clean = _clean(item, "index key")
    statement = f"CREATE INDEX ON t ({clean})"
    tree = _parse(statement, "index key", item, len("CREATE INDEX ON t ("))
    template = grammar.parse("CREATE INDEX ON t (x)")
    keys: Node = getattr(tree[0].stmt, "indexParams", None) or ()
    if len(keys) == 1:
        template[0].stmt.indexParams = keys
    if len(keys) != 1 or tree != template:
        raise SqlError(f"index key: {item.strip()!r} is not one item of an index", hint="give one column per item")
    key = keys[0]
    if key.expr is not None:
        _check(key.expr, "index key")
        _check_row_only(key.expr, "index key")
    text = grammar.deparse(statement).removeprefix("CREATE INDEX ON t USING btree (")
    columns = (key.name,) if key.name else _columns(key.expr)
    bare = grammar.bare_function_names(key)
    return IndexKey(text=text.removesuffix(")"), column=key.name, columns=columns, bare_functions=bare)


def _expression(clean: str, node: Node, default_schema: str) -> Expression:
    found = list(grammar.references(node, default_schema))
    names = grammar.function_names(node)
    return Expression(
        text=_qualify(clean, found),
        tables=tuple(dict.fromkeys(r.table for r in found)),
        columns=_columns(node),
        volatile_hint=any(map(functions.may_be_volatile, names)),
        functions=names,
        bare_functions=grammar.bare_function_names(node),
        names=tuple(
            dict.fromkeys(
                tuple(f.sval if grammar.is_a(f, ast.String) else "*" for f in part.fields)
                for part in grammar.walk(node)
                if grammar.is_a(part, ast.ColumnRef)
            )
        ),
    )


def _clean(text: str, what: str) -> str:
    try:
        clean = grammar.without_comments(text)
    except ParseError as error:
        raise _syntax_error(what, text, error, 0, text) from error
    if not clean:
        raise SqlError(f"{what}: empty", hint=f"write one {what}")
    return clean


def _parse(statement: str, what: str, text: str, offset: int) -> Node:
    try:
        return grammar.parse(statement)
    except ParseError as error:
        raise _syntax_error(what, statement, error, offset, text) from error


def _syntax_error(what: str, statement: str, error: ParseError, offset: int, text: str) -> SqlError:
    at = max(grammar.error_position(statement, error) - offset, 0)
    message = f"{what}: {grammar.reason(error)} (character {at + 1} of {text.strip()[:80]!r})"
    return SqlError(message, hint=f"write exactly one {what}")


def _only_target(tree: Node) -> Node:
    targets: Node = getattr(tree[0].stmt, "targetList", None) or ()
    return targets[0].val if len(tree) == 1 and len(targets) == 1 else None


def _one_value(text: str, what: str) -> tuple[str, Node]:
    """Return the text without comments and its tree.

    The text must mean the same with and without parentheses around it: ``a, b``, ``a) + (b`` and ``a FROM t`` do not.
    """
    clean = _clean(text, what)
    bare = _parse(f"SELECT {clean}", what, text, len("SELECT "))
    enclosed = _parse(f"SELECT ({clean})", what, text, len("SELECT ("))
    value = _only_target(enclosed)
    template = grammar.parse("SELECT x")
    if value is not None:
        template[0].stmt.targetList[0].val = value
    if value is None or enclosed != template or bare != enclosed:
        raise SqlError(f"{what}: {text.strip()[:80]!r} is more than one value", hint=f"write exactly one {what}")
    return clean, value


def _check(node: Node, what: str, *, of_rows: bool = False) -> None:
    """Refuse what does more than compute a value, of one row or, ``of_rows``, of many."""
    for part in grammar.walk(node):
        refused = _refusal(part)
        if refused:
            raise SqlError(f"{what}: {refused} is not allowed", hint="an expression only computes a value over the row")
    for name in grammar.function_names(node):
        if functions.is_refused(name):
            raise SqlError(
                f"{what}: {name}() has side effects or reaches outside the database's rows",
                hint="use only functions that compute a value",
            )
    for part in _outside_subqueries(node):
        if grammar.is_a(part, ast.FuncCall):
            name = grammar.dotted(part.funcname)[-1]
            if of_rows and part.over is None:
                continue
            if part.over is not None or part.agg_star or part.agg_within_group or functions.is_aggregate(name):
                raise SqlError(
                    f"{what}: {name}() needs many rows", hint="put it into a subquery: (SELECT … FROM … WHERE …)"
                )


def _refusal(node: Node) -> str | None:
    if grammar.is_a(node, ast.RangeVar) and node.catalogname is not None:
        return "a table of another database"
    return next((words for kind, words in _REFUSALS.items() if isinstance(node, kind)), None)


def _check_row_only(node: Node, what: str) -> None:
    if any(grammar.is_a(part, ast.SubLink) for part in grammar.walk(node)):
        raise SqlError(f"{what}: a subquery is not allowed here", hint="use columns of the row only")
    for name in grammar.function_names(node):
        if "." not in name and functions.may_be_volatile(name):
            raise SqlError(f"{what}: {name}() changes from call to call", hint="use immutable functions only")


def _outside_aggregates(node: Node) -> Iterator[Node]:
    # Only pg_proc knows which functions of a user's schema are aggregates; the server refuses what is wrong.
    if not (grammar.is_a(node, ast.FuncCall) and _may_be_aggregate(grammar.dotted(node.funcname))):
        yield node
        for child in grammar.children(node):
            yield from _outside_aggregates(child)


def _may_be_aggregate(name: Sequence[str]) -> bool:
    return functions.is_aggregate(name[-1]) or (len(name) > 1 and name[0] != "pg_catalog")


def _outside_subqueries(node: Node) -> Iterator[Node]:
    yield node
    for child in grammar.children(node):
        if not grammar.is_a(child, ast.SelectStmt):
            yield from _outside_subqueries(child)


def _columns(node: Node) -> tuple[str, ...]:
    last = (part.fields[-1] for part in grammar.walk(node) if grammar.is_a(part, ast.ColumnRef))
    return tuple(dict.fromkeys(field.sval for field in last if grammar.is_a(field, ast.String)))


def _qualify(clean: str, found: Sequence[grammar.Reference]) -> str:
    """Return the text with a schema before every table that has none; our sessions have an empty search_path."""
    text = clean
    for reference in sorted(found, key=lambda r: r.location, reverse=True):
        if not reference.qualified:
            at = reference.location - len("SELECT (")
            text = f"{text[:at]}{grammar.identifier(reference.table.schema)}.{text[at:]}"
    return text


def _format_type(type_name: Node, clean: str) -> str:
    names = grammar.dotted(type_name.names)
    base = names[-1] if names[0] == "pg_catalog" else None
    if names[-1] in _SERIAL and len(names) == 1:
        raise SqlError(f"type: {names[-1]} is not a type of a column", hint="use bigint, with an identity")
    brackets = "[]" if type_name.arrayBounds else ""
    if base == "interval" and type_name.typmods:
        spelled = grammar.deparse(f"SELECT NULL::{clean}").removeprefix("SELECT NULL::")
        return f"{spelled.split('[')[0]}{brackets}"
    modifiers = _modifiers(type_name)
    plain = base or (names[0] if len(names) == 1 else None)
    if plain is not None and plain in _ZONED:
        return f"{_ZONED[plain].format(modifiers)}{brackets}"
    if plain == "numeric" and type_name.typmods and len(type_name.typmods) == 1:
        modifiers = f"({type_name.typmods[0].val.ival},0)"
    if plain == "bpchar" and not modifiers:
        return f"bpchar{brackets}"  # any length, unlike character, which is character(1)
    spelled = _FORMAT.get(plain or "", base or ".".join(map(grammar.identifier, names)))
    return f"{spelled}{modifiers}{brackets}"


def _modifiers(type_name: Node) -> str:
    return f"({','.join(map(_modifier, type_name.typmods))})" if type_name.typmods else ""


def _modifier(node: Node) -> str:
    if grammar.is_a(node, ast.A_Const) and grammar.is_a(node.val, ast.Integer):
        return str(node.val.ival)
    if grammar.is_a(node, ast.ColumnRef) and len(node.fields) == 1 and grammar.is_a(node.fields[0], ast.String):
        return grammar.identifier(node.fields[0].sval)
    raise SqlError("type: a modifier must be a number or a name", hint="write a type such as numeric(10,2)")
