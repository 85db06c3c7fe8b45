from __future__ import annotations

from dataclasses import replace
from typing import cast

import pytest

from schema_change.core.database import Connection
from schema_change.core.errors import LockNotAvailable
from schema_change.core.execution.blockers import Blocker
from schema_change.core.execution.patience import LockSettings, Patience

READER = Blocker(7, "ann", "psql", "active", 1.0, None, "session", "1/2")


class FakeClock:
    """Stands in for module time: sleeping is what moves it."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    fake = FakeClock()
    monkeypatch.setattr("schema_change.core.execution.patience.time", fake)
    return fake


@pytest.fixture
def notes() -> list[str]:
    return []


@pytest.fixture
def patience(clock: FakeClock, notes: list[str]) -> Patience:
    return Patience("a lock", LockSettings(), cast("Connection", None), notes.append, notes.append)


def test_who_was_there_all_the_time_is_never_queued_behind(patience: Patience, clock: FakeClock) -> None:
    for waited in range(0, 600, 20):
        clock.now = 1_000.0 + waited
        assert patience.not_about_to_end([replace(READER, age_s=waited + 0.2)])


def test_young_transactions_are_attempted_and_older_newcomers_after_a_while(
    patience: Patience, clock: FakeClock
) -> None:
    assert not patience.not_about_to_end([replace(READER, age_s=0.005)])
    assert patience.not_about_to_end([replace(READER, age_s=0.05)])
    clock.now += 0.4
    assert not patience.not_about_to_end([replace(READER, age_s=0.05)])
    assert patience.not_about_to_end([READER])
    clock.now += 5
    assert not patience.not_about_to_end([READER])


def test_a_transaction_whose_age_is_hidden_is_timed_by_us(patience: Patience, clock: FakeClock) -> None:
    hidden = replace(READER, age_s=None)
    assert not patience.not_about_to_end([hidden])
    clock.now += 0.2
    assert patience.not_about_to_end([hidden])
    assert not patience.not_about_to_end([replace(hidden, transaction="1/3")])


def test_a_wraparound_vacuum_is_always_waited_out(patience: Patience) -> None:
    assert patience.not_about_to_end([replace(READER, age_s=0.0, kind="wraparound")])


def test_pauses_end_with_the_error_and_notes_are_rare(patience: Patience, clock: FakeClock, notes: list[str]) -> None:
    def wait_for_ever() -> None:
        while True:
            patience.without_queueing((READER,))

    with pytest.raises(LockNotAvailable, match=r"no a lock within 600 s; blocked by session 7"):
        wait_for_ever()
    assert clock.now == pytest.approx(1_600)
    assert 50 < len(notes) <= 61
