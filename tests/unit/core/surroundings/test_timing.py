from __future__ import annotations

import datetime as dt
import re
from pathlib import Path

import pytest

from schema_change.core.changes.spec import Change, Window
from schema_change.core.errors import ChangeFileError
from schema_change.core.surroundings.blackouts import load_blackouts
from schema_change.core.surroundings.models import Blackout, Surroundings
from schema_change.core.surroundings.timing import opens_at

NIGHT = Window(dt.time(22), dt.time(4), "Europe/Berlin")
HOLIDAYS = Blackout.model_validate({"from": "2024-12-20", "to": "2025-01-06", "reason": "holidays"})
SHORT = Blackout.model_validate(
    {"from": "2024-12-10 20:30", "to": "2024-12-10 23:00", "reason": "sale", "timezone": "Europe/Berlin"}
)


def change(window: Window | None, *blackouts: Blackout) -> Change:
    around = Surroundings(blackouts=list(blackouts))
    return Change("001", "a", Path("001_a"), "x", "weather", (), window=window, surroundings=around)


def at(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("window", "blackouts", "now", "expected"),
    [
        (None, (), "2024-12-10 12:00", None),
        (NIGHT, (), "2024-12-10 21:00", None),
        (NIGHT, (), "2024-12-10 02:59", None),
        (NIGHT, (), "2024-12-10 03:00", "2024-12-10 21:00"),
        (NIGHT, (), "2024-12-10 20:59", "2024-12-10 21:00"),
        (NIGHT, (), "2024-06-10 19:59", "2024-06-10 20:00"),  # summer time
        (None, (HOLIDAYS,), "2024-12-19 23:59", None),
        (None, (HOLIDAYS,), "2024-12-20 00:00", "2025-01-07 00:00"),
        (None, (HOLIDAYS,), "2025-01-07 00:00", None),
        (NIGHT, (HOLIDAYS,), "2024-12-20 12:00", "2025-01-07 00:00"),  # its end lies in a night
        (NIGHT, (SHORT,), "2024-12-10 12:00", "2024-12-10 22:00"),  # the window opens during a blackout
        (NIGHT, (SHORT, HOLIDAYS), "2024-12-10 20:00", "2024-12-10 22:00"),
        # The night in which 02:00 to 03:00 does not exist.
        (Window(dt.time(2), dt.time(3), "Europe/Berlin"), (), "2024-03-30 12:00", "2024-04-01 00:00"),
    ],
)
def test_it_opens_when_window_and_blackouts_allow(
    window: Window | None, blackouts: tuple[Blackout, ...], now: str, expected: str | None
) -> None:
    closed = opens_at(change(window, *blackouts), at(now))
    assert (closed and closed.opens_at) == (at(expected) if expected else None)


def test_blackouts_of_the_installation_hold_beside_those_of_the_change() -> None:
    closed = opens_at(change(None, HOLIDAYS), at("2024-12-10 20:00"), [SHORT])
    assert closed is not None
    assert (closed.opens_at, opens_at(change(None, HOLIDAYS), at("2024-12-10 20:00"))) == (at("2024-12-10 22:00"), None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- from: 2024-12-20", "expected keys"),
        ("blackouts:\n  - {from: 2024-12-20, to: 2024-12-19, reason: x}", "must be after from"),
        ("blackouts:\n\n  - {from: 2024-12-20, to: 2024-12-21}", "blackouts.0.reason"),
        ("blackout: []", "blackout"),
    ],
)
def test_a_file_of_blackouts_that_does_not_fit_is_named(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "blackouts.yaml"
    with pytest.raises(ChangeFileError, match="cannot be read"):
        load_blackouts(file)
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ChangeFileError, match=re.escape(str(file))) as caught:
        load_blackouts(file)
    assert message in str(caught.value)


def test_it_says_why_and_until_when() -> None:
    assert str(opens_at(change(None, HOLIDAYS), at("2024-12-24 12:00"))) == (
        "blackout until 2025-01-07 00:00 (holidays); open from 2025-01-07 00:00 UTC"
    )
    assert str(opens_at(change(NIGHT), at("2024-12-10 12:00"))) == (
        "outside 22:00–04:00 Europe/Berlin; open from 2024-12-10 21:00 UTC"
    )
