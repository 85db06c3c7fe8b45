from __future__ import annotations

import datetime as dt
import json
from typing import cast
from uuid import UUID

import pytest

from schema_change.core.backfill.throttle import ThrottleSettings
from schema_change.core.database import Connection
from schema_change.core.errors import LockNotAvailable
from schema_change.core.execution.blockers import Blocker
from schema_change.core.execution.patience import LockSettings, Patience
from schema_change.core.execution.waiting import (
    LockWait,
    Parked,
    Parking,
    ThrottleWait,
    TransactionWait,
    Waiting,
)
from schema_change.core.model import LockMode
from schema_change.core.names import Table
from schema_change.core.surroundings.models import Metric, Throttle

NOW = dt.datetime.now(dt.UTC)
READER = Blocker(7, "ann", "psql", "active", 100.0, None, "session", "1/2")
READINGS = Table("public", "readings")
COMMON = {"what": "a lock", "reason": "session 7", "since": NOW, "until": NOW + dt.timedelta(seconds=60)}
#: Its own settings have one key more than the change file: how often to look.
LIMITS = ThrottleSettings(
    interval_s=0.5, sql="SELECT true", prometheus=Metric(url="http://prometheus", query="up", min=1)
)
WAITS: list[Waiting] = [
    LockWait(**COMMON, tables=(READINGS,), lock=LockMode.ACCESS_EXCLUSIVE, transactions=("1/2",)),
    TransactionWait(**COMMON, transactions=("1/2", "-1/77")),
    ThrottleWait(
        **{**COMMON, "until": None},
        run_id=UUID(int=1),
        seq=2,
        table=READINGS,
        throttle=Throttle(**LIMITS.model_dump(exclude={"interval_s"})),
    ),
]


@pytest.mark.parametrize("waiting", WAITS, ids=[type(w).__name__ for w in WAITS])
def test_a_wait_survives_json(waiting: Waiting) -> None:
    again = Waiting.from_json(json.loads(json.dumps(waiting.to_json())))
    assert again == waiting
    assert type(again) is type(waiting)


def patience(parking: Parking, **settings: float) -> Patience:
    return Patience(
        "a lock",
        LockSettings(**settings),  # type: ignore[arg-type]
        cast("Connection", None),
        lambda line: None,
        lambda line: None,
        tables=(READINGS,),
        lock=LockMode.SHARE,
        parking=parking,
    )


def test_a_wait_is_parked_only_where_somebody_sees_it_through() -> None:
    for _ in range(3):
        patience(Parking()).without_queueing((READER,))
        patience(Parking(after_s=60)).without_queueing((READER,))
    with pytest.raises(Parked) as parked:
        patience(Parking(after_s=0)).without_queueing((READER,))
    waiting = parked.value.waiting
    assert isinstance(waiting, LockWait)
    assert (waiting.tables, waiting.lock, waiting.transactions) == ((READINGS,), LockMode.SHARE, ("1/2",))
    assert "session 7 (user ann, psql, active" in waiting.reason
    assert waiting.until == waiting.since + dt.timedelta(seconds=600)


def test_who_blocked_an_attempt_is_waited_for_by_name() -> None:
    """What they hold may be a lock on something else than the tables."""
    with pytest.raises(Parked) as parked:
        patience(Parking(after_s=0)).after_attempt((READER,))
    assert isinstance(parked.value.waiting, TransactionWait)
    patience(Parking(after_s=0)).after_attempt(())


def test_a_run_that_may_terminate_waits_for_those_it_could_not() -> None:
    """Whoever comes next can be terminated, by a try that is at work."""
    with pytest.raises(Parked) as parked:
        patience(Parking(after_s=0), terminate_blockers=True).without_queueing((READER,))
    assert isinstance(parked.value.waiting, TransactionWait)


def ago(**time: float) -> dt.datetime:
    return dt.datetime.now(dt.UTC) - dt.timedelta(**time)


def test_the_bound_counts_what_earlier_tries_waited() -> None:
    parking = Parking(after_s=0)
    parking.earlier = TransactionWait(what="a lock", reason="", since=ago(seconds=50), transactions=("1/2",))
    with pytest.raises(Parked) as parked:
        patience(parking, wait_s=600).without_queueing((READER,))
    assert parked.value.waiting.since == pytest.approx(parking.earlier.since, abs=dt.timedelta(seconds=30))
    with pytest.raises(LockNotAvailable, match="no a lock within 40 s; blocked by session 7"):
        patience(parking, wait_s=40).without_queueing((READER,))


def test_a_wait_for_something_else_begins_anew() -> None:
    parking = Parking(after_s=60)
    parking.earlier = TransactionWait(what="other", reason="", since=ago(hours=1), transactions=())
    assert patience(parking).waited_s < 5
