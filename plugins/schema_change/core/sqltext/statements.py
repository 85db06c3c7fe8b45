"""Scripts taken apart into statements, each with what PostgreSQL will do for it: locks, reads, transaction rules.

The executor owns transactions and time-outs. ``BEGIN … COMMIT`` of a script are therefore boundaries only, ``SET``
becomes a property of the statements behind it, and what would take the session out of our hands is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache

from pglast import ast
from pglast.enums import ObjectType, ReindexObjectType, TransactionStmtKind, VariableSetKind
from pglast.parser import ParseError
from pglast.stream import RawStream

from schema_change.core.model import LockMode
from schema_change.core.names import Table
from schema_change.core.sqltext import grammar, locks
from schema_change.core.sqltext.grammar import Node, SqlError, is_a


@dataclass(frozen=True, slots=True)
class Setting:
    """A parameter set by the script, for one transaction (``local``) or for the session.

    ``schema`` is the first one of a search_path.
    """

    name: str
    local: str
    session: str
    schema: str = ""


#: Names without a schema mean public, as in a new database; the sessions of ours have an empty search_path.
PUBLIC = Setting("search_path", "SET LOCAL search_path TO public", "SET search_path TO public", "public")
_TIMEOUTS = {"lock_timeout", "statement_timeout", "transaction_timeout", "idle_in_transaction_session_timeout"}


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement and what it does.

    ``kind`` is its command, such as ``CREATE INDEX``; ``line`` is counted in the script. ``locks`` holds the strongest
    lock per relation (NONE for one it creates). ``indexes`` names indexes it drops or rebuilds: only the catalog knows
    their table. ``known`` is False for what the text does not tell (DO, CALL, a user's function).
    ``ends_transaction`` says that what follows must be in another transaction; ``settings`` are the parameters set
    before it.
    """

    text: str
    kind: str
    line: int = 1
    locks: Mapping[Table, LockMode] = field(default_factory=dict)
    indexes: tuple[Table, ...] = ()
    transactional: bool = True
    ends_transaction: bool = False
    known: bool = True
    settings: tuple[Setting, ...] = (PUBLIC,)
    node: Node = field(default=None, compare=False, repr=False)

    @property
    def lock(self) -> LockMode:
        """Return the strongest lock; ACCESS EXCLUSIVE when the text does not tell."""
        return max(self.locks.values(), default=LockMode.NONE) if self.known else LockMode.ACCESS_EXCLUSIVE

    def lock_on(self, table: Table) -> LockMode:
        """Return the lock on one relation."""
        return self.locks.get(table, LockMode.NONE) if self.known else LockMode.ACCESS_EXCLUSIVE

    @property
    def tables(self) -> tuple[Table, ...]:
        """Return the relations it creates, changes or locks beyond reading."""
        return tuple(t for t, mode in self.locks.items() if mode is not LockMode.ACCESS_SHARE)

    @property
    def creates(self) -> tuple[Table, ...]:
        """Return the relations it creates."""
        return tuple(t for t, mode in self.locks.items() if mode is LockMode.NONE)

    @property
    def reads(self) -> tuple[Table, ...]:
        """Return the relations it only reads."""
        return tuple(t for t, mode in self.locks.items() if mode is LockMode.ACCESS_SHARE)

    @property
    def writes(self) -> tuple[Table, ...]:
        """Return the relations whose rows it writes or removes."""
        whole = self.kind == "TRUNCATE"
        return tuple(t for t, mode in self.locks.items() if whole or mode is LockMode.ROW_EXCLUSIVE)

    @property
    def rewrites_data(self) -> bool:
        """Tell whether it writes rows, or may."""
        return bool(self.writes) or not self.known


