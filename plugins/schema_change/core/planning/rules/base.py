"""What a rule is, and what it is told: the statement, its transaction, the plan before it, the catalog."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from pglast import ast
from pglast.enums import A_Expr_Kind, BoolExprType, ConstrType, DropBehavior, NullTestType, ObjectType
from pglast.enums import AlterTableType as At
from pglast.parser import ParseError
from pglast.stream import RawStream

from schema_change.core.catalog.model import OWN_PARTS, Catalog, Constraint, Index, Relation
from schema_change.core.model import Step
from schema_change.core.names import Table
from schema_change.core.recipes import sizes
from schema_change.core.sqltext import grammar, locks
from schema_change.core.sqltext.grammar import Node, is_a
from schema_change.core.sqltext.statements import Statement
from schema_change.core.wording import counted

Level = Literal["error", "warning"]

# An empty table and its indexes have a few pages.
_EMPTY_BYTES = 1_000_000


class Found(NamedTuple):
    """What a rule found: what happens and why it hurts, and the safe way."""

    message: str
    remedy: str
    level: Level = "error"
    whole: bool = False
    """It is about all of the plan, so it is said once."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule: ``find`` looks at one statement.

    Steps of typed operations are looked at only by rules with ``typed``: about what the author of the change chose,
    not about how the operation does it. ``instead_of`` are squawk's rules that say the same of the same statement.
    """

    find: Callable[[Statement, Scene], Iterator[Found]]
    typed: bool = False
    instead_of: tuple[str, ...] = ()


@dataclass
class Past:
    """What the statements of the plan before this one made, dropped and proved.

    ``gone`` holds what was dropped, as ``kind name`` (see Relation.dependants); ``not_null`` the columns that cannot
    hold NULL any more; ``indexes`` the key columns of indexes that were built; ``added`` constraints; ``validated`` the
    names of those that are valid by now.
    """

    created: set[Table] = field(default_factory=set)
    gone: set[str] = field(default_factory=set)
    not_null: set[tuple[Table, str]] = field(default_factory=set)
    indexes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    added: dict[tuple[Table, str], Node] = field(default_factory=dict)
    validated: set[tuple[Table, str]] = field(default_factory=set)

    def dropped(self, table: Table, constraint: str) -> bool:
        """Tell whether a constraint was dropped."""
        return foreign_key(table, constraint) in self.gone

    def note(self, statement: Statement, catalog: Catalog) -> None:
        """Remember what a statement does, for those that follow."""
        node = statement.node
        # IF NOT EXISTS may leave an existing table as it is.
        self.created |= {table for table in statement.creates if catalog.get(table) is None}
        if is_a(node, ast.IndexStmt) and node.idxname:
            self.indexes[node.idxname] = tuple(p.name for p in node.indexParams if p.name)
        if is_a(node, ast.DropStmt):
            self.gone |= set(_dropped(statement))
        for command in commands(statement):
            self._note_command(statement.tables[0], command, catalog)

    def _note_command(self, table: Table, command: Node, catalog: Catalog) -> None:
        if command.subtype == At.AT_DropConstraint:
            self.gone.add(foreign_key(table, command.name))
        elif command.subtype == At.AT_SetNotNull:
            self.not_null.add((table, command.name))
        elif command.subtype == At.AT_AddConstraint and command.def_.conname:
            self.added[table, command.def_.conname] = command.def_
            if not command.def_.skip_validation:
                self._note_valid(table, command.def_.conname, catalog)
        elif command.subtype == At.AT_ValidateConstraint:
            self._note_valid(table, command.name, catalog)

    def _note_valid(self, table: Table, name: str, catalog: Catalog) -> None:
        self.validated.add((table, name))
        relation = catalog.get(table)
        known = next((c for c in relation.constraints if c.name == name), None) if relation else None
        added = self.added.get((table, name))
        proven = _proven_not_null(added) if added else _proven_by(known) if known else ()
        self.not_null |= {(table, column) for column in proven}


@dataclass(frozen=True, slots=True)
class Scene:
    """Where a statement stands: its step, the statements of that step, and the plan before it.

    ``typed`` tells that a typed operation made the step; else it is raw SQL.
    """

    catalog: Catalog
    step: Step
    past: Past
    statements: tuple[Statement, ...] = ()
    typed: bool = False

    def busy(self, table: Table) -> Relation | None:
        """Return a table that exists already and holds rows; statistics may not know them yet, its size does."""
        relation = self.catalog.get(table)
        if relation is None:
            return None
        filled = relation.rows > 0 or relation.bytes > _EMPTY_BYTES
        return relation if filled or any(map(self.busy, self.partitions(table))) else None

    def is_large(self, table: Table) -> bool:
        """Tell whether a table is too large to be written anew while nobody can use it."""
        relation = self.catalog.get(table)
        return relation is not None and not sizes.is_small(self.catalog, relation)

    def partitions(self, table: Table) -> tuple[Table, ...]:
        """Return the partitions of a table, one level down."""
        relation = self.catalog.get(table)
        if relation is None or relation.kind != "p":
            return ()
        return tuple(r.table for r in self.catalog.around(table) if r.partition_of == table)

    def level(self, *tables: Table) -> Level | None:
        """Return how bad a long lock on the tables is: an error where there are rows, a warning where nobody knows.

        None is for tables that are empty, or made by this plan.
        """
        if any(map(self.busy, tables)):
            return "error"
        unknown = any(self.catalog.get(t) is None and t not in self.past.created for t in tables)
        return "warning" if unknown else None

    def of_index(self, index: Table) -> Relation | None:
        """Return the table of an index."""
        return self.catalog.owner_of(index)

    def key_of(self, table: Table, index: str) -> tuple[str, ...]:
        """Return the key columns of an index that exists or that the plan has built."""
        relation = self.catalog.get(table)
        found: Index | None = relation.index(index) if relation else None
        return found.columns if found else self.past.indexes.get(index, ())

    def never_null(self, table: Table, column: str) -> bool:
        """Tell whether a column cannot hold NULL: by its type, or proven by a validated constraint."""
        if (table, column) in self.past.not_null:
            return True
        relation = self.catalog.get(table)
        if relation is None:
            return False
        known = relation.column(column)
        proofs = (c for c in relation.constraints if c.validated and column in c.columns)
        return bool(known and not known.nullable) or any(column in _proven_by(c) for c in proofs)

    def checks(self, table: Table) -> Iterator[tuple[frozenset[str], str]]:
        """Yield the columns and the text of each valid CHECK of a table, those of the plan too."""
        relation = self.catalog.get(table)
        for known in relation.constraints if relation else ():
            if known.type == "c" and (known.validated or (table, known.name) in self.past.validated):
                yield frozenset(known.columns), known.definition
        for (owner, name), node in self.past.added.items():
            if owner == table and (owner, name) in self.past.validated and node.contype == ConstrType.CONSTR_CHECK:
                refs = (n for n in grammar.walk(node.raw_expr) if is_a(n, ast.ColumnRef))
                yield frozenset(grammar.dotted(r.fields)[-1] for r in refs), str(RawStream()(node.raw_expr))

    def users(self, table: Table, column: str | None = None) -> list[str]:
        """Return what is made of a table or one of its columns and has not been dropped by the plan.

        A publication counts where it names the column: nothing keeps a published table from being dropped.
        """
        relation = self.catalog.get(table)
        if relation is None:
            return []
        if not relation.uses:
            names = [d for d in relation.dependants if not d.startswith("publication ")]
        elif column is None:
            names = [str(u) for u in relation.uses if u.kind not in {*OWN_PARTS, "publication"}]
        else:
            names = [str(u) for u in relation.users_of(column) if u.kind != "publication" or u.columns]
        return [n for n in dict.fromkeys(names) if n not in self.past.gone]


def foreign_key(table: Table, name: str) -> str:
    """Return a foreign key as dependants name it."""
    return f"foreign key {grammar.identifier(name)} of {_shown(table)}"


def commands(statement: Statement, *kinds: At) -> Iterator[Node]:
    """Yield the commands of an ALTER TABLE, all or those of some kinds."""
    if is_a(statement.node, ast.AlterTableStmt):
        yield from (c for c in statement.node.cmds if not kinds or c.subtype in kinds)


def added_columns(statement: Statement) -> Iterator[tuple[Node, list[Node]]]:
    """Yield each column that an ALTER TABLE adds, with the constraints written behind it."""
    for command in commands(statement, At.AT_AddColumn):
        yield command.def_, list(command.def_.constraints or ())


def new_columns(statement: Statement) -> Iterator[Node]:
    """Yield the definitions of the columns that a statement makes, in a new table or an existing one."""
    yield from (column for column, _ in added_columns(statement))
    if is_a(statement.node, ast.CreateStmt):
        yield from (e for e in statement.node.tableElts or () if is_a(e, ast.ColumnDef))


def type_name(column: Node) -> str:
    """Return the bare name of a column's type, such as ``int4`` or ``varchar``."""
    return str(column.typeName.names[-1].sval)


