"""Qualified names of tables, parsed and quoted in one place."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from psycopg import sql

MAX_IDENTIFIER_BYTES = 63
_PART = re.compile(r'"(?:[^"]|"")+"|[^".]+')


def quote(identifier: str) -> str:
    """Return an identifier in double quotes."""
    return sql.Identifier(identifier).as_string(None)


def split(text: str) -> list[str]:
    """Split a dotted name into its parts, unquoted; a part without quotes is folded to lower case."""
    parts = _PART.findall(text.strip())
    if not parts or ".".join(parts) != text.strip():
        raise ValueError(f"{text!r} is not a name; write schema.table, with double quotes where needed")
    return [p[1:-1].replace('""', '"') if p.startswith('"') else p.lower() for p in parts]


@dataclass(frozen=True, slots=True, order=True)
class Table:
    """A table by schema and name, both as the catalog spells them."""

    schema: str
    name: str

    @classmethod
    def parse(cls, text: str, default_schema: str = "public") -> Table:
        """Read ``table`` or ``schema.table``."""
        parts = split(text)
        if len(parts) > 2:
            raise ValueError(f"{text!r} has more than two parts; write schema.table")
        return cls(*parts) if len(parts) == 2 else cls(default_schema, parts[0])

    @property
    def identifier(self) -> sql.Identifier:
        """Return the name for composing SQL."""
        return sql.Identifier(self.schema, self.name)

    @property
    def quoted(self) -> str:
        """Return ``"schema"."name"``."""
        return self.identifier.as_string(None)

    def __str__(self) -> str:
        return ".".join(p if re.fullmatch(r"[a-z_][a-z0-9_$]*", p) else quote(p) for p in (self.schema, self.name))


def short_name(*parts: str) -> str:
    """Join parts to an identifier of at most 63 bytes; what is too long is cut and made unique by a hash."""
    name = "_".join(parts)
    if len(name.encode()) <= MAX_IDENTIFIER_BYTES:
        return name
    return _cut(name, name)


def hashed_name(*parts: str) -> str:
    """Join parts to an identifier that no other parts give: ``a_b, c`` and ``a, b_c`` differ by the hash at the end."""
    return _cut("_".join(parts), "\0".join(parts))


def _cut(name: str, meaning: str) -> str:
    digest = hashlib.sha256(meaning.encode()).hexdigest()[:8]
    head = name.encode()[: MAX_IDENTIFIER_BYTES - 9].decode(errors="ignore")
    return f"{head}_{digest}"
