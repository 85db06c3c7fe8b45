"""The runbook's reconstruction by the functions that a warehouse has of its own (``queries/warehouse_own.sql``).

Such functions return what went wrong instead of raising it, drop with CASCADE, and unite parts by the columns' places:
each call is looked at, in the transaction in which it can still be taken back.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from psycopg import sql

from schema_change.core import sqlfiles
from schema_change.core.catalog.model import Catalog, Relation
from schema_change.core.errors import PlanError
from schema_change.core.model import LockMode, Phase, Step
from schema_change.core.names import Table, hashed_name
from schema_change.core.recipes import grants, raw, text, view
from schema_change.core.recipes.beside import Beside
from schema_change.core.recipes.reconstruction import ColumnChange
from schema_change.core.warehouse.own import Own
from schema_change.core.warehouse.template import Template

#: Types whose sums must be the same in each day before and after.
_SUMMED = ("smallint", "integer", "bigint", "numeric")


@dataclass(frozen=True, slots=True)
class Rebuild:
    """A template before and after it gets a column.

    ``schemas`` are the tenants' in the order of their waves; ``views`` the public one and theirs, as they are.
    """

    old: Template
    new: Template
    own: Own
    name: str
    column: ColumnChange
    schemas: tuple[str, ...]
    views: tuple[Relation, ...]

    @property
    def counts(self) -> Table:
        """Return the table that keeps what each day had."""
        return Table("schema_change", hashed_name("days_of", self.old.name))

    def body(self, name: str, **values: sql.Composable) -> str:
        """Return a block as a DO statement, its places filled in."""
        usual = {"template": sql.Literal(self.old.name), "schemas": sql.Literal(list(self.schemas))}
        block = sqlfiles.block("queries/warehouse_own", name).format(**usual, **values)
        return text(sql.SQL("DO {}").format(sql.Literal(text(block))))

    def calls(self, *calls: sql.Composable) -> str:
        """Return the statement that calls functions, and raises what they say and what else they drop."""
        return self.body("call", calls=sql.Literal(list(map(text, calls))))

    def months(self) -> Iterator[tuple[str, str, str]]:
        """Yield the schema, the first and the last day of what is made at once."""
        for schema in self.schemas:
            yield from (month for month in self.own.months if month[0] == schema)


def steps(catalog: Catalog, own: Own, change: Beside, column: ColumnChange) -> tuple[Step, ...]:
    """Return the steps of a rebuild. Raises PlanError for what such functions would mix up."""
    _refuse_other_order(catalog, change.old)
    schemas = tuple(schema for wave in change.waves for schema in wave)
    views = (change.old.view, *(Table(schema, change.name) for schema in schemas))
    relations = tuple(filter(None, map(catalog.get, views)))
    return tuple(_steps(Rebuild(change.old, change.new, own, change.column, column, schemas, relations)))


def _refuse_other_order(catalog: Catalog, old: Template) -> None:
    names = [column_name for column_name, _ in old.columns]
    for table in old.years:
        relation = catalog.get(table)
        if relation is not None and (found := [c.name for c in relation.columns]) != names:
            raise PlanError(
                f"{table} has the columns {', '.join(found)}, and the template {', '.join(names)}: "
                "the functions of this warehouse unite its parts by the places of the columns",
                hint="bring the table's columns into the order of the template first",
            )


def _steps(change: Rebuild) -> Iterator[Step]:
    """Yield the steps: count the days, drop and change in one transaction, make days and views anew, compare."""
    template, own = change.old.name, change.own
    yield Step(
        phase=Phase.EXPAND,
        title=f"note what every day of {template} has",
        tables=(),
        statements=(_compared(change, "count_days", counts_name=sql.Literal(change.counts.quoted)),),
        undo=(_drop_counts(change),),
        lasting=False,
        long=True,
    )
    yield Step(
        phase=Phase.EXPAND,
        title=f"drop the views and days of {template}, and change its yearly tables",
        tables=(*(r.table for r in change.views), *change.old.years),
        statements=(
            change.calls(
                own.call("drop_public_view_by_template", template),
                own.call("drop_all_tenant_union_views_by_template", template),
                own.call("add_column_to_yearly_tables_by_template", *_added(change)),
                *(own.call("drop_current_year_mvs_by_template", template, year) for year in _years(own)),
            ),
            _check_years(change),
            _set_template(change.new),
        ),
        lock=LockMode.ACCESS_EXCLUSIVE,
        undo=tuple(_restore(change)),
        undo_lock=LockMode.ACCESS_EXCLUSIVE,
        # The days are made one month after the other: what is made stays, when a source fails on the way.
        undo_transactional=False,
        lasting=False,
        long=True,
    )
    for schema, first, last in change.months():
        yield Step(
            phase=Phase.BACKFILL,
            title=f"make the days of {template} for {schema} from {first} until {last}",
            tables=(),
            statements=(_make_days(change, change.new, schema, first, last),),
            undo=(change.body("drop_days", schema=sql.Literal(schema), **_days(first, last)),),
            lasting=False,
            long=True,
        )
    yield Step(
        phase=Phase.BACKFILL,
        title=f"compare every day of {template} with what it had",
        tables=(),
        statements=(_compared(change, "compare_days"),),
        lasting=False,
        long=True,
    )
    yield _make_views(change)
    yield Step(
        phase=Phase.CUTOVER,
        title=f"read every view of {template}",
        tables=(),
        statements=(
            change.body(
                "read_views",
                views=sql.Literal([r.table.quoted for r in change.views]),
                column=sql.Literal(change.name),
            ),
        ),
        lasting=False,
    )
    yield Step(
        phase=Phase.CONTRACT,
        title=f"forget what every day of {template} had",
        tables=(),
        statements=(_drop_counts(change),),
        lasting=False,
    )


def _make_views(change: Rebuild) -> Step:
    template, own = change.old.name, change.own
    tenants = (own.call("update_tenant_union_view_by_template", template, schema) for schema in change.schemas)
    drop = sql.SQL("DROP VIEW IF EXISTS {}").format(sql.SQL(", ").join(r.table.identifier for r in change.views))
    return Step(
        phase=Phase.CUTOVER,
        title=f"make the views of {template} anew",
        tables=(),
        statements=(
            change.calls(*tenants, own.call("update_public_view_by_template", template)),
            *(statement for relation in change.views for statement in _rights(relation)),
        ),
        undo=(text(drop),),
        lasting=False,
        long=True,
    )


def _restore(change: Rebuild) -> Iterator[str]:
    """Yield what takes the reconstruction back; each statement can be run twice."""
    yield _set_template(change.old)
    for table in change.old.years:
        drop = sql.SQL("ALTER TABLE {} DROP COLUMN IF EXISTS {}")
        yield text(drop.format(table.identifier, sql.Identifier(change.name)))
    for schema, first, last in change.months():
        yield _make_days(change, change.old, schema, first, last)
    # The tenants' views before the public one, which is made of them.
    for relation in (*change.views[1:], *change.views[:1]):
        assert relation.definition is not None  # noqa: S101 - a view has one
        yield view.create_or_replace(relation.table, relation.definition.rstrip(";"), relation.options)
        yield from _rights(relation)


def _rights(relation: Relation) -> Iterator[str]:
    """Yield the statements that give a view made anew its owner, comment and privileges."""
    owner = sql.SQL("ALTER VIEW {} OWNER TO {}").format(relation.table.identifier, sql.Identifier(relation.owner))
    yield text(owner)
    yield view.comment_on(relation.table, relation.comment)
    yield from grants.exactly(relation)


def _added(change: Rebuild) -> tuple[str | bool | sql.Composable | None, ...]:
    """Return the arguments for the yearly tables: the default is the text of the constant there."""
    column = change.column
    value = sql.SQL("({})::text").format(raw(column.value)) if column.value is not None else None
    return change.old.name, change.name, column.type, value, column.index


def _check_years(change: Rebuild) -> str:
    type_, value = change.column.type or "text", change.column.value or "NULL"
    return change.body(
        "check_years",
        years=sql.Literal([table.quoted for table in change.old.years]),
        columns=sql.Literal([f"{name} {type_}" for name, type_ in change.new.columns]),
        column=sql.Literal(change.name),
        value=sql.Literal(f"({value})::{type_}"),
    )


def _set_template(template: Template) -> str:
    values = {
        "query": template.query,
        "definitions": template.definitions,
        "indexes": template.indexes,
        "template": template.name,
    }
    literals = {name: sql.Literal(value) for name, value in values.items()}
    return text(sqlfiles.block("queries/warehouse_own", "set_template").format(**literals))


def _make_days(change: Rebuild, template: Template, schema: str, first: str, last: str) -> str:
    nulls = ", ".join(
        text(sql.SQL("NULL::{} AS {}").format(raw(type_), sql.Identifier(name))) for name, type_ in template.columns
    )
    return change.body(
        "make_days",
        call=raw(change.calls(change.own.window(template.name, schema, first, last))),
        schema=sql.Literal(schema),
        nulls=sql.Literal(nulls),
        **_days(first, last),
    )


def _days(first: str, last: str) -> dict[str, sql.Composable]:
    return {"first": sql.Literal(first), "last": sql.Literal(last)}


def _compared(change: Rebuild, name: str, **values: sql.Composable) -> str:
    summed = (column for column, type_ in change.old.columns if type_.startswith(_SUMMED))
    sums = (sql.SQL(", {}, sum({})").format(sql.Literal(c), sql.Identifier(c)) for c in summed)
    return change.body(
        name, counts=change.counts.identifier, sums=sql.Literal(text(sql.Composed(list(sums)))), **values
    )


def _drop_counts(change: Rebuild) -> str:
    return text(sql.SQL("DROP TABLE IF EXISTS {}").format(change.counts.identifier))


def _years(own: Own) -> list[int]:
    return sorted({int(first[:4]) for _, first, _ in own.months})
