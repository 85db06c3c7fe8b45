"""Privileges of a relation, given again exactly as the catalog shows them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from psycopg import sql

from schema_change.core import sqlfiles
from schema_change.core.catalog.model import Relation
from schema_change.core.errors import PlanError
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
    for item in relation.grants:
        found += _grants(relation, item, None)
    for column in relation.columns:
        for item in column.grants:
            found += _grants(relation, item, column.name)
    return tuple(found)


def _grants(relation: Relation, item: str, column: str | None) -> Iterator[str]:
    match = _ITEM.fullmatch(item)
    if match is None or _name(match["by"]) != relation.owner:
        raise PlanError(
            f"the privilege {item} on {relation.table} was not granted by its owner {relation.owner}, "
            "so it could not be given again as it was",
            hint="let the owner grant it, then run this again",
        )
    role = sql.Identifier(_name(match["role"])) if match["role"] else sql.SQL("PUBLIC")
    letters = _LETTER.findall(match["letters"])
    for option in ("", "*"):
        names = [_PRIVILEGES[letter] for letter, star in letters if star == option]
        if names:
            yield text(
                sql.SQL("GRANT {} ON {} TO {}{}").format(
                    sql.SQL(", ").join(_privilege(name, column) for name in names),
                    relation.table.identifier,
                    role,
                    sql.SQL(" WITH GRANT OPTION" if option else ""),
                )
            )


def _privilege(name: str, column: str | None) -> sql.Composable:
    return sql.SQL(name) if column is None else sql.SQL("{} ({})").format(sql.SQL(name), sql.Identifier(column))


def _name(role: str) -> str:
    return role[1:-1].replace('""', '"') if role.startswith('"') else role
