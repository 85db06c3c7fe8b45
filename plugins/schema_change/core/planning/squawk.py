"""squawk: what the text of a statement shows, weighed by what the catalog knows of its tables."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from pglast import ast
from pglast.enums import AlterTableType, ConstrType, ObjectType

from schema_change.core.catalog.model import Catalog
from schema_change.core.errors import ConfigurationError
from schema_change.core.model import Phase
from schema_change.core.names import Table
from schema_change.core.planning.rules import Found, Level, Scene
from schema_change.core.planning.rules.base import added_columns, commands, new_columns
from schema_change.core.sqltext import functions, grammar
from schema_change.core.sqltext.grammar import Node, is_a
from schema_change.core.sqltext.statements import Statement

# The executor sets time-outs, owns transactions and probes what was done; the others are rules of ours, which know
# the catalog. squawk's syntax errors are about statements newer than its grammar: ours is PostgreSQL's own.
_NOT_OURS = (
    "require-timeout-settings",
    "require-lock-timeout",
    "require-statement-timeout",
    "prefer-robust-stmts",
    "transaction-nesting",
    "ban-uncommitted-transaction",
    "adding-not-nullable-field",
    "ban-drop-not-null",
    "changing-column-type",
    "prefer-repack",
)
_SYNTAX = "syntax-error"


class Kind(StrEnum):
    """What a rule of squawk is about; decides how bad a finding is."""

    LOCK = "lock"
    """A long lock: an error where there are rows, nothing where there are none."""
    SHAPE = "shape"
    """Applications may use it: an error where there are rows, a warning elsewhere and in the phases made for it."""
    WRONG = "wrong"
    """Wrong whatever the table is: an error."""
    STYLE = "style"
    """Better done another way: a warning."""


class Way(NamedTuple):
    """What a rule of squawk is about, and the safe way in our words."""

    kind: Kind
    remedy: str
    typed: bool = False
    """It is about what the author of a typed operation chose, such as a type."""
    message: str = ""
    """What happens and why it hurts, where squawk's words do not say it."""


