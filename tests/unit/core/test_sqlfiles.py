from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from schema_change.core import sqlfiles

PACKAGE = Path(sqlfiles.__file__).parents[1]
NAME = re.compile(r"^-- name: ([a-z_0-9]+)$", re.MULTILINE)


def calls() -> Iterator[tuple[str, str]]:
    """Yield file and block of every call of block() with two literals."""
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or getattr(node.func, "attr", getattr(node.func, "id", "")) != "block":
                continue
            words = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
            if len(words) == 2:
                yield words[0], words[1]


def files() -> list[Path]:
    return sorted(f for name in ("queries", "checks") for f in (sqlfiles.root() / name).glob("*.sql"))


def test_in_the_tree_the_trees_own_files_are_read() -> None:
    assert sqlfiles.root() == PACKAGE.parents[1] / "include" / "sql"


def test_a_block_ends_where_the_next_begins() -> None:
    text = sqlfiles.block("queries/journal", "installed_versions").as_string(None)
    assert text == "SELECT v.version FROM schema_change.registry_version AS v"


def test_an_unknown_block_or_file_is_an_error() -> None:
    with pytest.raises(KeyError, match="no_such_block"):
        sqlfiles.block("queries/journal", "no_such_block")
    with pytest.raises(FileNotFoundError):
        sqlfiles.block("queries/no_such_file", "x")


def test_every_block_that_is_asked_for_is_there() -> None:
    asked = set(calls())
    assert len(asked) > 30
    for file, name in asked:
        assert sqlfiles.block(file, name).as_string(None), (file, name)


@pytest.mark.parametrize("file", files(), ids=lambda f: f.stem)
def test_no_name_is_given_twice_and_every_line_of_it_is_read_as_one(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    names = NAME.findall(text)
    assert names
    assert len(names) == len(set(names))
    assert text.count("-- name:") == len(names)


def test_no_block_is_left_that_nothing_uses() -> None:
    code = "\n".join(f.read_text(encoding="utf-8") for f in PACKAGE.rglob("*.py"))
    words = set(re.findall(r'"([a-z_0-9]+)"', code))
    unused = {f"{f.stem}.{n}" for f in files() for n in NAME.findall(f.read_text(encoding="utf-8")) if n not in words}
    assert unused == set()
