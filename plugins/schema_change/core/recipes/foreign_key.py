"""A foreign key, NOT VALID first; in the place of another; on a partitioned table, partition by partition."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from psycopg import sql

from schema_change.core.catalog.model import Catalog, Constraint, Relation
from schema_change.core.errors import PlanError
from schema_change.core.model import LockMode, Phase, Step
from schema_change.core.names import Table, hashed_name
from schema_change.core.recipes import constraint as constraints
from schema_change.core.recipes import probe, text, unique

_NOT_VALID_OF_PARTITIONED_SINCE = 180000
_FAMILIES = (
    {"smallint", "integer", "bigint", "numeric", "real", "double precision"},
    {"text", "character varying", "character", "bpchar", "name"},
    {"date", "timestamp without time zone", "timestamp with time zone"},
    {"uuid"},
    {"boolean"},
    {"bytea"},
    {"inet", "cidr"},
    {"time without time zone"},
    {"interval"},
    {"oid"},
)


@dataclass(frozen=True, slots=True)
class Shape:
    """What a foreign key is to be; actions in SQL, ``deferrable`` with the blank before it."""

    relation: Relation
    columns: tuple[str, ...]
    parent: Relation
    parent_columns: tuple[str, ...]
    on_delete: str
    on_update: str
    full: bool
    deferrable: str

    @property
    def tables(self) -> tuple[Table, ...]:
        """Return the tables it locks."""
        return tuple(dict.fromkeys((self.relation.table, self.parent.table)))


def definition(shape: Shape) -> sql.Composed:
    """Return the constraint's text behind its name."""
    return sql.SQL("FOREIGN KEY ({}) REFERENCES {} ({}){}{}{}{}").format(
        sql.SQL(", ").join(map(sql.Identifier, shape.columns)),
        shape.parent.table.identifier,
        sql.SQL(", ").join(map(sql.Identifier, shape.parent_columns)),
        sql.SQL(" MATCH FULL" if shape.full else ""),
        sql.SQL("" if shape.on_update == "NO ACTION" else f" ON UPDATE {shape.on_update}"),
        sql.SQL("" if shape.on_delete == "NO ACTION" else f" ON DELETE {shape.on_delete}"),
        sql.SQL(shape.deferrable),
    )


def definition_text(shape: Shape) -> str:
    """Return the definition as text, for the catalog that later operations plan against."""
    return text(definition(shape))


def steps(
    catalog: Catalog, shape: Shape, name: str, between: tuple[Step, ...], old: Constraint | None
) -> tuple[Step, ...]:
    """Return the cutover steps that add the key; ``between`` are run once it holds for new rows."""
    table = shape.relation.table
    if shape.relation.kind == "p" and catalog.server_version < _NOT_VALID_OF_PARTITIONED_SINCE:
        return _by_partition(catalog, shape, name)
    working = hashed_name("fkey", table.schema, table.name, name) if old is not None else name
    forbid, validate = constraints.add(
        table,
        working,
        definition(shape),
        phase=Phase.CUTOVER,
        lock=LockMode.SHARE_ROW_EXCLUSIVE,
        references=shape.parent.table,
    )
    if old is None:
        return (forbid, *between, validate)
    # Only the step behind them makes what lasts.
    return (
        replace(forbid, lasting=False),
        *between,
        replace(validate, lasting=False),
        _take_place(shape, working, name, old),
    )


def primary_key(parent: Relation) -> tuple[str, ...]:
    """Return the columns of the primary key, which a reference means that names none."""
    found = next((c.columns for c in parent.constraints if c.type == "p"), ())
    if not found:
        raise PlanError(
            f"{parent.table} has no primary key", hint="say which columns: references: {table: …, columns: […]}"
        )
    return found


def refuse_unfit(shape: Shape) -> None:
    """Raise PlanError when PostgreSQL would refuse the key, or no row could ever satisfy it."""
    relation, parent = shape.relation, shape.parent
    for names in (shape.columns, shape.parent_columns):
        if len(set(names)) < len(names):
            raise PlanError(f"({', '.join(names)}) names a column twice", hint="name each column once")
    if len(shape.columns) != len(shape.parent_columns):
        raise PlanError(
            f"({', '.join(shape.columns)}) cannot refer to ({', '.join(shape.parent_columns)})",
            hint="name as many columns as are referred to",
        )
    _refuse_without_index(shape)
    for ours, theirs in zip(shape.columns, shape.parent_columns, strict=True):
        _refuse_other_type(relation, ours, parent, theirs)
    _refuse_actions(shape)


def notices(shape: Shape) -> tuple[str, ...]:
    """Return what the reader of the plan should know: a missing index makes deletes of the parent slow."""
    size = len(shape.columns)
    if any(i.valid and set(i.columns[:size]) == set(shape.columns) for i in shape.relation.indexes):
        return ()
    listed = ", ".join(shape.columns)
    missing = (
        f"no index of {shape.relation.table} begins with ({listed}): every delete or change of a key in "
        f"{shape.parent.table} will read all of it; put create_index on ({listed}) before this operation"
    )
    return (missing,)


