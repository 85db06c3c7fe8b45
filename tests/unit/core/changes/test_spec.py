from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from schema_change.core.changes.spec import Version, Window
from schema_change.core.errors import ChangeFileError


def test_numbered_come_first_then_dated_in_time() -> None:
    names = ["20240208143002_c", "20240208_1431_d", "010_b", "2_a", "20240208_0001_b", "20231231235959_a"]
    assert sorted(names, key=lambda n: Version.split(Path(n))[0]) == [
        "2_a",
        "010_b",
        "20231231235959_a",
        "20240208_0001_b",
        "20240208143002_c",
        "20240208_1431_d",
    ]


@pytest.mark.parametrize(
    ("one", "two"), [("4_a", "004_b"), ("20240208_1430_a", "20240208143000_b"), ("001_a", "001_b")]
)
def test_versions_that_could_be_confused_are_equal(one: str, two: str) -> None:
    assert Version.split(Path(one))[0] == Version.split(Path(two))[0]


@pytest.mark.parametrize(
    ("folder", "version", "name"),
    [
        ("20240208143002_add_hours", "20240208143002", "add_hours"),
        ("20240208_0099_add_hours", "20240208_0099", "add_hours"),
        ("004_add_audit_log", "004", "add_audit_log"),
    ],
)
def test_version_and_name_come_from_the_folder(folder: str, version: str, name: str) -> None:
    found, rest = Version.split(Path("x") / folder)
    assert (found.text, rest) == (version, name)


@pytest.mark.parametrize(
    "folder",
    [
        "add_hours",
        "004",
        "004_",
        "004_Add",
        "004-add",
        "004_add-hours",
        "004_ädd",
        "20240208_add",
        "20241308143002_add",
        "20240208253002_add",
        "20240230_0001_add",
        "202402081430_add",
        "20240208143002_" + "a" * 200,
        "٠٠٤_x",
    ],
)
def test_other_names_are_refused_with_the_remedy(folder: str) -> None:
    with pytest.raises(ChangeFileError) as caught:
        Version.split(Path("changes") / folder)
    assert caught.value.file == f"changes/{folder}"
    assert "YYYYMMDDHHMMSS" in (caught.value.hint or "")


def test_a_window_can_span_midnight_and_knows_its_zone() -> None:
    night = Window(dt.time(22), dt.time(4), "Europe/Berlin")
    assert night.contains(dt.datetime(2024, 1, 10, 21, 0, tzinfo=dt.UTC))
    assert not night.contains(dt.datetime(2024, 1, 10, 20, 59, tzinfo=dt.UTC))
    assert night.contains(dt.datetime(2024, 1, 10, 2, 59, tzinfo=dt.UTC))
    assert not night.contains(dt.datetime(2024, 1, 10, 3, 0, tzinfo=dt.UTC))
    assert str(night) == "22:00–04:00 Europe/Berlin"
    assert not Window(dt.time(9), dt.time(17)).contains(dt.datetime(2024, 1, 10, 17, 0, tzinfo=dt.UTC))