_ONE_BY_NAME = "let every user of it go first; drop it in a later change"
RULES: dict[str, Way] = {
    "require-concurrent-index-creation": Way(Kind.LOCK, "use the operation create_index: CREATE INDEX CONCURRENTLY"),
    "require-concurrent-index-deletion": Way(Kind.LOCK, "use the operation drop_index: DROP INDEX CONCURRENTLY"),
    "require-concurrent-reindex": Way(Kind.LOCK, "REINDEX … CONCURRENTLY"),
    "require-concurrent-partition-detach": Way(Kind.LOCK, "ALTER TABLE … DETACH PARTITION … CONCURRENTLY"),
    "ban-concurrent-index-creation-in-transaction": Way(Kind.WRONG, "leave BEGIN and COMMIT out around it"),
    "constraint-missing-not-valid": Way(
        Kind.LOCK, "use the operation add_check: ADD CONSTRAINT … NOT VALID, COMMIT, then VALIDATE CONSTRAINT"
    ),
    "adding-foreign-key-constraint": Way(
        Kind.LOCK, "use the operation add_foreign_key: ADD CONSTRAINT … NOT VALID, COMMIT, then VALIDATE CONSTRAINT"
    ),
    "disallowed-unique-constraint": Way(
        Kind.LOCK,
        "use the operation add_unique: CREATE UNIQUE INDEX CONCURRENTLY, then ADD CONSTRAINT … UNIQUE USING INDEX; it "
        "counts existing duplicates first",
    ),
    "adding-serial-primary-key-field": Way(
        Kind.LOCK,
        "use the operation add_primary_key: CREATE UNIQUE INDEX CONCURRENTLY, then ADD CONSTRAINT … PRIMARY KEY USING "
        "INDEX",
    ),
    "adding-field-with-default": Way(
        Kind.LOCK,
        "use the operation add_column: plain column, SET DEFAULT for new rows, backfill for the others",
        message="a volatile default or a stored generated column writes every row of the table anew, while nobody can "
        "read or write it",
    ),
    "adding-required-field": Way(
        Kind.LOCK,
        "use the operation add_column with a constant default or a fill; or add the column nullable, fill it, then use "
        "the operation set_not_null",
        message="a new NOT NULL column without a default fails on rows that exist, and makes every INSERT fail that "
        "does not know it",
    ),
    "ban-drop-column": Way(
        Kind.SHAPE,
        "stop using it, deploy, then use the operation drop_column: it keeps the values, and drops in contract",
        message="applications that still read or write the column fail, and its values are gone",
    ),
    "ban-drop-table": Way(
        Kind.SHAPE,
        "stop using it, then use the operation drop_table: it keeps the table, out of sight, for a while",
        message="applications that still read or write the table fail, and its rows are gone",
    ),
    "ban-drop-view": Way(Kind.SHAPE, "stop using it, then use the operation drop_view"),
    "ban-drop-function": Way(Kind.SHAPE, _ONE_BY_NAME),
    "ban-drop-type": Way(Kind.SHAPE, _ONE_BY_NAME),
    "ban-drop-domain": Way(Kind.SHAPE, _ONE_BY_NAME),
    "ban-drop-sequence": Way(Kind.SHAPE, _ONE_BY_NAME),
    "ban-drop-schema": Way(Kind.SHAPE, "empty the schema first, object by object"),
    "ban-drop-extension": Way(Kind.SHAPE, "change what uses its functions and types first"),
    "ban-drop-constraint": Way(
        Kind.STYLE, "make sure that nobody relies on it; the operation drop_constraint can add it again on rollback"
    ),
    "ban-drop-default": Way(Kind.STYLE, "let every INSERT give the value first, then use the operation drop_default"),
    "ban-drop-generated-expression": Way(Kind.SHAPE, "let applications write the column first"),
    "ban-alter-identity": Way(Kind.SHAPE, "look at every INSERT that leaves the column out, or gives it a value"),
    "ban-set-schema": Way(Kind.SHAPE, "use the operation rename_table, which leaves a view under the old name"),
    "ban-truncate-cascade": Way(Kind.WRONG, "name every table that is to be emptied"),
    "renaming-column": Way(
        Kind.SHAPE,
        "use the operation rename_column: both names work until contract, and are kept in step",
        message="every statement of an application that names the column as before fails",
    ),
    "renaming-table": Way(
        Kind.SHAPE,
        "use the operation rename_table: a view under the old name works until contract",
        message="every statement of an application that names the table as before fails",
    ),
    "renaming-object": Way(Kind.SHAPE, "create it under the new name, let users move, drop the old one later"),
    "ban-create-domain-with-constraint": Way(
        Kind.STYLE,
        "put the CHECK on the tables (operation add_check); a domain's cannot be changed without reading them all",
    ),
    "ban-alter-domain-with-add-constraint": Way(Kind.STYLE, "put a CHECK on each table (operation add_check)"),
    "ban-duplicate-column-assignments": Way(Kind.WRONG, "assign each column once; PostgreSQL refuses the statement"),
    "identifier-too-long": Way(
        Kind.WRONG, "choose a name of at most 63 bytes; PostgreSQL cuts longer ones", typed=True
    ),
    "require-enum-value-ordering": Way(Kind.STYLE, "say BEFORE or AFTER which value it sorts", typed=True),
    "prefer-bigint-over-int": Way(Kind.STYLE, "type: bigint, where values may pass 2,147,483,647", typed=True),
    "prefer-bigint-over-smallint": Way(Kind.STYLE, "type: bigint or integer, where values may pass 32,767", typed=True),
    "prefer-identity": Way(Kind.STYLE, "bigint GENERATED ALWAYS AS IDENTITY", typed=True),
    "ban-char-field": Way(Kind.STYLE, "type: text; char(n) pads with blanks and saves nothing", typed=True),
    "prefer-text-field": Way(
        Kind.STYLE,
        "type: text, with a CHECK on its length (operation add_check) that can be changed online",
        typed=True,
    ),
    "prefer-timestamp-tz": Way(Kind.STYLE, "type: timestamptz, which is a point in time for every session", typed=True),
}

