from __future__ import annotations

import re

import pytest

from schema_change.core import errors
from schema_change.core.errors import ChangeFileError, LockNotAvailable, OwnershipError, SchemaChangeError


def tree(of: type[SchemaChangeError]) -> set[type[SchemaChangeError]]:
    found = {of}
    for sub in of.__subclasses__():
        found |= tree(sub)
    return {e for e in found if e.__module__ == errors.__name__}


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    drawn = re.findall(r"──\s(\w+)", errors.__doc__ or "")
    assert {"SchemaChangeError", *drawn} == {e.__name__ for e in tree(SchemaChangeError)}


def test_only_what_can_help_to_repeat_is_retryable() -> None:
    assert {e for e in tree(SchemaChangeError) if e.retryable} == {LockNotAvailable, OwnershipError}


@pytest.mark.parametrize("kind", sorted(tree(SchemaChangeError) - {ChangeFileError}, key=str))
def test_an_error_shows_its_remedy_and_keeps_its_data(kind: type[SchemaChangeError]) -> None:
    error = kind("it broke", hint="mend it", data={"rows": 3})
    assert str(error) == "it broke\n  → mend it"
    assert (error.message, error.hint, error.data) == ("it broke", "mend it", {"rows": 3})
    assert str(kind("it broke")) == "it broke"


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ({}, "change.yaml: wrong"),
        ({"line": 3}, "change.yaml:3: wrong"),
        ({"line": 3, "key": "operations"}, "change.yaml:3: operations: wrong"),
    ],
)
def test_a_broken_file_is_shown_with_line_and_key(where: dict[str, object], said: str) -> None:
    assert ChangeFileError("wrong", file="change.yaml", **where).message == said  # type: ignore[arg-type]
