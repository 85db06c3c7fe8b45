"""``sql``: raw scripts (deploy, cutover, contract, revert, verify), for what no typed operation does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from psycopg import sql
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from schema_change.core.catalog.model import Catalog
from schema_change.core.errors import PlanError
from schema_change.core.fields import Identifier, TableName
from schema_change.core.model import Backfill, LockMode, NewRows, Phase, Step
from schema_change.core.names import Table
from schema_change.core.operations.base import Operation, PlanContext, Planned, expression_of
from schema_change.core.recipes import probe, text
from schema_change.core.sqltext.expression import parse_expression
from schema_change.core.sqltext.statements import PUBLIC, Statement, split

#: The phase of each script that makes the change, in the order they run.
_PHASES = {"deploy": Phase.EXPAND, "cutover": Phase.CUTOVER, "contract": Phase.CONTRACT}
_PARTLY = "revert.sql must cope with a part of them (IF EXISTS)"


class RawBackfill(BaseModel):
    """A column to fill in batches after deploy.sql."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    table: TableName = Field(description="Table, as schema.table")
    column: Identifier = Field(description="Column to fill")
    expression: str = Field(description="SQL expression over the row")
    where: str | None = Field(
        default=None, description="Rows still to fill; false once a row is filled. Default: the column IS NULL"
    )


