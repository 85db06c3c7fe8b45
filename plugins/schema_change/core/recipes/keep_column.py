"""The values of a column that goes away, copied by key while nobody writes them any more: the column is hidden."""

from __future__ import annotations

from dataclasses import replace

from psycopg import sql

from schema_change.core.catalog.model import Column, Relation
from schema_change.core.model import Backfill, Batch, LockMode, NewRows, Phase, Retired, Step
from schema_change.core.names import Table
from schema_change.core.recipes import text
from schema_change.core.recipes.rows import create_kept

#: Where a row was, in a table without a key: what tells whether it has been copied.
_PLACE = "schema_change_ctid"
_KEPT = "schema_change_kept"
_AND, _COMMA = sql.SQL(" AND "), sql.SQL(", ")


def key_without(relation: Relation, column: str) -> tuple[str, ...]:
    """Return the columns that identify a row when a column is gone; empty when nothing does."""
    return replace(relation, indexes=tuple(i for i in relation.indexes if column not in i.columns)).key


def steps(relation: Relation, column: Column, hidden: str, kept: Table) -> tuple[Step, Step]:
    """Return the contract steps that copy the values: NULL is left out; without a key, whole rows are copied."""
    table, key = relation.table, key_without(relation, column.name)
    others = key or tuple(c.name for c in relation.columns if c.name != column.name)
    place = () if key else (_PLACE,)
    names = _COMMA.join(map(sql.Identifier, (*others, column.name, *place)))
    values = _COMMA.join(sql.Identifier(n) for n in (*others, hidden, *(("ctid",) if place else ())))
    pairs = tuple((k, k) for k in key) or ((_PLACE, "ctid"),)
    return (
        _create(relation, kept, key, _COMMA.join(_named(others, hidden, column.name, place))),
        Step(
            phase=Phase.CONTRACT,
            title=f"keep the values of {table}.{column.name} in {kept}",
            tables=(table,),
            lock=LockMode.ROW_EXCLUSIVE,
            lasting=False,
            backfill=Backfill(
                table=table,
                column="",
                expression="true",
                pending=text(_pending(table, hidden, kept, pairs)),
                key=key,
                # A row whose key is changed meanwhile is found by another sweep.
                new_rows=NewRows.SWEEP,
                batch=Batch(
                    head=text(
                        sql.SQL("INSERT INTO {} ({}) SELECT {} FROM {} WHERE ").format(
                            kept.identifier, names, values, table.identifier
                        )
                    ),
                    tail=" ON CONFLICT DO NOTHING",
                    verb="kept",
                ),
            ),
        ),
    )


def retired(relation: Relation, column: Column, kept: Table, days: int) -> Retired:
    """Return the record of the values that are kept, with what is needed to add the column again."""
    return Retired(
        kind="column",
        table=relation.table,
        kept=kept,
        column=column.name,
        key=key_without(relation, column.name),
        keep_days=days,
        definition={
            "type": column.type,
            "nullable": column.nullable,
            "default": None if column.generated else column.default,
            "collation": column.collation,
            "comment": column.comment,
            "identity": column.identity,
            "generated": column.default if column.generated else None,
        },
    )


def _create(relation: Relation, kept: Table, key: tuple[str, ...], columns: sql.Composable) -> Step:
    shape = sql.SQL("AS SELECT {} FROM {} WITH NO DATA").format(columns, relation.table.identifier)
    create = create_kept(kept, relation.table, text(shape), "values of")
    by_key = sql.SQL("ALTER TABLE {} ADD PRIMARY KEY ({})").format(
        kept.identifier, _COMMA.join(map(sql.Identifier, key))
    )
    by_place = sql.SQL("CREATE UNIQUE INDEX ON {} ({})").format(kept.identifier, sql.Identifier(_PLACE))
    index = text(by_key if key else by_place)
    return replace(create, phase=Phase.CONTRACT, statements=(*create.statements, index), undo=())


def _named(others: tuple[str, ...], hidden: str, name: str, place: tuple[str, ...]) -> list[sql.Composed]:
    pairs = [*((c, c) for c in others), (hidden, name), *(("ctid", p) for p in place)]
    return [sql.SQL("{} AS {}").format(sql.Identifier(c), sql.Identifier(alias)) for c, alias in pairs]


def _pending(table: Table, hidden: str, kept: Table, pairs: tuple[tuple[str, str], ...]) -> sql.Composed:
    same = _AND.join(
        sql.SQL("{} = {}").format(sql.Identifier(_KEPT, ours), sql.Identifier(table.name, theirs))
        for ours, theirs in pairs
    )
    return sql.SQL("{} IS NOT NULL AND NOT EXISTS (SELECT FROM {} AS {} WHERE {})").format(
        sql.Identifier(table.name, hidden), kept.identifier, sql.Identifier(_KEPT), same
    )
