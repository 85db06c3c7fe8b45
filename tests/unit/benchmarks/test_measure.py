"""What the frame of the benchmark makes of its measurements."""

from __future__ import annotations

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
        (Goal(2), (2.0,), "met"),
        (None, (1.0, 2.0), ""),
    ],
)
def test_a_verdict_is_undecided_when_the_spread_spans_the_goal(
    goal: Goal | None, values: tuple[float, ...], verdict: str
) -> None:
    assert Figure("f", values, goal).verdict == verdict


def test_the_spread_is_the_middle_half_so_that_one_bad_round_decides_nothing() -> None:
    figure = Figure("f", (1.0, 1.0, 1.0, 1.0, 9.0), Goal(1.1))
    assert (figure.median, figure.spread, figure.verdict) == (1.0, (1.0, 1.0), "met")


def test_a_works_verdict_is_its_worst_and_its_value_its_first() -> None:
    figures = [Figure("a", (2.0,), Goal(3)), Figure("b", (2.0,), Goal(1)), Figure("c", (0.5, 1.5), Goal(1))]
    result = Result("B1", "work", figures, {}).to_json()
    assert (result["value"], result["goal"], result["met"]) == (2.0, "≤ 3", "missed")
    assert Result("B1", "work", figures[::2], {}).verdict == "undecided"
    assert Result("B1", "work", [Figure("a", (2.0,))], {}).verdict == ""


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


def test_a_percentile_is_a_value_that_was_measured() -> None:
    assert percentile(range(1, 101), 0.99) == 100
    assert percentile([5.0], 0.5) == 5.0