class Sql(Operation):
    """Run scripts: deploy.sql to expand, cutover.sql to switch, contract.sql to remove; revert.sql takes back.

    Statements in a row that may share a transaction become one step; one that cannot run inside a transaction
    (CREATE INDEX CONCURRENTLY) becomes a step of its own. All of revert.sql undoes the first step, which is undone
    last: it must therefore cope with a partly deployed change (``IF EXISTS``). Nothing takes contract.sql back: it runs
    when the change has been validated, and again after a failure. verify.sql checks the result before that. Names
    without a schema mean public. The catalog after raw SQL is not known, so operations behind it plan against the
    catalog before it.
    """

    kind: ClassVar[str] = "sql"

    deploy: str | None = Field(default=None, description="Statements that add the new shape")
    cutover: str | None = Field(default=None, description="Statements that switch to it once the backfill is done")
    contract: str | None = Field(default=None, description="Statements that remove the old shape; nothing undoes them")
    revert: str | None = Field(
        default=None, description="Statements that take deploy and cutover back, also when only a part of them ran"
    )
    verify: str | None = Field(default=None, description="Statements that fail when the change is not right")
    backfill: RawBackfill | None = Field(default=None, description="What to fill in batches after deploy")

    @field_validator("deploy", "cutover", "contract", "revert")
    @classmethod
    def _can_be_run(cls, script: str | None) -> str | None:
        if script is not None and not split(script):
            raise ValueError("the script has no statement")
        return script

    @field_validator("verify")
    @classmethod
    def _can_verify(cls, script: str | None) -> str | None:
        for statement in split(script or "", verify=True):
            if not statement.transactional:
                raise ValueError(f"line {statement.line}: {statement.kind} cannot be rolled back")
        return script

    @model_validator(mode="after")
    def _can_be_taken_back(self) -> Self:
        if not self.runs:
            raise ValueError("nothing is run: there is no deploy, cutover or contract")
        undone = [name for name in ("deploy", "cutover") if getattr(self, name) is not None]
        if undone and self.revert is None:
            raise ValueError(f"there is no revert, which takes {' and '.join(undone)} back")
        if self.revert is not None and not undone:
            raise ValueError("revert takes deploy and cutover back, and there is neither")
        return self

    @property
    def runs(self) -> tuple[str, ...]:
        """Return the scripts that make the change, in the order they run."""
        return tuple(s for s in (self.deploy, self.cutover, self.contract) if s is not None)

    def plan(self, catalog: Catalog, context: PlanContext) -> Planned:
        """Return the steps of the scripts and of the backfill. Pure; the catalog comes back unchanged."""
        scripts = {name: split(getattr(self, name) or "") for name in _PHASES}
        revert = split(self.revert or "")
        forward = tuple(statement for statements in scripts.values() for statement in statements)
        created = frozenset(t for statement in forward for t in statement.creates)
        groups = [(name, group) for name, statements in scripts.items() for group in _groups(statements)]
        steps = [
            _step(name, group, catalog, created, () if number else revert)
            for number, (name, group) in enumerate(groups)
        ]
        if self.backfill is not None:
            steps.append(self._backfill(self.backfill, catalog))
        everything = (*forward, *revert)
        written = _existing((t for s in everything for t in _tables(s, catalog)), catalog)
        return Planned(
            catalog=catalog,
            steps=tuple(steps),
            written=tuple(dict.fromkeys((*written, *(s.backfill.table for s in steps if s.backfill)))),
            read=(*_existing((t for s in everything for t in s.reads), catalog), *self._backfill_reads()),
            filled=frozenset((s.backfill.table, s.backfill.column) for s in steps if s.backfill),
            data_migration=any(not s.known or set(s.writes) - created for s in forward),
            notices=_notices(scripts, everything),
            whole=True,
        )

    def verify_statements(self) -> tuple[str, ...]:
        """Return what validate runs in one transaction, which it rolls back."""
        return _with_settings(split(self.verify or "", verify=True), transactional=True)

    def _backfill(self, raw: RawBackfill, catalog: Catalog) -> Step:
        table = Table.parse(raw.table)
        relation = catalog.get(table)
        if relation is not None and relation.kind == "p" and not relation.key:
            raise PlanError(
                f"backfill: {table} is partitioned and has no key along which its rows could be filled",
                hint="fill each partition in a change of its own, or add a primary key first",
            )
        pending = text(sql.SQL("{} IS NULL").format(sql.Identifier(raw.column)))
        if raw.where:
            pending = expression_of(catalog, parse_expression, raw.where, "backfill.where").text
        return Step(
            phase=Phase.BACKFILL,
            title=f"fill {table}.{raw.column}",
            tables=(table,),
            lock=LockMode.ROW_EXCLUSIVE,
            lasting=False,
            backfill=Backfill(
                table=table,
                column=raw.column,
                expression=expression_of(catalog, parse_expression, raw.expression, "backfill.expression").text,
                pending=pending,
                key=relation.key if relation else (),
                new_rows=NewRows.SWEEP,
            ),
        )

    def _backfill_reads(self) -> tuple[Table, ...]:
        return parse_expression(self.backfill.expression).tables if self.backfill else ()


def _groups(statements: Sequence[Statement]) -> Iterator[list[Statement]]:
    """Yield the statements that share a transaction, and each of those that cannot be in one alone."""
    group: list[Statement] = []
    for statement in statements:
        if group and not statement.transactional:
            yield group
            group = []
        group.append(statement)
        if not statement.transactional or statement.ends_transaction:
            yield group
            group = []
    if group:
        yield group


def _step(
    script: str, group: list[Statement], catalog: Catalog, created: frozenset[Table], revert: Sequence[Statement]
) -> Step:
    transactional = group[0].transactional
    undo_transactional = all(s.transactional for s in revert)
    safety = _Safety() if transactional else _safety(script, group[0])
    return Step(
        phase=_PHASES[script],
        title=_title(script, group),
        tables=tuple(dict.fromkeys(t for s in group for t in _tables(s, catalog))),
        statements=_with_settings(group, transactional=transactional),
        lock=_lock(group, created),
        transactional=transactional,
        probe=safety.probe,
        taken=safety.taken,
        repair=safety.repair,
        undo=_with_settings(revert, transactional=undo_transactional),
        undo_lock=_lock(revert, frozenset()),
        undo_transactional=undo_transactional,
        lasting=safety.probe is not None,
        long=not transactional,
    )


