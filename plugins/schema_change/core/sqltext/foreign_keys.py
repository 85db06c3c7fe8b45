"""Foreign keys as PostgreSQL shows them, taken apart: which columns refer to which, and what a delete does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pglast.parser import ParseError

from schema_change.core.catalog.model import Catalog, Constraint, Relation
from schema_change.core.names import Table
from schema_change.core.sqltext import grammar

_ACTIONS = {"a": "NO ACTION", "r": "RESTRICT", "c": "CASCADE", "n": "SET NULL", "d": "SET DEFAULT"}


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """A foreign key of ``table``; ``on_delete`` and ``on_update`` are the actions in SQL."""

    table: Table
    name: str
    columns: tuple[str, ...]
    parent: Table
    parent_columns: tuple[str, ...]
    on_delete: str
    on_update: str

    @property
    def writes(self) -> bool:
        """Tell whether deleting the row it refers to changes or deletes rows of ``table``."""
        return self.on_delete not in {"NO ACTION", "RESTRICT"}

    def __str__(self) -> str:
        return f"foreign key {self.name} of {self.table}"


def foreign_key(catalog: Catalog, relation: Relation, constraint: Constraint) -> ForeignKey:
    """Return a constraint of type ``f`` taken apart. One whose text is newer than our grammar counts as cascading."""
    parent = constraint.references or relation.table
    try:
        node = grammar.parse(f"ALTER TABLE t ADD {constraint.definition}")[0].stmt.cmds[0].def_
    except ParseError:
        return ForeignKey(relation.table, constraint.name, constraint.columns, parent, (), "CASCADE", "CASCADE")
    columns = tuple(c.sval for c in node.pk_attrs or ()) or _primary_key(catalog.get(parent))
    return ForeignKey(
        table=relation.table,
        name=constraint.name,
        columns=constraint.columns,
        parent=parent,
        parent_columns=columns,
        on_delete=_ACTIONS[_letter(node.fk_del_action)],
        on_update=_ACTIONS[_letter(node.fk_upd_action)],
    )


def foreign_keys_to(catalog: Catalog, table: Table) -> Iterator[ForeignKey]:
    """Yield the foreign keys that refer to a table, its own to itself too."""
    for relation in catalog.around(table):
        for constraint in relation.constraints:
            if constraint.type == "f" and constraint.references == table:
                yield foreign_key(catalog, relation, constraint)


def _primary_key(relation: Relation | None) -> tuple[str, ...]:
    constraints = relation.constraints if relation else ()
    return next((c.columns for c in constraints if c.type == "p"), ())


def _letter(action: object) -> str:
    return str(action or "a")
