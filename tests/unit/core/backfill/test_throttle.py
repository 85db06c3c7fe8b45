from __future__ import annotations

from dataclasses import replace

import pytest

from schema_change.core.backfill.throttle import Sample, ThrottleSettings, reason_to_pause

QUIET = Sample(
    paused=False,
    cancelled=False,
    changed_by=None,
    rows_per_second=None,
    replica_lag_s=None,
    lock_waiters=0,
    oldest_transaction_s=None,
    dead_rows=0,
    live_rows=1_000,
    autovacuum=True,
    wraparound=False,
    failed=None,
)
SETTINGS = ThrottleSettings()
DEAD = {"dead_rows": 2_000_000, "live_rows": 3_000_000}


def reason(**changes: object) -> str | None:
    return reason_to_pause(replace(QUIET, **changes), SETTINGS, already_paused=False)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"replica_lag_s": 4.9},
        {"dead_rows": 900_000},
        {"dead_rows": 2_000_000, "live_rows": 9_000_000},
        {**DEAD, "autovacuum": False},
        {"oldest_transaction_s": 9_999.0},
    ],
)
def test_goes_on(changes: dict[str, object]) -> None:
    assert reason(**changes) is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"paused": True, "changed_by": "ann"}, "paused by ann"),
        ({"replica_lag_s": 7.25}, "a replica is 7.2 s behind (limit 5 s)"),
        ({"lock_waiters": 2}, "2 session"),
        ({"wraparound": True}, "wraparound"),
        (DEAD, "2000000 dead rows wait for autovacuum"),
        ({**DEAD, "autovacuum": False, "oldest_transaction_s": 700.0}, "open for 700 s keeps 2000000 dead rows"),
    ],
)
def test_pauses_and_says_why(changes: dict[str, object], words: str) -> None:
    found = reason(**changes)
    assert found is not None
    assert words in found


def test_all_reasons_are_given() -> None:
    assert reason(paused=True, changed_by="ann", wraparound=True) == (
        "paused by ann; autovacuum is preventing transaction id wraparound on the table"
    )


def test_goes_on_only_well_below_the_limit() -> None:
    sample = replace(QUIET, replica_lag_s=4.5)
    assert reason_to_pause(sample, SETTINGS, already_paused=False) is None
    assert reason_to_pause(sample, SETTINGS, already_paused=True) is not None
    assert reason_to_pause(replace(sample, replica_lag_s=3.9), SETTINGS, already_paused=True) is None
