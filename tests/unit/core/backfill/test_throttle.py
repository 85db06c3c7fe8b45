from __future__ import annotations

from dataclasses import replace

import pytest

from schema_change.core.backfill.throttle import Sample, ThrottleSettings, WalPace, reason_to_pause

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
    vacuum_due=True,
    wraparound=False,
    bytes_before=None,
    bytes=None,
    wal_bytes=0,
    beside=False,
    slot=None,
    slot_bytes=None,
    failed=None,
)
SETTINGS = ThrottleSettings()
DEAD = {"dead_rows": 20_000_000, "live_rows": 30_000_000}


def reason(**changes: object) -> str | None:
    return reason_to_pause(replace(QUIET, **changes), SETTINGS, already_paused=False)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"replica_lag_s": 4.9},
        {"dead_rows": 9_000_000},
        {"dead_rows": 20_000_000, "live_rows": 90_000_000},
        {**DEAD, "vacuum_due": False},
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
        (DEAD, "20000000 dead rows wait for autovacuum"),
        ({**DEAD, "vacuum_due": False, "oldest_transaction_s": 700.0}, "open for 700 s keeps 20000000 dead rows"),
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


MB = 1 << 20


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"slot": "cdc (not in use)", "slot_bytes": 10_001.0 * MB},
            "replication slot cdc (not in use) holds back 9.8 GB of WAL (limit 9.8 GB)",
        ),
        (
            {"bytes_before": 5_000 * MB, "bytes": 10_001 * MB},
            "the table has grown by 4.9 GB (limit 4.9 GB) and waits for autovacuum",
        ),
        ({"bytes_before": 10 * MB, "bytes": 1_011 * MB}, "grown by 1001.0 MB (limit 1000.0 MB)"),
    ],
)
def test_pauses_for_what_fills_the_disk(changes: dict[str, object], words: str) -> None:
    assert words in str(reason(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"slot": "cdc", "slot_bytes": 9_999.0 * MB},
        {"bytes_before": 5_000 * MB, "bytes": 9_999 * MB},
        {"bytes_before": 10 * MB, "bytes": 999 * MB},
        # A table does not shrink by waiting: without a vacuum to wait for, growth is no reason.
        {"bytes_before": 10 * MB, "bytes": 9_999 * MB, "vacuum_due": False},
        {"bytes_before": None, "bytes": 9_999 * MB},
        {"bytes_before": 10 * MB, "bytes": None},
    ],
)
def test_goes_on_while_the_disk_is_safe(changes: dict[str, object]) -> None:
    assert reason(**changes) is None


def seconds_of_work(pace: WalPace, ours: float, others: float, seconds: int) -> int:
    """Return in how many of that many seconds a backfill worked that writes ``ours`` MB/s beside ``others``."""
    worked, position, paused = 0, 0.0, False
    for now in range(seconds):
        paused = pace.reason(round(position * MB), now, paused=paused) is not None
        worked += not paused
        position += others + (0 if paused else ours)
    return worked


def test_the_wal_written_keeps_to_its_limit_on_average() -> None:
    assert seconds_of_work(WalPace(10), ours=50, others=0, seconds=100) == 20
    assert seconds_of_work(WalPace(10), ours=9, others=0, seconds=100) == 100
    assert seconds_of_work(WalPace(None), ours=50, others=50, seconds=100) == 100


@pytest.mark.parametrize("ours", [7, 15, 50])
@pytest.mark.parametrize("lag", [0, 1, 5, 9])
def test_the_shards_of_a_backfill_keep_to_the_limit_together(ours: float, lag: int) -> None:
    """Each sees the WAL of all; they look every second, one of them ``lag`` tenths of a second after the other."""
    paces, paused = [WalPace(10), WalPace(10)], [False, False]
    position, tenths = 0.0, 3_000
    for now in range(tenths):
        for shard, pace in enumerate(paces):
            if now % 10 == shard * lag:
                reason = pace.reason(round(position * MB), now / 10, paused=paused[shard], beside=not paused[1 - shard])
                paused[shard] = reason is not None
        position += ours / 10 * paused.count(False)
    assert 0.6 < position / (10 * tenths / 10) < 1.1


def test_others_who_write_more_wal_than_the_limit_keep_it_paused_and_are_not_waited_for_afterwards() -> None:
    pace = WalPace(10)
    assert pace.reason(0, 0, paused=False) is None
    assert pace.reason(20 * MB, 1, paused=False) == "20.0 MB of WAL per second, 1.0 s ahead of the limit of 10 MB/s"
    for now in range(2, 60):
        assert pace.reason(20 * now * MB, now, paused=True)
    quiet = 20 * 59 * MB
    assert pace.reason(quiet, 60, paused=True) is None


def test_a_pause_because_of_wal_lasts_as_long_when_somebody_else_sees_it_through() -> None:
    pace = WalPace(10)
    pace.reason(0, 0, paused=False)
    assert pace.reason(40 * MB, 1, paused=False)
    again = WalPace(10, pace.ahead_s)
    assert again.reason(40 * MB, 1, paused=True) == "3.0 s ahead of the limit of 10 MB/s"
    assert again.reason(40 * MB, 3, paused=True)
    assert again.reason(40 * MB, 4.1, paused=True) is None