_UNKNOWN = Table("", "")
_ABOUT_COLUMNS = {
    "prefer-bigint-over-int",
    "prefer-bigint-over-smallint",
    "ban-char-field",
    "prefer-text-field",
    "prefer-timestamp-tz",
}


@dataclass(frozen=True, slots=True)
class Report:
    """A finding of squawk: its rule, its words, and the number of the statement in its step."""

    rule: str
    message: str
    help: str
    statement: int


def run(steps: Mapping[int, tuple[bool, Sequence[Statement]]], catalog: Catalog) -> dict[int, list[Report]]:
    """Run squawk once on the statements of all steps, each with whether it is a transaction; return reports by step."""
    if not steps:
        return {}
    scripts = tuple(
        (number, "\n".join(_lines(statements, catalog, transactional=transactional)))
        for number, (transactional, statements) in steps.items()
    )
    reports: list[dict[str, Any]] = json.loads(_said(scripts, catalog.server_version // 10000))
    by_step: dict[int, list[Report]] = {}
    for report in reports:
        number = int(Path(report["file"]).stem)
        at = _at_line(steps[number][1], int(report["line"]))
        if at is not None and report["rule_name"] != _SYNTAX:
            by_step.setdefault(number, []).append(
                Report(report["rule_name"], report["message"], report["help"] or "", at)
            )
    return by_step


@lru_cache(maxsize=16)
def _said(scripts: tuple[tuple[int, str], ...], major: int) -> str:
    """Return what squawk says of the scripts, as JSON; kept, because a plan is made again right before it runs."""
    with tempfile.TemporaryDirectory(prefix="schema_change_lint_") as folder:
        for number, script in scripts:
            (Path(folder) / f"{number}.sql").write_text(script, encoding="utf-8")
        command = [
            *(_binary(), "--reporter", "json", "--pg-version", f"{major}.0"),
            *("--exclude", ",".join(_NOT_OURS)),
            *(f"{number}.sql" for number, _ in scripts),
        ]
        # In a folder of its own it reads nobody's .squawk.toml.
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)
    try:
        json.loads(result.stdout)
    except json.JSONDecodeError as error:
        raise ConfigurationError(
            f"squawk failed: {result.stderr.strip()[:500]}", hint="reinstall the package squawk-cli"
        ) from error
    return result.stdout


def found(report: Report, statement: Statement, scene: Scene) -> Iterator[Found]:
    """Yield what a report means for this statement on these tables: an error, a warning or nothing."""
    way = RULES.get(report.rule, Way(Kind.STYLE, report.help or f"see squawk's page on {report.rule}"))
    exempt = _EXEMPT.get(report.rule)
    if (scene.typed and not way.typed) or (exempt is not None and exempt(statement, scene)):
        return
    if level := _level(way.kind, statement, scene):
        yield Found(way.message or report.message, way.remedy, level)


def _level(kind: Kind, statement: Statement, scene: Scene) -> Level | None:
    if kind in {Kind.WRONG, Kind.STYLE}:
        return "error" if kind is Kind.WRONG else "warning"
    tables = _tables(statement, scene)
    if kind is Kind.LOCK:
        # Without a table it is about a whole schema or database.
        return scene.level(*(tables or scene.catalog.relations or (_UNKNOWN,)))
    if tables and all(t in scene.past.created for t in tables):
        return None
    meant = scene.step.phase in {Phase.CUTOVER, Phase.CONTRACT}
    return "error" if not meant and any(map(scene.busy, tables)) else "warning"


def _tables(statement: Statement, scene: Scene) -> tuple[Table, ...]:
    """Return the tables a statement locks, an index counting as its table; those it only refers to are left out."""
    if statement.indexes:
        owners = (scene.of_index(index) for index in statement.indexes)
        return tuple(owner.table if owner else index for owner, index in zip(owners, statement.indexes, strict=True))
    altered = is_a(statement.node, ast.AlterTableStmt)
    return statement.tables[:1] if altered else statement.tables


def _adds_nothing_slow(statement: Statement, scene: Scene) -> bool:
    """Tell whether all columns an ALTER TABLE adds are there at once: virtual ones, and those with a stable default."""
    for _, constraints in added_columns(statement):
        for constraint in constraints:
            virtual = constraint.contype == ConstrType.CONSTR_GENERATED and constraint.generated_kind == "v"
            stable = constraint.contype == ConstrType.CONSTR_DEFAULT and _is_stable(constraint.raw_expr, scene.catalog)
            if constraint.contype in _VALUES and not (virtual or stable):
                return False
    return True


_VALUES = {ConstrType.CONSTR_DEFAULT, ConstrType.CONSTR_GENERATED, ConstrType.CONSTR_IDENTITY}


def _is_stable(expression: Node, catalog: Catalog) -> bool:
    """Tell whether an expression calls functions of PostgreSQL only, and none that is volatile."""
    names = grammar.function_names(expression)
    users = (f"function public.{grammar.identifier(name)}(" for name in names)
    known = bool(catalog.relations) and not any(o.startswith(user) for user in users for o in catalog.objects)
    return not names or (known and not any(functions.may_be_volatile(n) or functions.is_refused(n) for n in names))


def _no_check(statement: Statement, scene: Scene) -> bool:
    """Tell whether an ALTER TABLE adds no valid CHECK; for other constraints there are rules that say more."""
    added = (c.def_ for c in commands(statement, AlterTableType.AT_AddConstraint))
    return not any(c.contype == ConstrType.CONSTR_CHECK and not c.skip_validation for c in added)


def _only_parent(statement: Statement, scene: Scene) -> bool:
    return is_a(statement.node, ast.IndexStmt) and not statement.node.relation.inh


def _inner_name(statement: Statement, scene: Scene) -> bool:
    node = statement.node
    return is_a(node, ast.RenameStmt) and node.renameType in {ObjectType.OBJECT_INDEX, ObjectType.OBJECT_TABCONSTRAINT}


def _no_new_column(statement: Statement, scene: Scene) -> bool:
    return not any(new_columns(statement))


def _own_constraint(statement: Statement, scene: Scene) -> bool:
    """Tell whether all constraints an ALTER TABLE drops were added by this plan, as a proof for what follows."""
    dropped = [c.name for c in commands(statement, AlterTableType.AT_DropConstraint)]
    return all((statement.tables[0], name) in scene.past.added for name in dropped)


#: Where a rule of squawk is wrong, or about what exists already.
_EXEMPT: dict[str, Callable[[Statement, Scene], bool]] = {
    "adding-field-with-default": _adds_nothing_slow,
    "require-concurrent-index-creation": _only_parent,
    "constraint-missing-not-valid": _no_check,
    "ban-drop-constraint": _own_constraint,
    "renaming-object": _inner_name,
    **dict.fromkeys(_ABOUT_COLUMNS, _no_new_column),
}


def _lines(statements: Sequence[Statement], catalog: Catalog, *, transactional: bool) -> Iterator[str]:
    """Yield a step as squawk reads it: the first statement is in the second line."""
    yield "BEGIN;" if transactional else "SELECT 1;"
    for statement in statements:
        text = _text(statement)
        # squawk takes the table for a new one, and lets everything pass that follows on it.
        stays = getattr(statement.node, "if_not_exists", False) and any(map(catalog.get, statement.creates))
        yield ("\n" * text.count("\n") + "SELECT 1" if stays else text) + "\n;"
    if transactional:
        yield "COMMIT;"


def _text(statement: Statement) -> str:
    # Its comments could tell squawk to ignore what it finds; a waiver in the change file has a reason.
    return statement.text.replace("squawk-ignore", "squawk_ignore").rstrip().rstrip(";")


def _at_line(statements: Sequence[Statement], line: int) -> int | None:
    """Return the number of the statement at a line, counted from 0."""
    at = 1
    for number, statement in enumerate(statements):
        at += _text(statement).count("\n") + 2
        if line < at:
            return number
    return None


@cache
def _binary() -> str:
    beside = Path(sys.executable).parent / "squawk"
    program = str(beside) if beside.exists() else shutil.which("squawk")
    if program is None:
        raise ConfigurationError("squawk is not installed", hint="pip install squawk-cli")
    return program