def _take_place(shape: Shape, working: str, name: str, old: Constraint) -> Step:
    """Return the step in which the new key takes the old one's place and comment; it only changes the catalog."""
    table = shape.relation.table
    rename = sql.SQL("ALTER TABLE {} RENAME CONSTRAINT {} TO {}").format(
        table.identifier, sql.Identifier(working), sql.Identifier(name)
    )
    gone = () if name == old.name else (constraints.drop(table, name),)
    old_parent = old.references or table
    return Step(
        phase=Phase.CUTOVER,
        title=f"put {name} of {table} in the place of {old.name}",
        tables=tuple(dict.fromkeys((*shape.tables, old_parent))),
        statements=(constraints.drop(table, old.name), text(rename), *constraints.comment(table, old, name)),
        lock=LockMode.ACCESS_EXCLUSIVE,
        probe=probe("constraint_validated", table=table.quoted, constraint=name),
        undo=(*gone, *constraints.put_back(table, old)),
        undo_lock=LockMode.ACCESS_EXCLUSIVE,
        undo_transactional=False,
    )


def _by_partition(catalog: Catalog, shape: Shape, name: str) -> tuple[Step, ...]:
    """Return the steps for servers on which a partitioned table knows no NOT VALID.

    Each partition gets the key for itself; that of the partitioned table then finds them valid, and checks no row.
    """
    found: list[Step] = []
    for leaf in (r for r in catalog.below(shape.relation.table) if r.kind == "r"):
        own = constraints.free_name(leaf, name)
        found += constraints.add(
            leaf.table,
            own,
            definition(shape),
            phase=Phase.CUTOVER,
            lock=LockMode.SHARE_ROW_EXCLUSIVE,
            references=shape.parent.table,
        )
    table = shape.relation.table
    add = sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {}").format(
        table.identifier, sql.Identifier(name), definition(shape)
    )
    whole = Step(
        phase=Phase.CUTOVER,
        title=f"make the foreign keys of the partitions {name} of {table}",
        tables=shape.tables,
        statements=(text(add),),
        lock=LockMode.SHARE_ROW_EXCLUSIVE,
        probe=probe("constraint_validated", table=table.quoted, constraint=name),
        undo=(constraints.drop(table, name),),
        undo_lock=LockMode.ACCESS_EXCLUSIVE,
    )
    return (*found, whole)


def _refuse_without_index(shape: Shape) -> None:
    parent, wanted = shape.parent, set(shape.parent_columns)
    for constraint in parent.constraints:
        if constraint.type in {"p", "u"} and set(constraint.columns) == wanted:
            if " DEFERRABLE" not in constraint.definition:
                return
            raise PlanError(
                f"{constraint.name} of {parent.table} is deferrable; a foreign key cannot refer to it",
                hint="replace it by one that is not deferrable",
            )
    if any(set(i.columns) == wanted and unique.is_plain_and_unique(i) for i in parent.indexes):
        return
    listed = ", ".join(shape.parent_columns)
    raise PlanError(
        f"nothing makes ({listed}) of {parent.table} unique, so nothing can refer to it",
        hint=f"put add_unique or add_primary_key on ({listed}) before this operation",
    )


def _refuse_other_type(relation: Relation, ours: str, parent: Relation, theirs: str) -> None:
    left, right = relation.column(ours), parent.column(theirs)
    if left is None or right is None:
        return
    a, b = _family(left.type), _family(right.type)
    if a is not None and b is not None and a != b:
        raise PlanError(
            f"{relation.table}.{ours} is {left.type} but {parent.table}.{theirs} is {right.type}: they cannot be "
            "compared",
            hint="give one of them the other's type with change_type first",
        )


def _family(kind: str) -> int | None:
    plain = re.sub(r"\([^)]*\)", "", kind).replace("  ", " ")
    return next((n for n, family in enumerate(_FAMILIES) if plain in family), None)


def _refuse_actions(shape: Shape) -> None:
    for action in (shape.on_delete, shape.on_update):
        for name in shape.columns:
            column = shape.relation.column(name)
            if column is None:
                continue
            if column.generated == "v" or (column.generated and action not in {"NO ACTION", "RESTRICT", "CASCADE"}):
                raise PlanError(
                    f"{shape.relation.table}.{name} is generated, so {action} cannot write it",
                    hint="choose no_action or restrict, or refer with a plain column",
                )
            if action == "SET NULL" and not column.nullable:
                raise PlanError(
                    f"{shape.relation.table}.{name} is NOT NULL, so SET NULL would always fail",
                    hint="choose another action, or drop the NOT NULL first (drop_not_null)",
                )
