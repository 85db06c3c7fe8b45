"""Rules about constraints that are checked against every row while the table is locked."""

from __future__ import annotations

from collections.abc import Iterator

from pglast import ast
from pglast.enums import AlterTableType as At
from pglast.enums import ConstrType

from schema_change.core.model import LockMode
from schema_change.core.names import Table
from schema_change.core.planning.rules.base import Found, Rule, Scene, added_columns, commands, rows_of
from schema_change.core.sqltext import grammar
from schema_change.core.sqltext.grammar import is_a
from schema_change.core.sqltext.statements import Statement


def validate_in_same_transaction(statement: Statement, scene: Scene) -> Iterator[Found]:
    """Find VALIDATE behind a lock that this transaction took before: the application waits until it has read all."""
    validates = list(commands(statement, At.AT_ValidateConstraint))
    table = statement.tables[0] if validates else None
    if table is None or not scene.step.transactional or (level := scene.level(table)) is None:
        return
    # In one ALTER TABLE the strongest of its commands' locks is taken, too.
    if any(s.known and s.lock_on(table) >= LockMode.SHARE for s in scene.statements):
        yield Found(
            f"VALIDATE CONSTRAINT {validates[0].name} reads all of {rows_of(scene.busy(table), table)} in a "
            "transaction that already keeps the application out of it",
            "put COMMIT in front of VALIDATE (BEGIN … COMMIT blocks are kept apart); alone it blocks nothing",
            level,
        )


def add_exclude(statement: Statement, scene: Scene) -> Iterator[Found]:
    """Find exclusion constraints: there is no way to build one while the table is in use."""
    for command in commands(statement, At.AT_AddConstraint):
        table = statement.tables[0]
        if command.def_.contype == ConstrType.CONSTR_EXCLUSION and (level := scene.level(table)):
            yield Found(
                f"an exclusion constraint builds its index on {rows_of(scene.busy(table), table)} while nobody can "
                "read or write it; PostgreSQL knows neither NOT VALID nor USING INDEX for it",
                "create a new table with the constraint and move to it (operation table_version), or a maintenance "
                "window and a waiver",
                level,
            )


def add_column_check(statement: Statement, scene: Scene) -> Iterator[Found]:
    """Find new columns that come with a CHECK: every row is read to check it."""
    for column, constraints in added_columns(statement):
        table = statement.tables[0]
        checks = [c for c in constraints if c.contype == ConstrType.CONSTR_CHECK]
        if checks and (level := scene.level(table)):
            yield Found(
                f"the CHECK of new column {column.colname} reads all of {rows_of(scene.busy(table), table)} while "
                "nobody can read or write it",
                "two operations: add_column, then add_check (NOT VALID, then VALIDATE)",
                level,
            )


def domain_constraint(statement: Statement, scene: Scene) -> Iterator[Found]:
    """Find constraints on domains: every table with a column of that type is read under a lock."""
    node = statement.node
    # C adds a constraint, O forbids NULL, V validates.
    if not is_a(node, ast.AlterDomainStmt) or node.subtype not in {"C", "O", "V"}:
        return
    if node.subtype == "C" and node.def_.skip_validation:
        return
    names = grammar.dotted(node.typeName)
    users = _columns_of_type(names, scene)
    busy = [t for t in users if scene.busy(t)]
    unknown = not scene.catalog.relations
    if busy or unknown:
        where = ", ".join(map(str, busy)) or "every table with a column of that type"
        yield Found(
            f"a constraint of domain {'.'.join(names)} reads all of {where} under a lock that blocks writes",
            "put a CHECK on each table instead (operation add_check: NOT VALID, then VALIDATE)",
            "error" if busy else "warning",
        )


def constrained_domain(statement: Statement, scene: Scene) -> Iterator[Found]:
    """Find new columns of a domain with constraints: PostgreSQL checks them by writing every row anew."""
    for column, _ in added_columns(statement):
        table = statement.tables[0]
        domain = f"domain {_qualified(grammar.dotted(column.typeName.names))}"
        definition = scene.catalog.objects.get(domain, "").partition("\n")[0]
        if (" CHECK (" in definition or " NOT NULL" in definition) and (level := scene.level(table)):
            yield Found(
                f"column {column.colname} is of a {domain} that has constraints: all of "
                f"{rows_of(scene.busy(table), table)} is rewritten while nobody can read or write it",
                "use the domain's own type, and the operation add_check (NOT VALID, then VALIDATE)",
                # A typed operation may write a small table anew.
                "warning" if scene.typed and not scene.is_large(table) else level,
            )


def _qualified(names: tuple[str, ...]) -> str:
    """Return a type's name as the catalog spells it; without a schema it is looked for in public."""
    schema = names[-2] if len(names) > 1 else "public"
    return f"{grammar.identifier(schema)}.{grammar.identifier(names[-1])}"


def _columns_of_type(names: tuple[str, ...], scene: Scene) -> list[Table]:
    """Return the tables with a column of a domain, or of an array of it."""
    return [
        r.table
        for r in scene.catalog.relations.values()
        if r.kind in {"r", "p"} and any(c.type.removesuffix("[]") == _qualified(names) for c in r.columns)
    ]


RULES = {
    "validate-in-same-transaction": Rule(validate_in_same_transaction),
    "add-exclude": Rule(add_exclude),
    "add-column-check": Rule(add_column_check),
    "constrained-domain": Rule(constrained_domain, typed=True),
    "domain-constraint": Rule(domain_constraint, instead_of=("ban-alter-domain-with-add-constraint",)),
}
