"""Privileges of a relation, given again exactly as the catalog shows them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from psycopg import sql

from schema_change.core import sqlfiles
from schema_change.core.catalog.model import Relation
from schema_change.core.errors import PlanError
from schema_change.core.names import Table
from schema_change.core.recipes import text

# An aclitem such as  "my role"=r*w/postgres ; without a name before the sign it is PUBLIC's.
_ITEM = re.compile(r'(?P<role>"(?:[^"]|"")*"|[^=]*)=(?P<letters>[a-zA-Z*]*)/(?P<by>.*)')
_LETTER = re.compile(r"([a-zA-Z])(\*?)")
_PRIVILEGES = {
    "r": "SELECT",
    "a": "INSERT",
    "w": "UPDATE",
    "d": "DELETE",
    "D": "TRUNCATE",
    "x": "REFERENCES",
    "t": "TRIGGER",
    "m": "MAINTAIN",
}


def exactly(relation: Relation) -> tuple[str, ...]:
    """Return the statements that give a relation just made its privileges, and take away what default ones added.

    Raises PlanError when a privilege was granted by another role than the owner: only that role can grant it again.
    """
    body = sqlfiles.block("queries/recipes", "revoke_everything").format(relation=sql.Literal(relation.table.quoted))
    found = [text(sql.SQL("DO {}").format(sql.Literal(text(body))))]
    every = [(item, None) for item in relation.grants] + [(i, c.name) for c in relation.columns for i in c.grants]
    for item, column in every:
        privilege = _parsed(item)
        if privilege is None or privilege.by != relation.owner:
            raise PlanError(
                f"the privilege {item} on {relation.table} was not granted by its owner {relation.owner}, "
                "so it could not be given again as it was",
                hint="let the owner grant it, then run this again",
            )
        found += _grant(relation.table, privilege, column)
    return tuple(found)


def to_others(relation: Relation) -> Iterator[str]:
    """Yield the statements that give a relation just made its privileges; the owner has all by itself.

    They are plain ones, which the plan's reader and the linter understand.
    """
    for privilege in filter(None, map(_parsed, relation.grants)):
        if privilege.role != relation.owner:
            yield from _grant(relation.table, privilege, None)


@dataclass(frozen=True, slots=True)
class _Privilege:
    """An aclitem: the role it is for (empty for PUBLIC), its letters with a star for GRANT OPTION, who granted it."""

    role: str
    letters: tuple[tuple[str, str], ...]
    by: str


def _parsed(item: str) -> _Privilege | None:
    match = _ITEM.fullmatch(item)
    if match is None:
        return None
    return _Privilege(_name(match["role"]), tuple(_LETTER.findall(match["letters"])), _name(match["by"]))


def _grant(table: Table, privilege: _Privilege, column: str | None) -> Iterator[str]:
    role = sql.Identifier(privilege.role) if privilege.role else sql.SQL("PUBLIC")
    for option in ("", "*"):
        names = [_PRIVILEGES[letter] for letter, star in privilege.letters if star == option]
        if names:
            yield text(
                sql.SQL("GRANT {} ON {} TO {}{}").format(
                    sql.SQL(", ").join(_of_column(name, column) for name in names),
                    table.identifier,
                    role,
                    sql.SQL(" WITH GRANT OPTION" if option else ""),
                )
            )


def _of_column(name: str, column: str | None) -> sql.Composable:
    return sql.SQL(name) if column is None else sql.SQL("{} ({})").format(sql.SQL(name), sql.Identifier(column))


def _name(role: str) -> str:
    return role[1:-1].replace('""', '"') if role.startswith('"') else role