def cascades(node: Node) -> bool:
    """Tell whether a statement or a command says CASCADE."""
    return getattr(node, "behavior", None) == DropBehavior.DROP_CASCADE


def rows_of(relation: Relation | None, table: Table) -> str:
    """Return a table with its rows, as far as they are known."""
    return f"{table} (about {counted(relation.rows, 'row')})" if relation and relation.rows > 0 else str(table)


def _proven_not_null(constraint: Node) -> tuple[str, ...]:
    """Return the columns that a constraint, once it is valid, forbids NULL in."""
    if constraint.contype == ConstrType.CONSTR_NOTNULL:
        return grammar.dotted(constraint.keys)
    return tuple(_not_null_tests(constraint.raw_expr)) if constraint.contype == ConstrType.CONSTR_CHECK else ()


def _proven_by(constraint: Constraint) -> tuple[str, ...]:
    """Return the columns that a constraint of the catalog forbids NULL in."""
    if constraint.type not in {"c", "n"}:
        return ()
    try:
        return _proven_not_null(grammar.parse(f"ALTER TABLE t ADD {constraint.definition}")[0].stmt.cmds[0].def_)
    except ParseError:  # newer than our grammar
        return ()


def _not_null_tests(node: Node) -> Iterator[str]:
    if is_a(node, ast.BoolExpr) and node.boolop == BoolExprType.AND_EXPR:
        for part in node.args:
            yield from _not_null_tests(part)
    elif is_a(node, ast.NullTest) and node.nulltesttype == NullTestType.IS_NOT_NULL and is_a(node.arg, ast.ColumnRef):
        yield grammar.dotted(node.arg.fields)[-1]
    elif _is_distinct_from_null(node):
        yield grammar.dotted(node.lexpr.fields)[-1]


