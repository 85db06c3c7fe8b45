"""Measure side by side: contenders take turns in one run, and every figure is a ratio within a round."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

#: Seconds of each contender, one per round.
Rounds = dict[str, list[float]]


@dataclass(frozen=True)
class Goal:
    """What a ratio should be: at most, or at least, the bound."""

    bound: float
    at_least: bool = False

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.bound:g}"

    def verdict(self, low: float, high: float) -> str:
        """Return ``met``, ``missed``, or ``undecided`` when the spread spans the bound."""
        good, bad = (low >= self.bound, high < self.bound) if self.at_least else (high <= self.bound, low > self.bound)
        return "met" if good else "missed" if bad else "undecided"


@dataclass(frozen=True)
class Figure:
    """A median of one value per round, with the middle half of them as its spread; without a goal it is only shown.

    ``exact`` is a bound that must hold for every event: its values are those of events, and the worst of them decides.
    ``peer`` is a comparison with a peer, which is shown as *behind* when it is worse than 1, with a goal or without.
    ``more_is_better`` says so of a figure without a goal. A value that could not be measured is ``nan``.
    """

    name: str
    values: tuple[float, ...]
    goal: Goal | None = None
    unit: str = "×"
    peer: bool = False
    exact: bool = False
    more_is_better: bool = False

    @property
    def known(self) -> tuple[float, ...]:
        """Return the values that could be measured."""
        return tuple(value for value in self.values if not math.isnan(value))

    @property
    def rises(self) -> bool:
        """Tell whether more is better."""
        return self.goal.at_least if self.goal else self.more_is_better

    @property
    def value(self) -> float:
        """Return the median, or the worst value of an exact figure; nan without any."""
        if not self.known:
            return math.nan
        if self.exact:
            return min(self.known) if self.rises else max(self.known)
        return statistics.median(self.known)

    @property
    def spread(self) -> tuple[float, float]:
        """Return the first and the third quartile; lowest and highest of an exact figure or a single value."""
        if not self.known:
            return math.nan, math.nan
        if self.exact or len(self.known) < 2:
            return min(self.known), max(self.known)
        low, _, high = statistics.quantiles(self.known, n=4, method="inclusive")
        return low, high

    @property
    def verdict(self) -> str:
        """Return met, missed, undecided, or an empty text without a goal.

        What was not measured in every round, or once only, is not met: nobody knows what it is another time.
        """
        if not self.goal:
            return ""
        found = self.goal.verdict(self.value, self.value) if self.exact else self.goal.verdict(*self.spread)
        is_sure = bool(self.known) and len(self.known) == len(self.values) and (self.exact or len(self.known) > 1)
        return found if is_sure or found == "missed" else "undecided"

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {
            "name": self.name,
            "value": _rounded(self.value),
            "unit": self.unit,
            "spread": [_rounded(v) for v in self.spread],
            "lowest": _rounded(min(self.known, default=math.nan)),
            "highest": _rounded(max(self.known, default=math.nan)),
            "goal": str(self.goal) if self.goal else None,
            "met": self.verdict or None,
            "peer": self.peer,
            "exact": self.exact,
            "more_is_better": self.rises,
            "values": [_rounded(v) for v in self.values],
        }


@dataclass
class Result:
    """What one work gave: its first figure is its value. ``raw`` are seconds (or what ``notes`` say) per round."""

    key: str
    title: str
    figures: list[Figure]
    raw: Mapping[str, Sequence[float]]
    setting: Mapping[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        """Return the worst verdict of its figures."""
        found = {f.verdict for f in self.figures}
        return next((v for v in ("missed", "undecided", "met") if v in found), "")

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data."""
        first = self.figures[0].to_json()
        return {
            "title": self.title,
            **{name: first[name] for name in ("name", "value", "unit", "spread", "goal", "met")},
            "all_met": self.verdict or None,
            "figures": [f.to_json() for f in self.figures],
            "raw": {name: [_rounded(v) for v in values] for name, values in self.raw.items()},
            "setting": dict(self.setting),
            "notes": list(self.notes),
        }


def take_turns(
    contenders: Mapping[str, Callable[[], float | None]],
    rounds: int,
    *,
    only: Mapping[str, int] | None = None,
    between: Callable[[], object] = lambda: None,
    say: Callable[[str], None] = lambda _line: None,
) -> Rounds:
    """Run every contender once per round, in an order that moves on by one each round; return their seconds.

    A contender that returns a number has measured itself; else it is timed. ``between`` runs before each, untimed.
    ``only`` names those that take part in so many rounds only, the first; the rest of theirs is nan.
    """
    found: Rounds = {name: [] for name in contenders}
    names = list(contenders)
    for number in range(rounds):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            if number >= (only or {}).get(name, rounds):
                found[name].append(math.nan)
                continue
            between()
            started = time.perf_counter()
            own = contenders[name]()
            seconds = time.perf_counter() - started if own is None else own
            found[name].append(seconds)
            say(f"round {number + 1}/{rounds}: {name} {seconds:.3f} s")
    return found


def ratio(rounds: Mapping[str, Sequence[float]], name: str, to: str) -> tuple[float, ...]:
    """Return, round by round, how many times the seconds of ``to`` the seconds of ``name`` are."""
    return tuple(ours / theirs for ours, theirs in zip(rounds[name], rounds[to], strict=True))


def speed(rounds: Mapping[str, Sequence[float]], name: str, to: str) -> tuple[float, ...]:
    """Return, round by round, how many times as fast as ``to`` ``name`` is."""
    return ratio(rounds, to, name)


def noise(rounds: Mapping[str, Sequence[float]], one: str, again: str) -> Figure:
    """Return the A/A figure: the same thing done twice in each round; what it is off 1 is the machine's noise."""
    return Figure(f"A/A: {one} against itself", ratio(rounds, one, again))


@contextmanager
def stopwatch() -> Iterator[Callable[[], float]]:
    """Yield a function that returns the seconds so far, or in all once the block has ended."""
    started = time.perf_counter()
    ended: list[float] = []
    yield lambda: (ended[0] if ended else time.perf_counter()) - started
    ended.append(time.perf_counter())


def percentile(values: Sequence[float], part: float) -> float:
    """Return the smallest value that at least this part (0 to 1) of the values is not above; nan for no values."""
    if not values:
        return math.nan
    # Rounded because 0.07 * 100 is a little more than 7.
    place = math.ceil(round(part * len(values), 9)) - 1
    return sorted(values)[max(place, 0)]


def _rounded(value: float) -> float | None:
    """Return what JSON can say: it has no nan."""
    return float(f"{value:.4g}") if math.isfinite(value) else None
