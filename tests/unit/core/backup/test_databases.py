from __future__ import annotations

import pytest

from schema_change.core.backup.databases import list_items


@pytest.mark.parametrize(
    ("value", "items"),
    [
        ('"$user", public', ["$user", "public"]),
        ('"a,b", "c""d",e ', ["a,b", 'c"d', "e"]),
        ("", []),
        ('""', [""]),
    ],
)
def test_a_list_setting_is_split_into_names(value: str, items: list[str]) -> None:
    assert list_items(value) == items
