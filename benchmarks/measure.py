"""Measure side by side: contenders take turns in one run, and every figure is a ratio within a round."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
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
    """A median of one value per round, with the middle half of them as its spread; without a goal it is only shown."""

    name: str
    values: tuple[float, ...]
    goal: Goal | None = None
    unit: str = "×"

    @property
    def median(self) -> float:
        """Return the median."""
        return statistics.median(self.values)

    @property
    def spread(self) -> tuple[float, float]:
        """Return the first and the third quartile; the value itself when there is only one."""
        if len(self.values) < 2:
            return self.values[0], self.values[0]
        low, _, high = statistics.quantiles(self.values, n=4, method="inclusive")
        return low, high

    @property
    def verdict(self) -> str:
        """Return met, missed, undecided, or an empty text without a goal."""
        return self.goal.verdict(*self.spread) if self.goal else ""

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data."""
        low, high = self.spread
        return {
            "name": self.name,
            "value": _rounded(self.median),
            "unit": self.unit,
            "spread": [_rounded(low), _rounded(high)],
            "lowest": _rounded(min(self.values)),
            "highest": _rounded(max(self.values)),
            "goal": str(self.goal) if self.goal else None,
            "met": self.verdict or None,
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
            "value": first["value"],
            "spread": first["spread"],
            "goal": first["goal"],
            "met": self.verdict,
            "figures": [f.to_json() for f in self.figures],
            "raw": {name: [_rounded(v) for v in values] for name, values in self.raw.items()},
            "setting": dict(self.setting),
            "notes": list(self.notes),
        }


def take_turns(
    contenders: Mapping[str, Callable[[], float | None]],
    rounds: int,
    *,
    between: Callable[[], object] = lambda: None,
    say: Callable[[str], None] = lambda _line: None,
) -> Rounds:
    """Run every contender once per round, in an order that moves on by one each round; return their seconds.

    A contender that returns a number has measured itself; else it is timed. ``between`` runs before each, untimed.
    """
    found: Rounds = {name: [] for name in contenders}
    names = list(contenders)
    for number in range(rounds):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
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
    """Return the value that this part (0 to 1) of the values is not above."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


def as_dict(value: Any) -> dict[str, Any]:
    """Return a dataclass as plain data, for a setting."""
    return asdict(value)


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
