"""What the frame of the benchmark makes of its measurements."""

from __future__ import annotations

import math
from functools import partial

import pytest

from benchmarks.measure import Figure, Goal, Result, noise, percentile, ratio, speed, take_turns

ROUNDS = {"ours": [1.0, 2.0], "theirs": [2.0, 3.0], "again": [2.0, 6.0]}


@pytest.mark.parametrize(
    ("goal", "values", "verdict"),
    [
        (Goal(1.1), (1.0, 1.05, 1.1), "met"),
        (Goal(1.1), (1.2, 1.3, 1.4), "missed"),
        (Goal(1.1), (1.0, 1.1, 1.3), "undecided"),
        (Goal(0.95, at_least=True), (0.95, 1.0, 1.0), "met"),
        (Goal(0.95, at_least=True), (0.9, 0.91, 0.94), "missed"),
        (Goal(0.95, at_least=True), (0.9, 0.96, 1.2), "undecided"),
        (Goal(2), (2.0,), "undecided"),
        (Goal(2), (3.0,), "missed"),
        (Goal(2), (1.0, math.nan, 1.0), "undecided"),
        (Goal(2), (math.nan,), "undecided"),
        (Goal(2), (), "undecided"),
        (None, (1.0, 2.0), ""),
    ],
)
def test_a_verdict_is_undecided_when_the_spread_spans_the_goal(
    goal: Goal | None, values: tuple[float, ...], verdict: str
) -> None:
    assert Figure("f", values, goal).verdict == verdict


def test_the_spread_is_the_middle_half_so_that_one_bad_round_decides_nothing() -> None:
    figure = Figure("f", (1.0, 1.0, 1.0, 1.0, 9.0), Goal(1.1))
    assert (figure.value, figure.spread, figure.verdict) == (1.0, (1.0, 1.0), "met")


def test_a_works_value_goal_and_verdict_are_those_of_its_first_figure_beside_the_worst_verdict() -> None:
    figures = [Figure("a", (2.0, 2.0), Goal(3)), Figure("b", (2.0,), Goal(1)), Figure("c", (0.5, 1.5), Goal(1))]
    result = Result("B1", "work", figures, {}).to_json()
    assert (result["name"], result["value"], result["goal"], result["met"]) == ("a", 2.0, "≤ 3", "met")
    assert result["all_met"] == "missed"
    assert Result("B1", "work", figures[::2], {}).verdict == "undecided"
    assert Result("B1", "work", [Figure("a", (2.0,))], {}).verdict == ""


@pytest.mark.parametrize(
    ("goal", "values", "worst", "verdict"),
    [
        (Goal(100), (12.0, 99.0, 40.0), 99.0, "met"),
        (Goal(100), (12.0, 13.0, 14.0, 101.0), 101.0, "missed"),
        (Goal(100), (99.0,), 99.0, "met"),
        (Goal(1, at_least=True), (2.0, 0.9), 0.9, "missed"),
        (Goal(100), (12.0, math.nan), 12.0, "undecided"),
        (Goal(100), (101.0, math.nan), 101.0, "missed"),
    ],
)
def test_the_worst_event_decides_about_a_bound_that_must_always_hold(
    goal: Goal, values: tuple[float, ...], worst: float, verdict: str
) -> None:
    figure = Figure("longest stall", values, goal, "ms", exact=True)
    assert (figure.value, figure.verdict) == (worst, verdict)


def test_what_could_not_be_measured_is_null_in_json() -> None:
    figure = Figure("f", (math.nan, 2.0, 4.0)).to_json()
    assert (figure["value"], figure["values"], figure["lowest"]) == (3.0, [None, 2.0, 4.0], 2.0)
    nothing = Figure("f", (), Goal(1)).to_json()
    assert (nothing["value"], nothing["spread"], nothing["met"]) == (None, [None, None], "undecided")


def test_ratios_are_taken_within_a_round() -> None:
    assert ratio(ROUNDS, "theirs", "ours") == (2.0, 1.5)
    assert speed(ROUNDS, "ours", "theirs") == (2.0, 1.5)
    assert noise(ROUNDS, "theirs", "again").values == (1.0, 0.5)


def test_contenders_take_turns_in_an_order_that_moves_on_and_may_measure_themselves() -> None:
    calls: list[str] = []

    def contender(name: str) -> float:
        calls.append(name)
        return float(len(calls))

    rounds = take_turns({name: partial(contender, name) for name in "abc"}, 3, between=lambda: calls.append("-"))
    assert "".join(calls) == "-a-b-c-b-c-a-c-a-b"
    assert rounds["a"] == [2.0, 12.0, 16.0]


def test_a_contender_may_take_part_in_the_first_rounds_only() -> None:
    calls: list[str] = []
    turns = {"a": lambda: 1.0, "b": lambda: 2.0}
    rounds = take_turns(turns, 3, only={"b": 1}, between=lambda: calls.append("-"))
    assert len(calls) == 4
    assert rounds["a"] == [1.0, 1.0, 1.0]
    assert Figure("f", ratio(rounds, "b", "a")).known == (2.0,)


def test_a_percentile_is_a_value_that_was_measured() -> None:
    assert percentile(range(1, 101), 0.99) == 99
    assert percentile(range(1, 101), 0.07) == 7
    assert percentile([3.0, 1.0, 2.0], 1) == 3.0
    assert percentile([4.0, 2.0, 3.0, 1.0], 0) == 1.0
    assert percentile([5.0], 0.5) == 5.0
    assert math.isnan(percentile([], 0.99))