def _with_settings(statements: Sequence[Statement], *, transactional: bool) -> tuple[str, ...]:
    """Return the statements, each behind the parameters it was written under; a session gets its own back."""
    found: list[str] = []
    current: tuple[str, ...] = ()
    names: dict[str, None] = {}
    for statement in statements:
        wanted = tuple(s.local if transactional else s.session for s in statement.settings)
        found += [setting for setting in wanted if setting not in current]
        found.append(statement.text)
        current = wanted
        names |= {s.name: None for s in statement.settings}
    if statements and not transactional:
        resets = (sql.SQL("RESET {}").format(sql.Identifier(n)).as_string(None) for n in names if n != "search_path")
        found += [*resets, PUBLIC.session]
    return tuple(found)


def _tables(statement: Statement, catalog: Catalog) -> tuple[Table, ...]:
    """Return what a statement locks beyond reading: tables by name, and those of its indexes."""
    owners = {Table(r.table.schema, index.name): r.table for r in catalog.relations.values() for index in r.indexes}
    return tuple(dict.fromkeys(owners.get(t, t) for t in statement.tables))


def _existing(tables: Iterator[Table], catalog: Catalog) -> tuple[Table, ...]:
    return tuple(t for t in dict.fromkeys(tables) if catalog.get(t) is not None)


def _lock(statements: Sequence[Statement], created: frozenset[Table]) -> LockMode:
    """Return the strongest lock on anything others can see; new tables are nobody else's yet."""
    if not all(s.known for s in statements):
        return LockMode.ACCESS_EXCLUSIVE
    return max((mode for s in statements for t, mode in s.locks.items() if t not in created), default=LockMode.NONE)


@dataclass(frozen=True, slots=True)
class _Safety:
    """What lets a statement outside a transaction be looked at, and run again: see Step."""

    probe: str | None = None
    taken: str | None = None
    repair: tuple[str, ...] = ()


def _safety(script: str, statement: Statement) -> _Safety:
    if statement.kind == "CREATE INDEX":
        node = statement.node
        if not node.idxname:
            raise PlanError(
                f"{script}.sql, line {statement.line}: CREATE INDEX CONCURRENTLY without a name",
                hint="name the index, so that an interrupted build can be found and repaired",
            )
        (table,) = statement.tables
        index = Table(table.schema, node.idxname)
        drop = sql.SQL("DROP INDEX CONCURRENTLY IF EXISTS {}").format(index.identifier)
        names = {"index": index.quoted, "table": table.quoted}
        taken = probe("index_taken", **names) if node.if_not_exists else probe("name_taken", relation=index.quoted)
        return _Safety(probe("index_valid", **names), taken, (text(drop),))
    if statement.kind == "DROP INDEX":
        gone = [sql.SQL("to_regclass({}) IS NULL").format(sql.Literal(i.quoted)) for i in statement.indexes]
        return _Safety(text(sql.SQL("SELECT {}").format(sql.SQL(" AND ").join(gone))))
    return _Safety()


def _title(script: str, group: list[Statement]) -> str:
    parts = [f"{s.kind} {', '.join(map(str, s.tables))}".strip() for s in group]
    more = f" and {len(parts) - 3} more" if len(parts) > 3 else ""
    return f"{script}.sql: {'; '.join(parts[:3])}{more}"


def _notices(scripts: Mapping[str, Sequence[Statement]], everything: Sequence[Statement]) -> tuple[str, ...]:
    notices = []
    for name, statements in scripts.items():
        steps = len(list(_groups(statements)))
        copes = "it is run again from the step that failed" if name == "contract" else _PARTLY
        if steps > 1:
            notices.append(f"{name}.sql runs as {steps} steps, not as one transaction: {copes}")
    if unknown := [f"{s.kind} (line {s.line})" for s in everything if not s.known]:
        notices.append(f"what these statements touch is known only when they run: {', '.join(unknown)}")
    return tuple(notices)
