"""The proof of the demo can fail: a check that cannot is none."""

from __future__ import annotations

import dataclasses

import pytest

from demo import proof
from demo.proof import State

BEFORE = State("CREATE TABLE …", {"flights": 2}, {"flights": "abc" * 10}, {"flights": "v1.0.0"})


def test_cold_hours_are_some_and_not_everywhere() -> None:
    hours = proof.cold_hours()
    assert len(hours) == 12
    assert hours["EWR", 2013, 1] == 16
    assert hours["JFK", 2013, 2] == 1  # one broken reading, on an evening in May
    assert hours["LGA", 2013, 3] == 0


def test_an_untouched_database_passes() -> None:
    assert all(check.ok for check in proof.check_undone(BEFORE, dataclasses.replace(BEFORE), "failed"))


@pytest.mark.parametrize(
    "after",
    [
        dataclasses.replace(BEFORE, schema="CREATE TABLE … with a column more"),
        dataclasses.replace(BEFORE, rows={"flights": 1}),
        dataclasses.replace(BEFORE, checksums={"flights": "abd" * 10}),
        dataclasses.replace(BEFORE, versions={"flights": "v1.1.0"}),
    ],
)
def test_anything_left_behind_is_found(after: State) -> None:
    assert sum(not check.ok for check in proof.check_undone(BEFORE, after, "failed")) == 1


def test_a_run_that_did_not_fail_is_found() -> None:
    assert not proof.check_undone(BEFORE, BEFORE, "success")[0].ok
