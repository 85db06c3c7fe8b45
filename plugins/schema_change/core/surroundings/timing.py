"""When a change may go on: its window, and the blackouts."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from schema_change.core.changes.spec import Change
from schema_change.core.surroundings.models import Blackout

#: The stages that touch what applications use.
WITHIN_WINDOW = frozenset({"migrate", "cutover", "contract"})


@dataclass(frozen=True, slots=True)
class Closed:
    """Why a change may not go on now, and from when on it may."""

    opens_at: dt.datetime
    reason: str

    def __str__(self) -> str:
        return f"{self.reason}; open from {self.opens_at:%Y-%m-%d %H:%M %Z}"


def opens_at(change: Change, now: dt.datetime, blackouts: Sequence[Blackout] = ()) -> Closed | None:
    """Return until when, and why, a change may not go on at an aware moment; None when it may.

    ``blackouts`` are the installation's, beside those of the change.
    """
    moment, reason, closed = now, "", (*change.surroundings.blackouts, *blackouts)
    while True:
        blackout = next((b for b in closed if b.start <= moment < b.end), None)
        if blackout is not None:
            moment, why = blackout.end, f"blackout until {blackout.end:%Y-%m-%d %H:%M} ({blackout.reason})"
        elif change.window is not None and not change.window.contains(moment):
            moment, why = change.window.next_start(moment), f"outside {change.window}"
        else:
            return Closed(moment, reason) if reason else None
        reason = reason or why


def waits(change: Change) -> bool:
    """Tell whether a stage waits for its time, or refuses."""
    return change.window is None or change.window.outside == "wait"
