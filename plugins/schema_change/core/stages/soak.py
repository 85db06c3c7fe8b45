"""Stage ``soak``: watch services and metrics for a while, with both shapes in step, before the old one is removed."""

from __future__ import annotations

import datetime as dt
from typing import Any

from schema_change.core import sqlfiles
from schema_change.core.errors import ValidationFailed
from schema_change.core.model import to_json
from schema_change.core.stages.request import StageResult
from schema_change.core.stages.session import Session
from schema_change.core.stages.validate import check_shape
from schema_change.core.surroundings.models import Soak
from schema_change.core.surroundings.watch import bad, look_around
from schema_change.core.templates import duration
from schema_change.core.wording import counted


def soak(session: Session) -> StageResult:
    """Look once; return ``waiting`` until the time is over and the last look was good.

    The journal keeps when it began, also for the next try when a look could not be had, and how many looks in a row
    were bad. Raises ValidationFailed when those are as many as the change allows, or when what the change made is gone:
    the run is then rolled back.
    """
    wanted = session.surroundings.soak
    if wanted is None:
        return StageResult("soak", "skipped", "the change has no soak")
    earlier = session.journal.stages()["soak"].result
    if "count" not in earlier:
        session.journal.event("soak_begun", f"for {wanted.hours:g} hours")
    check_shape(session)
    looks = look_around(session.surroundings, patient=False)
    wrong = bad(looks)
    data: dict[str, Any] = {
        "count": earlier.get("count", 0) + 1,
        "bad_in_a_row": earlier.get("bad_in_a_row", 0) + 1 if wrong else 0,
        "looks": list(map(to_json, looks)),
    }
    if wrong:
        message = "; ".join(map(str, wrong))
        session.journal.event("soak", f"bad look {data['bad_in_a_row']} of {wanted.failures}: {message}")
        if data["bad_in_a_row"] >= wanted.failures:
            raise ValidationFailed(
                f"turned bad after {duration(_waited(session))} of soak: {message}",
                hint="the run is rolled back",
                data=data,
            )
    left = wanted.hours * 3600 - _waited(session)
    if left > 0 or wrong:
        return _again(wanted, left, data)
    return StageResult("soak", "done", f"{counted(data['count'], 'look')} in {duration(_waited(session))}", data)


def _again(wanted: Soak, left: float, data: dict[str, Any]) -> StageResult:
    pause = min(wanted.every_s, left) if left > 0 else wanted.every_s
    until = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=pause)
    state = f"bad for {counted(data['bad_in_a_row'], 'look')}" if data["bad_in_a_row"] else "all is well"
    return StageResult("soak", "waiting", f"{state}; {duration(max(left, 0))} left", data, until)


def _waited(session: Session) -> float:
    words = {"run_id": session.run_id, "stage": "soak"}
    row = session.side.execute(sqlfiles.block("queries/surroundings", "waited"), words).fetchone()
    assert row is not None  # noqa: S101 - the stage has begun
    return float(row[0])
