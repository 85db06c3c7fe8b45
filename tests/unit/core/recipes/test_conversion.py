from __future__ import annotations

import pytest

from schema_change.core.recipes.conversion import (
    Type,
    assignment,
    loses_nothing,
    may_reference,
    misfit,
    rewrites_nothing,
    rounds,
)


@pytest.mark.parametrize(
    ("spelled", "name", "modifiers"),
    [
        ("integer", "integer", ()),
        ("numeric(10,2)", "numeric", (10, 2)),
        ("character varying(20)", "character varying", (20,)),
        ("timestamp(3) with time zone", "timestamp with time zone", (3,)),
        ("double precision", "double precision", ()),
        ("integer[]", "", ()),
        ("public.mood", "", ()),
        ('"Mood"', "", ()),
    ],
)
def test_a_type_is_read_in_its_parts(spelled: str, name: str, modifiers: tuple[int, ...]) -> None:
    assert Type.parse(spelled) == Type(name, modifiers)


@pytest.mark.parametrize(
    ("old", "new", "nothing_rewritten", "nothing_lost"),
    [
        ("character varying(10)", "character varying(20)", True, True),
        ("character varying(10)", "text", True, True),
        ("text", "character varying", True, True),
        ("text", "character varying(10)", False, False),
        ("character varying(20)", "character varying(10)", False, False),
        ("numeric(8,2)", "numeric(12,2)", True, True),
        ("numeric(8,2)", "numeric", True, True),
        ("numeric(8,2)", "numeric(12,4)", False, True),
        ("numeric(8,2)", "numeric(9,4)", False, False),
        ("numeric", "numeric(9,4)", False, False),
        ("timestamp(3) without time zone", "timestamp without time zone", True, True),
        ("timestamp without time zone", "timestamp with time zone", False, False),
        ("integer", "bigint", False, True),
        ("bigint", "integer", False, False),
        ("integer", "numeric(12,2)", False, True),
        ("integer", "numeric(11,2)", False, False),
        ("integer", "double precision", False, True),
        ("bigint", "double precision", False, False),
        ("integer", "real", False, False),
        ("date", "timestamp without time zone", False, True),
        ("integer", "text", False, False),
        ("text", "integer", False, False),
        ("public.mood", "text", False, False),
    ],
)
def test_what_a_change_rewrites_and_loses(old: str, new: str, nothing_rewritten: bool, nothing_lost: bool) -> None:
    assert (rewrites_nothing(old, new), loses_nothing(old, new)) == (nothing_rewritten, nothing_lost)


def test_a_cast_never_cuts_a_value() -> None:
    assert assignment("character varying(10)") == "text"
    assert assignment("bigint") == "bigint"


def test_only_values_that_can_be_looked_at_without_an_error_are_counted() -> None:
    assert misfit("c", "integer", "bigint", 180000) is None
    assert misfit("c", "text", "integer", 180000) == "NOT pg_input_is_valid(\"c\"::text, 'integer')"
    assert "CASE WHEN" in (misfit("c", "text", "integer", 150000) or "")
    assert misfit("c", "text", "public.mood", 150000) is None
    assert misfit("c", "json", "jsonb", 180000) is None


def test_numbers_and_times_are_compared_there_and_back() -> None:
    assert rounds("numeric(8,3)", "numeric(8,2)")
    assert rounds("timestamp without time zone", "date")
    assert not rounds("integer", "bigint")
    assert not rounds("text", "integer")


@pytest.mark.parametrize(
    ("referencing", "referenced", "may"),
    [
        ("integer", "bigint", True),
        ("bigint", "integer", True),
        ("integer", "numeric", True),
        ("numeric", "integer", False),
        ("text", "character varying(9)", True),
        ("uuid", "uuid", True),
        ("text", "uuid", False),
        ("public.mood", "public.mood", True),
    ],
)
def test_types_that_a_foreign_key_can_compare(referencing: str, referenced: str, may: bool) -> None:
    assert may_reference(referencing, referenced) == may
