"""Rows that would break a constraint: deleted in batches and kept, so that an undo puts them back.

The rows go in the backfill. The application may write more of them until the constraint refuses them, which would break
it any earlier than cutover: the backfill sweeps the table until it finds none, cutover asserts that none is left, and
once the constraint stands a last pass takes those that slipped in between. All go to the same table, and the
undo of the backfill, for which the constraint is gone by then, puts all of them back.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from psycopg import sql

from schema_change.core.catalog.model import Catalog, Relation
from schema_change.core.errors import PlanError
from schema_change.core.model import Backfill, Batch, DataCheck, LockMode, NewRows, Phase, Retired, Step
from schema_change.core.names import Table, hashed_name
from schema_change.core.recipes import raw, text
from schema_change.core.sqltext.foreign_keys import ForeignKey, foreign_keys_to

_BEFORE_DELETE = re.compile(r" BEFORE (?:\w+ OR )*DELETE .* FOR EACH ROW ")

HOME = "schema_change_retired"
KEEP_DAYS = 30
"""How long rows and values are kept after the change has landed."""

_AND, _COMMA = sql.SQL(" AND "), sql.SQL(", ")


@dataclass(frozen=True, slots=True)
class Cleaning:
    """Steps that make rows fit: ``before`` the constraint, the ``last`` pass behind it, and what goes in contract."""

    before: tuple[Step, ...]
    last: Step
    after: tuple[Step, ...] = ()
    checks: tuple[DataCheck, ...] = ()
    retired: tuple[Retired, ...] = ()
    notices: tuple[str, ...] = ()


def kept_table(what: str, table: Table, *parts: str) -> Table:
    """Return the name under which rows or values are kept; ``parts`` tell apart what one database ever keeps."""
    return Table(HOME, hashed_name(what, table.schema, table.name, *parts))


def delete(catalog: Catalog, relation: Relation, pending: str, kept: Table, purpose: str) -> Cleaning:
    """Return what deletes the pending rows and keeps them in ``kept``; ``purpose`` is the constraint they break.

    Raises PlanError when a delete would reach other tables' rows, or cannot be kept.
    """
    table = relation.table
    _refuse_undeletable(relation)
    referring = tuple(foreign_keys_to(catalog, table))
    if reaching := [key for key in referring if key.writes]:
        raise PlanError(
            f"deleting rows of {table} would change rows of other tables too: "
            + ", ".join(f"{key} ON DELETE {key.on_delete}" for key in reaching),
            hint="delete these rows by hand, or choose another way to treat them; only what is deleted here is kept",
        )
    names = column_list(relation)
    batch = Batch(
        head=text(sql.SQL("WITH gone AS (DELETE FROM {} WHERE ").format(table.identifier)),
        tail=text(
            sql.SQL(" RETURNING {own}) INSERT INTO {kept} ({names}) SELECT {names} FROM gone").format(
                own=column_list(relation, qualified=True), kept=kept.identifier, names=names
            )
        ),
        drain=_put_back(relation, kept),
        verb="deleted",
    )
    return Cleaning(
        before=(
            create_kept(kept, table, text(sql.SQL("(LIKE {})").format(table.identifier)), "rows deleted from"),
            walk(relation, batch, pending, purpose),
        ),
        last=last_pass(relation, batch, pending, purpose),
        checks=tuple(_referenced(relation, pending, key) for key in referring),
        retired=(
            Retired(
                kind="rows",
                table=table,
                kept=kept,
                key=relation.key,
                definition={"columns": [c.name for c in relation.columns if not c.generated]},
                keep_days=KEEP_DAYS,
            ),
        ),
    )


def create_kept(kept: Table, table: Table, shape: str, what: str) -> Step:
    """Return the expand step that creates the table which keeps something of ``table``."""
    comment = sql.SQL("COMMENT ON TABLE {} IS {}").format(kept.identifier, sql.Literal(f"{what} {table}"))
    return Step(
        phase=Phase.EXPAND,
        title=f"create {kept} for {what} {table}",
        tables=(table,),
        statements=(text(sql.SQL("CREATE TABLE {} {}").format(kept.identifier, raw(shape))), text(comment)),
        lock=LockMode.ACCESS_SHARE,
        undo=(drop_kept(kept),),
        lasting=False,
    )


def drop_kept(kept: Table) -> str:
    """Return the statement that drops what was kept."""
    return text(sql.SQL("DROP TABLE IF EXISTS {}").format(kept.identifier))


def walk(relation: Relation, batch: Batch, pending: str, purpose: str, *, phase: Phase = Phase.BACKFILL) -> Step:
    """Return the step that runs a batch along the table; its undo drains it."""
    last = phase is Phase.CUTOVER
    which = "rows written meanwhile" if last else "rows that would break it"
    return Step(
        phase=phase,
        title=f"clean {relation.table} for {purpose}{' once more' if last else ''}: {which} are {batch.verb}",
        tables=(relation.table,),
        lock=LockMode.ROW_EXCLUSIVE,
        lasting=False,
        long=last,
        backfill=Backfill(
            table=relation.table,
            column="",
            expression="true",
            pending=pending,
            key=relation.key,
            new_rows=NewRows.SWEEP,
            batch=batch,
        ),
    )


def last_pass(relation: Relation, batch: Batch, pending: str, purpose: str) -> Step:
    """Return the cutover step that takes what was written until the constraint stood.

    It has nothing to undo: what it did is drained with the first pass, when the constraint is gone.
    """
    return walk(relation, replace(batch, drain=None), pending, purpose, phase=Phase.CUTOVER)


def drain(kept: Table, back: sql.Composable) -> tuple[str, str]:
    """Return the two parts of a drain: rows leave ``kept``, are called ``batch``, and ``back`` gives them back.

    ``back`` is one statement that returns a row for each row it gave back.
    """
    head = sql.SQL("WITH batch AS (DELETE FROM {0} WHERE ctid = ANY(ARRAY(SELECT ctid FROM {0} LIMIT ").format(
        kept.identifier
    )
    tail = sql.SQL(
        ")) RETURNING *), back AS ({}) SELECT (SELECT count(*) FROM batch), (SELECT count(*) FROM back)"
    ).format(back)
    return text(head), text(tail)


def column_list(relation: Relation, *, qualified: bool = False, written: bool = False) -> sql.Composed:
    """Return the columns of a relation, separated by commas; ``written`` leaves out the generated ones."""
    names = [c.name for c in relation.columns if not (written and c.generated)]
    return _COMMA.join(sql.Identifier(*((relation.table.name, n) if qualified else (n,))) for n in names)


def _put_back(relation: Relation, kept: Table) -> tuple[str, str]:
    """Return the drain that inserts the rows again; one whose key is taken by now has been replaced by its writer."""
    deferrable = any(c.type in {"p", "u", "x"} and "DEFERRABLE" in c.definition for c in relation.constraints)
    insert = sql.SQL(
        "INSERT INTO {table} ({names}) OVERRIDING SYSTEM VALUE SELECT {names} FROM batch{conflict} RETURNING 1"
    ).format(
        table=relation.table.identifier,
        names=column_list(relation, written=True),
        # ON CONFLICT knows no deferrable constraint; without it, a key that is taken fails the undo.
        conflict=sql.SQL("" if deferrable else " ON CONFLICT DO NOTHING"),
    )
    return drain(kept, insert)


def _referenced(relation: Relation, pending: str, key: ForeignKey) -> DataCheck:
    """Return the pre-check that no row to be deleted is referred to; the delete would fail."""
    child = "schema_change_child"
    same = _AND.join(
        sql.SQL("{} = {}").format(sql.Identifier(child, ours), sql.Identifier(relation.table.name, theirs))
        for ours, theirs in zip(key.columns, key.parent_columns, strict=True)
    )
    where = sql.SQL("FROM {} WHERE ({}) AND EXISTS (SELECT FROM {} AS {} WHERE {})").format(
        relation.table.identifier, raw(pending), key.table.identifier, sql.Identifier(child), same
    )
    shown = sql.SQL(", ").join(map(sql.Identifier, key.parent_columns))
    return DataCheck(
        name=f"rows of {relation.table} to be deleted that {key} refers to",
        count=text(sql.SQL("SELECT count(*) {}").format(where)),
        sample=text(sql.SQL("SELECT {} {} LIMIT 10").format(shown, where)),
        remedy=f"delete or change the rows of {key.table} that refer to them first",
    )


def _refuse_undeletable(relation: Relation) -> None:
    if relation.rules:
        raise PlanError(
            f"{relation.table} has rules, which rewrite a DELETE, so the rows could not be kept",
            hint="replace the rules by triggers, or delete the rows by hand first",
        )
    if before := [t.name for t in relation.triggers if t.enabled != "D" and _BEFORE_DELETE.search(t.definition)]:
        raise PlanError(
            f"{relation.table} has triggers before DELETE, which may keep the rows or do something else instead: "
            f"{', '.join(before)}",
            hint="delete the rows by hand first, or choose another way to treat them",
        )
    if relation.kind == "p" and not relation.key:
        raise PlanError(f"{relation.table} is partitioned and has no key to walk along", hint="add a primary key first")