@dataclass
class _State:
    """Where a script is: inside its own BEGIN or not, and the settings in effect."""

    verify: bool
    inside: bool = False
    begun_at: int = 0
    ended: bool = False
    settings: tuple[Setting, ...] = (PUBLIC,)
    outer: tuple[Setting, ...] = (PUBLIC,)

    @property
    def schema(self) -> str:
        """Return the schema of names without one."""
        return next(s.schema for s in self.settings if s.schema)


@lru_cache(maxsize=256)  # planning, linting and the guide look at the same statements
def split(script: str, *, verify: bool = False) -> tuple[Statement, ...]:
    """Return a script's statements. Raises SqlError, with the line, for what cannot be run.

    BEGIN and COMMIT are left out (the last statement before a COMMIT has ``ends_transaction``), SET too (see
    ``Statement.settings``; time-outs are the executor's and are dropped). A ``verify`` script may end with ROLLBACK.
    """
    state = _State(verify)
    found: list[Statement] = []
    for line, text, node in _parse(script):
        if state.ended:
            raise SqlError("statements after ROLLBACK", line=line, hint="let ROLLBACK be the last statement")
        if is_a(node, ast.TransactionStmt):
            _transaction(state, node, line)
            if found and not state.inside:
                found[-1] = replace(found[-1], ends_transaction=True)
        elif is_a(node, ast.VariableSetStmt):
            _set(state, node, line)
        else:
            _refuse(node, line)
            statement = replace(analyse(node, text, line, state.schema), settings=state.settings)
            if state.inside and not statement.transactional:
                raise SqlError(
                    f"{statement.kind} cannot run inside BEGIN … COMMIT",
                    line=line,
                    hint="move it outside; it becomes a step of its own",
                )
            found.append(statement)
    if state.inside:
        raise SqlError("BEGIN without COMMIT", line=state.begun_at, hint="add COMMIT, or leave BEGIN out: we own it")
    return tuple(found)


def analyse(node: Node, text: str, line: int = 1, schema: str = "public") -> Statement:
    """Return what one parsed statement does."""
    found = locks.locks_of(node, schema)
    return Statement(
        text=text,
        kind=_kind(node),
        line=line,
        locks=found or {},
        indexes=_indexes(node, schema),
        transactional=_is_transactional(node),
        ends_transaction=is_a(node, ast.AlterEnumStmt),
        known=found is not None and not _calls_user_function(node),
        node=node,
    )


def _parse(script: str) -> Iterator[tuple[int, str, Node]]:
    try:
        raw = grammar.parse(script)
    except ParseError as error:
        raise _syntax_error(script, error) from error
    for statement in raw:
        start = statement.stmt_location
        end = start + statement.stmt_len if statement.stmt_len else len(script)
        text = script[start:end]
        lead = len(text) - len(text.lstrip())
        yield grammar.line_of(script, start + lead), text.strip(), statement.stmt


def _syntax_error(script: str, error: ParseError) -> SqlError:
    at = grammar.error_position(script, error)
    line = grammar.line_of(script, at)
    if script[at : at + 1] == "\\":
        word = re.match(r"\\\S*", script[at:])
        return SqlError(
            f"{word.group() if word else script[at]} is a command of psql, not SQL",
            line=line,
            hint="write the SQL itself; one script is one file",
        )
    hint = "psql's :variables are not filled in" if script[at : at + 1] == ":" else "correct the SQL"
    return SqlError(grammar.reason(error), line=line, hint=hint)


