"""Who else is concerned by a change: what is made of its relations, who may use them, which statements touch them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import psycopg
from pglast import ast
from pglast.parser import ParseError, scan
from psycopg import sql

from schema_change.core import sqlfiles
from schema_change.core.catalog.model import OWN_PARTS, Catalog, Relation
from schema_change.core.database import Connection
from schema_change.core.names import Table
from schema_change.core.sqltext import grammar
from schema_change.core.sqltext.grammar import Node, is_a
from schema_change.core.wording import counted

#: What an application sends. The rest (DDL, VACUUM, SET …) is the work of people and of changes.
_QUERIES = (
    ast.SelectStmt,
    ast.InsertStmt,
    ast.UpdateStmt,
    ast.DeleteStmt,
    ast.MergeStmt,
    ast.CopyStmt,
    ast.DeclareCursorStmt,
    ast.PrepareStmt,
    ast.RefreshMatViewStmt,
    ast.TruncateStmt,
)
_VIEWS = {"view", "materialized view"}


@dataclass(frozen=True, slots=True)
class StatementUse:
    """A statement that touches a relation of the change, as pg_stat_statements knows it; times in milliseconds.

    ``columns`` are those of the change's columns that it takes, ``*`` when it takes all of them; ``through`` is the
    view by which it gets there, if it names no relation of the change itself.
    """

    text: str
    calls: int
    mean_ms: float
    columns: tuple[str, ...] = ()
    through: Table | None = None


@dataclass(frozen=True, slots=True)
class Statements:
    """What pg_stat_statements says. ``problem`` tells why nothing is known, ``notes`` what is missing from the list."""

    uses: tuple[StatementUse, ...] = ()
    problem: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Impact:
    """What a change concerns beside its own relations.

    ``dependants`` has a line for each thing made of a relation (foreign keys to other tables too), ``functions`` those
    whose text names one: PostgreSQL does not track what is inside most functions. ``roles`` may use the relations.
    """

    dependants: Mapping[Table, tuple[str, ...]]
    functions: tuple[str, ...]
    roles: tuple[str, ...]
    statements: Statements


def find_impact(connection: Connection, catalog: Catalog, columns: Mapping[Table, Collection[str]]) -> Impact:
    """Return the impact of changing these columns of these relations; the database is only read.

    Without columns, the relation as a whole counts.
    """
    relations = [r for t in columns if (r := catalog.get(t)) is not None]
    tracked = {str(use) for r in relations for use in r.uses}
    return Impact(
        dependants={r.table: found for r in relations if (found := tuple(_dependants(r, columns[r.table])))},
        functions=tuple(f for f in _mentioning(catalog, relations) if f not in tracked),
        roles=tuple(sorted({role for r in relations for role in _roles(r)})),
        statements=find_statements(connection, catalog, columns),
    )


def _dependants(relation: Relation, columns: Collection[str]) -> Iterator[str]:
    for use in sorted((u for u in relation.uses if u.kind not in OWN_PARTS), key=str):
        touched = [c for c in use.columns if c in columns]
        made_of = f", made of {', '.join(use.columns)}" if use.columns else ""
        yield f"{use}{made_of}{' (changed here)' if touched else ''}"
    if not relation.uses:
        yield from relation.dependants
    for constraint in relation.constraints:
        if constraint.references is not None:
            yield f"foreign key {constraint.name} to {constraint.references}"


def _roles(relation: Relation) -> Iterator[str]:
    """Yield the roles that have privileges on a relation or on some of its columns."""
    for item in (*relation.grants, *(g for c in relation.columns for g in c.grants)):
        role = item.rpartition("/")[0].rpartition("=")[0]
        yield role.strip('"') or "everybody (PUBLIC)"


def _mentioning(catalog: Catalog, relations: Sequence[Relation]) -> Iterator[str]:
    names = "|".join(re.escape(r.table.name) for r in relations)
    word = re.compile(rf"(?<![\w$])(?:{names})(?![\w$])", re.IGNORECASE)
    for name, text in catalog.objects.items():
        if relations and name.startswith(("function ", "procedure ")) and word.search(text):
            yield name


# -- statements -----------------------------------------------------------------------------------------------------


def find_statements(connection: Connection, catalog: Catalog, columns: Mapping[Table, Collection[str]]) -> Statements:
    """Return the statements that touch these relations, or views made of them, the most time first."""
    reached = _reached(catalog, columns)
    try:
        home = connection.execute(sqlfiles.block("queries/impact", "statements_home")).fetchone()
        if home is None:
            return Statements(problem="pg_stat_statements is not installed in this database")
        names = {"home": sql.Identifier(home[0])}
        rows = connection.execute(
            sqlfiles.block("queries/impact", "statements").format(**names), {"names": [t.name for t in reached]}
        ).fetchall()
        hidden = connection.execute(sqlfiles.block("queries/impact", "hidden_statements").format(**names)).fetchone()
    except psycopg.OperationalError as error:
        if connection.closed:
            raise
        return Statements(problem=_unreadable(error))
    except psycopg.Error as error:
        return Statements(problem=_unreadable(error))
    return _matching(rows, reached, columns, hidden[0] if hidden else 0)


def _unreadable(error: psycopg.Error) -> str:
    return f"pg_stat_statements cannot be read: {error.diag.message_primary or type(error).__name__}"


def _matching(
    rows: Sequence[tuple[str, int, float]],
    reached: Mapping[Table, frozenset[str]],
    direct: Collection[Table],
    hidden: int,
) -> Statements:
    uses: list[StatementUse] = []
    unread = 0
    for text, calls, mean in rows:
        node = parse_normalised(text)
        if node is None:
            unread += 1
        elif is_a(node, *_QUERIES) and (use := _use(node, reached, direct)):
            # COPY and DECLARE CURSOR keep their constants, which may be somebody's data.
            shown = " ".join(_replaced(text, "SCONST", "'…'").split())
            uses.append(StatementUse(shown, int(calls), float(mean), *use))
    notes = []
    if hidden:
        notes.append(f"not shown: {counted(hidden, 'statement')} of other users; grant pg_read_all_stats to see them")
    if unread:
        notes.append(f"not shown: {counted(unread, 'statement')} with the name in it that could not be parsed")
    # What names a changed column comes first; otherwise the order is the query's.
    return Statements(tuple(sorted(uses, key=lambda u: not u.columns)), notes=tuple(notes))


def _reached(catalog: Catalog, columns: Mapping[Table, Collection[str]]) -> dict[Table, frozenset[str]]:
    """Return the relations, and the views made of them or of such views, each with the changed columns in it.

    For a view these are the columns that it is made of, not its own; for a view of a view, those of the first one.
    """
    found = {table: frozenset(names) for table, names in columns.items()}
    waiting = list(found)
    while waiting:
        table = waiting.pop()
        relation = catalog.get(table)
        for use in relation.uses if relation else ():
            if use.kind in _VIEWS and (view := Table.parse(use.name)) not in found:
                known = use.columns if table in columns else ()
                found[view] = found[table].intersection(known) if known else found[table]
                waiting.append(view)
    return found


def parse_normalised(text: str) -> Node | None:
    """Return the tree of a statement whose constants were replaced by ``$1``, or None when it cannot be parsed.

    Where the grammar wants a constant (``interval $1``), the parameters are read as one.
    """
    for constant in (None, "'1'", "1"):
        try:
            parsed = grammar.parse(text if constant is None else _replaced(text, "PARAM", constant))
        except ParseError:
            continue
        return parsed[0].stmt if len(parsed) == 1 else None
    return None


def _replaced(text: str, kind: str, by: str) -> str:
    """Return a text with every token of a kind replaced. Raises ParseError."""
    parts, at = [], 0
    for token in scan(text):
        if token.name == kind:
            parts += [text[at : token.start], by]
            at = token.end + 1
    return "".join([*parts, text[at:]])


def _use(
    node: Node, reached: Mapping[Table, frozenset[str]], direct: Collection[Table]
) -> tuple[tuple[str, ...], Table | None] | None:
    """Return the changed columns a statement takes and the view it goes through; None when it is about others.

    A name without a schema is taken to mean any relation of that name: the search_path of its session is not known.
    """
    touched: dict[Table, set[str]] = {}
    for reference in grammar.references(node, ""):
        for table in reached:
            if table == reference.table or (not reference.qualified and table.name == reference.table.name):
                alias = getattr(reference.node, "alias", None)
                touched.setdefault(table, set()).add(alias.aliasname if alias else table.name)
    if not touched:
        return None
    views = [table for table in touched if table not in direct]
    found = {column for view in views for column in reached[view]}
    wanted = {column for table in touched if table in direct for column in reached[table]}
    aliases = set().union(*(touched[table] for table in touched if table in direct))
    named = {name for before, name in _names(node) if before <= aliases}
    found |= named & (wanted | {"*"}) if wanted else set()
    return tuple(sorted(found, key=lambda c: (c == "*", c))), views[0] if len(views) == len(touched) else None


def _names(node: Node) -> Iterator[tuple[set[str], str]]:
    """Yield the columns a statement names, each with the table or alias before it, if any; ``*`` for all of them."""
    for part in grammar.walk(node):
        if is_a(part, ast.ColumnRef):
            fields = [f.sval if is_a(f, ast.String) else "*" for f in part.fields]
            yield set(fields[-2:-1]), fields[-1]
        elif is_a(part, ast.InsertStmt):
            yield from ((set(), target.name) for target in part.cols or ())
            if not part.cols:
                yield set(), "*"
        elif is_a(part, ast.UpdateStmt, ast.OnConflictClause, ast.MergeWhenClause):
            yield from ((set(), target.name) for target in part.targetList or ())
        elif is_a(part, ast.CopyStmt) and part.relation is not None:
            yield from ((set(), name) for name in grammar.dotted(part.attlist or ()))
            if not part.attlist:
                yield set(), "*"
