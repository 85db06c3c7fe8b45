from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schema_change.core.names import MAX_IDENTIFIER_BYTES, Table, hashed_name, quote, short_name, split

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=40)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("readings", ["readings"]),
        ("Public.Readings", ["public", "readings"]),
        ('"Public"."Read""ings"', ["Public", 'Read"ings']),
        ('tenant."a.b"', ["tenant", "a.b"]),
        ("  public.readings ", ["public", "readings"]),
    ],
)
def test_a_dotted_name_is_split_as_the_server_would(text: str, parts: list[str]) -> None:
    assert split(text) == parts


@pytest.mark.parametrize("text", ["", " ", ".", "a.", ".a", "a..b", 'a"b', '"a', '"a"b', '""'])
def test_what_is_no_name_is_refused_with_what_to_write(text: str) -> None:
    with pytest.raises(ValueError, match=r"write schema\.table"):
        split(text)


def test_a_table_without_a_schema_is_in_the_default_one() -> None:
    assert Table.parse("readings") == Table("public", "readings")
    assert Table.parse("readings", "tenant") == Table("tenant", "readings")
    with pytest.raises(ValueError, match="more than two parts"):
        Table.parse("db.public.readings")


@given(NAMES, NAMES)
def test_a_name_survives_being_written_and_read(schema: str, name: str) -> None:
    table = Table(schema, name)
    assert Table.parse(table.quoted) == table
    assert Table.parse(str(table)) == table
    assert table.quoted == f"{quote(schema)}.{quote(name)}"


def test_a_plain_name_is_shown_without_quotes() -> None:
    assert str(Table("public", "readings")) == "public.readings"
    assert str(Table("Tenant", "a b")) == '"Tenant"."a b"'


@given(st.lists(NAMES, min_size=1, max_size=5))
def test_a_short_name_always_fits(parts: list[str]) -> None:
    name = short_name(*parts)
    assert len(name.encode()) <= MAX_IDENTIFIER_BYTES
    if len("_".join(parts).encode()) <= MAX_IDENTIFIER_BYTES:
        assert name == "_".join(parts)


def test_long_names_that_begin_alike_stay_apart() -> None:
    names = {short_name("schema_change", "ü" * 40, str(n)) for n in range(100)}
    assert len(names) == 100
    assert short_name("a" * 70) == short_name("a" * 70)


def test_a_hashed_name_tells_parts_apart_that_join_to_the_same() -> None:
    names = {hashed_name("fill", "order", "item_price"), hashed_name("fill", "order_item", "price")}
    assert len(names) == 2
    assert all(name.startswith("fill_order_item_price_") for name in names)
    assert len(hashed_name("ü" * 40, "b").encode()) <= MAX_IDENTIFIER_BYTES