def _transaction(state: _State, node: Node, line: int) -> None:
    kind = node.kind
    begins = kind in {TransactionStmtKind.TRANS_STMT_BEGIN, TransactionStmtKind.TRANS_STMT_START}
    if begins and node.options:
        raise SqlError("BEGIN with options", line=line, hint="leave the isolation level to us: write BEGIN")
    if begins and state.inside:
        raise SqlError("BEGIN inside a transaction", line=line, hint="one BEGIN … COMMIT at a time")
    if begins:
        state.inside, state.begun_at = True, line
        state.outer = state.settings
        return
    ends = kind == TransactionStmtKind.TRANS_STMT_COMMIT and not node.chain
    if kind == TransactionStmtKind.TRANS_STMT_ROLLBACK and state.verify and state.inside:
        ends = state.ended = True
    if not ends:
        raise SqlError(
            f"{_TRANSACTION_WORDS.get(kind, 'COMMIT AND CHAIN')} is not allowed in a script",
            line=line,
            hint="the transaction is ours: it is rolled back when a statement fails",
        )
    if not state.inside:
        raise SqlError("COMMIT without BEGIN", line=line, hint="leave it out: the transaction is ours")
    state.inside, state.settings = False, state.outer


_TRANSACTION_WORDS = {
    TransactionStmtKind.TRANS_STMT_ROLLBACK: "ROLLBACK",
    TransactionStmtKind.TRANS_STMT_SAVEPOINT: "SAVEPOINT",
    TransactionStmtKind.TRANS_STMT_RELEASE: "RELEASE SAVEPOINT",
    TransactionStmtKind.TRANS_STMT_ROLLBACK_TO: "ROLLBACK TO SAVEPOINT",
    TransactionStmtKind.TRANS_STMT_PREPARE: "PREPARE TRANSACTION",
    TransactionStmtKind.TRANS_STMT_COMMIT_PREPARED: "COMMIT PREPARED",
    TransactionStmtKind.TRANS_STMT_ROLLBACK_PREPARED: "ROLLBACK PREPARED",
}


def _set(state: _State, node: Node, line: int) -> None:
    if node.kind != VariableSetKind.VAR_SET_VALUE or node.name == "session_authorization":
        raise SqlError(
            "RESET, SET TRANSACTION, SET … TO DEFAULT and SET SESSION AUTHORIZATION are not allowed",
            line=line,
            hint="sessions and transactions are ours; SET <parameter> TO <value> works until the end of the script",
        )
    if node.name in _TIMEOUTS:
        return
    lasting = not (state.inside and node.is_local)
    first = getattr(getattr(node.args[0], "val", None), "sval", "") or "public"
    schema = first if node.name == "search_path" else ""
    setting = Setting(node.name, _spelled(node, local=True), _spelled(node, local=False), schema)
    state.settings = _with(state.settings, setting)
    if lasting:
        state.outer = _with(state.outer, setting)


def _with(settings: tuple[Setting, ...], setting: Setting) -> tuple[Setting, ...]:
    return (*(s for s in settings if s.name != setting.name), setting)


def _spelled(node: Node, *, local: bool) -> str:
    node.is_local = local
    return str(RawStream()(node))


def _refuse(node: Node, line: int) -> None:
    refused = _REFUSED.get(type(node))
    if is_a(node, ast.CopyStmt):
        if node.is_program:
            refused = ("COPY … PROGRAM", "run programs outside the database")
        elif node.filename is None:
            refused = ("COPY … FROM STDIN or TO STDOUT", "use INSERT, or load the rows with a backfill")
    if refused:
        raise SqlError(f"{refused[0]} is not allowed in a script", line=line, hint=refused[1])


_OURS = "the session is ours"
_REFUSED: dict[type[ast.Node], tuple[str, str]] = {
    ast.DropdbStmt: ("DROP DATABASE", "a person drops a database, not a change"),
    ast.AlterSystemStmt: ("ALTER SYSTEM", "it is about the server, not this database"),
    ast.DiscardStmt: ("DISCARD", _OURS),
    ast.LoadStmt: ("LOAD", _OURS),
    ast.PrepareStmt: ("PREPARE", _OURS),
    ast.ExecuteStmt: ("EXECUTE", _OURS),
}