def _is_distinct_from_null(node: Node) -> bool:
    """Tell whether it is the same test of a column, as it is written for composite types too."""
    if not is_a(node, ast.A_Expr) or node.kind != A_Expr_Kind.AEXPR_DISTINCT:
        return False
    return is_a(node.lexpr, ast.ColumnRef) and is_a(node.rexpr, ast.A_Const) and bool(node.rexpr.isnull)


_KINDS = {
    ObjectType.OBJECT_VIEW: "view",
    ObjectType.OBJECT_MATVIEW: "materialized view",
    ObjectType.OBJECT_POLICY: "policy",
    ObjectType.OBJECT_RULE: "rule",
    ObjectType.OBJECT_PUBLICATION: "publication",
}


def _dropped(statement: Statement) -> Iterator[str]:
    """Yield what a DROP removes as the catalog names dependants."""
    node = statement.node
    kind = _KINDS.get(node.removeType)
    for item in node.objects:
        if node.removeType == ObjectType.OBJECT_PUBLICATION:
            yield f"{kind} {grammar.identifier(item.sval)}"
        elif node.removeType in {ObjectType.OBJECT_POLICY, ObjectType.OBJECT_RULE}:
            part, schema = grammar.identifier(item[-1].sval), statement.tables[0].schema
            yield f"{kind} {part} on {_shown(locks.named(item[:-1], schema))}"
        elif kind:
            yield from (f"{kind} {_shown(table)}" for table in statement.tables)


def _shown(table: Table) -> str:
    """Return a table's name as PostgreSQL shows it under an empty search_path."""
    return f"{grammar.identifier(table.schema)}.{grammar.identifier(table.name)}"
