"""Load static SQL from ``include/sql``: whole scripts, or named blocks of a file.

A block starts at a line ``-- name: <name>`` and ends at the next one. Parameters are psycopg's
(``%(name)s``); identifiers are filled in with :meth:`psycopg.sql.SQL.format` (``{table}``).
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from psycopg import sql

_BLOCK = re.compile(r"^-- name: (?P<name>[a-z_0-9]+)[ \t]*$", re.MULTILINE)
_PACKAGE = Path(__file__).resolve().parents[1]


@cache
def root() -> Path:
    """Return the folder of the SQL files: the tree's own when run from source, else the wheel's."""
    tree = _PACKAGE.parents[1] / "include" / "sql"
    return tree if (tree / "registry").is_dir() else _PACKAGE / "sql"


def script(path: str) -> str:
    """Return a whole file below the SQL folder, such as ``registry/001_journal.sql``."""
    return (root() / path).read_text(encoding="utf-8")


@cache
def _blocks(file: str) -> dict[str, str]:
    parts = _BLOCK.split(script(f"{file}.sql"))
    return {name: body.strip().rstrip(";") for name, body in zip(parts[1::2], parts[2::2], strict=True)}


def block(file: str, name: str) -> sql.SQL:
    """Return the block ``name`` of ``<file>.sql``, for example ``block("queries/journal", "start_step")``."""
    return sql.SQL(_blocks(file)[name])