def _is_transactional(node: Node) -> bool:
    if is_a(node, ast.VacuumStmt):
        return not node.is_vacuumcmd
    if is_a(node, ast.ClusterStmt):
        return node.relation is not None
    if is_a(node, ast.ReindexStmt):
        whole = {ReindexObjectType.REINDEX_OBJECT_INDEX, ReindexObjectType.REINDEX_OBJECT_TABLE}
        return node.kind in whole and not locks.concurrently(node)
    if is_a(node, ast.AlterTableStmt):
        return not any(is_a(c.def_, ast.PartitionCmd) and c.def_.concurrent for c in node.cmds)
    if is_a(node, ast.IndexStmt, ast.DropStmt):
        return not node.concurrent
    return not is_a(
        node,
        ast.CreatedbStmt,
        ast.CreateTableSpaceStmt,
        ast.DropTableSpaceStmt,
        ast.CreateSubscriptionStmt,
        ast.AlterSubscriptionStmt,
        ast.DropSubscriptionStmt,
    )


def _indexes(node: Node, schema: str) -> tuple[Table, ...]:
    if is_a(node, ast.DropStmt) and node.removeType == ObjectType.OBJECT_INDEX:
        return tuple(locks.named(item, schema) for item in node.objects)
    if is_a(node, ast.ReindexStmt) and node.kind == ReindexObjectType.REINDEX_OBJECT_INDEX:
        return (locks.relation(node.relation, schema),)
    return ()


def _calls_user_function(node: Node) -> bool:
    """Tell whether a query calls a function of a user's schema, which may do anything."""
    queries = (ast.SelectStmt, ast.InsertStmt, ast.UpdateStmt, ast.DeleteStmt, ast.MergeStmt, ast.CreateTableAsStmt)
    return is_a(node, *queries) and any("." in name for name in grammar.function_names(node))


def _kind(node: Node) -> str:
    name = type(node).__name__
    if name in _KINDS:
        return _KINDS[name]
    if is_a(node, ast.DropStmt):
        return f"DROP {_object(node.removeType)}"
    if is_a(node, ast.AlterTableStmt):
        return f"ALTER {_object(node.objtype)}"
    if is_a(node, ast.VacuumStmt):
        return (
            ("VACUUM FULL" if locks.has_option(node.options, "full") else "VACUUM") if node.is_vacuumcmd else "ANALYZE"
        )
    if is_a(node, ast.GrantStmt):
        return "GRANT" if node.is_grant else "REVOKE"
    return " ".join(re.findall(r"[A-Z][a-z]*", name.removesuffix("Stmt"))).upper()


def _object(kind: ObjectType) -> str:
    words = kind.name.removeprefix("OBJECT_").replace("_", " ")
    return {"MATVIEW": "MATERIALIZED VIEW", "ACCESS METHOD": "ACCESS METHOD"}.get(words, words)


_KINDS = {
    "CreateStmt": "CREATE TABLE",
    "CreateTableAsStmt": "CREATE TABLE AS",
    "IndexStmt": "CREATE INDEX",
    "ViewStmt": "CREATE VIEW",
    "RenameStmt": "ALTER … RENAME",
    "AlterObjectSchemaStmt": "ALTER … SET SCHEMA",
    "AlterOwnerStmt": "ALTER … OWNER",
    "CreateTrigStmt": "CREATE TRIGGER",
    "CreateSeqStmt": "CREATE SEQUENCE",
    "AlterSeqStmt": "ALTER SEQUENCE",
    "CreateStatsStmt": "CREATE STATISTICS",
    "CreateEnumStmt": "CREATE TYPE",
    "CompositeTypeStmt": "CREATE TYPE",
    "AlterEnumStmt": "ALTER TYPE",
    "RuleStmt": "CREATE RULE",
    "RefreshMatViewStmt": "REFRESH MATERIALIZED VIEW",
    "LockStmt": "LOCK TABLE",
    "CreatedbStmt": "CREATE DATABASE",
    "DefineStmt": "CREATE",
    "SecLabelStmt": "SECURITY LABEL",
    "CheckPointStmt": "CHECKPOINT",
}
