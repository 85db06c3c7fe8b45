from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schema_change.core.backfill.pace import BatchSize, Meter, Progress


def test_grows_twofold_while_far_from_the_target_then_slowly() -> None:
    size = BatchSize(1_000, target_ms=500, min_rows=100, max_rows=50_000)
    sizes = []
    for _ in range(8):
        size.learn(size.rows, size.rows / 20_000)
        sizes.append(size.rows)
    assert sizes == [2_000, 4_000, 8_000, 9_600, 9_600, 9_600, 9_600, 9_600]


def test_shrinks_by_half_at_most_and_not_below_the_minimum() -> None:
    size = BatchSize(1_000, target_ms=500, min_rows=100, max_rows=50_000)
    sizes = []
    for _ in range(5):
        size.learn(size.rows, 60.0)
        sizes.append(size.rows)
    assert sizes == [500, 250, 125, 100, 100]


def test_a_time_out_halves_at_once_down_to_one_row() -> None:
    size = BatchSize(150, target_ms=500, min_rows=100, max_rows=50_000)
    for _ in range(12):
        size.halve()
    assert size.rows == 1
    size.learn(1, 0.001)
    assert size.rows == 2


@given(st.lists(st.floats(0, 100), max_size=30), st.integers(1, 10_000))
def test_stays_within_its_bounds(seconds: list[float], first: int) -> None:
    size = BatchSize(first, target_ms=500, min_rows=10, max_rows=5_000)
    for took in seconds:
        before = size.rows
        size.learn(size.rows, took)
        assert 1 <= size.rows <= 5_000
        assert before // 2 <= size.rows <= max(2 * before, before + 1)


def test_the_end_is_unknown_below_one_percent_and_a_range_afterwards() -> None:
    told: list[Progress] = []
    meter = Meter(told.append, every_s=0)
    meter.batch(5, 1.0)
    meter.report(rows_done=5, rows_estimated=1_000, batches=1, throttled_ms=0)
    assert told[-1].eta_s is None
    meter.batch(95, 1.0)
    meter.report(rows_done=100, rows_estimated=1_000, batches=2, throttled_ms=2_500)
    assert told[-1].rate == pytest.approx(50)
    assert told[-1].eta_s == (pytest.approx(18), pytest.approx(900 / 41))
    assert told[-1].throttled_s == 2.5
    assert told[-1].fraction == pytest.approx(0.1)


def test_reports_are_rare_but_the_last_one_always_comes() -> None:
    told: list[Progress] = []
    meter = Meter(told.append, every_s=3_600)
    for done in range(5):
        meter.report(rows_done=done, rows_estimated=None, batches=done, throttled_ms=0)
    meter.report(rows_done=5, rows_estimated=None, batches=5, throttled_ms=0, done=True)
    assert [p.rows_done for p in told] == [0, 5]
    assert (told[0].fraction, told[1].fraction, told[1].eta_s) == (None, 1.0, (0.0, 0.0))


def test_only_done_is_everything() -> None:
    assert Progress(200, 100, None, None, 0, None, 1, done=False).fraction == 0.99


def test_a_shorter_target_counts_at_once_and_a_longer_one_is_grown_to() -> None:
    size = BatchSize(1_000, target_ms=500, min_rows=100, max_rows=50_000)
    size.learn(1_000, 0.1)
    assert size.rows == 2_000
    size.aim(25)
    assert size.rows == 250
    size.aim(500)
    assert size.rows == 250
    size.learn(250, 0.025)
    assert size.rows == 500


def test_what_every_batch_costs_does_not_make_batches_ever_smaller() -> None:
    """A batch of any size takes 6 ms here, and a short target asks for 5."""
    size = BatchSize(1_000, target_ms=500, min_rows=100, max_rows=50_000)
    for _ in range(50):
        size.aim(5)
        size.learn(size.rows, 0.006 + size.rows * 1e-5)
    assert size.rows == 100


def test_the_first_batch_that_gives_way_is_the_smallest() -> None:
    size = BatchSize(1_000, target_ms=500, min_rows=100, max_rows=50_000)
    size.aim(500)
    assert size.rows == 1_000
    size.aim(5)
    assert size.rows == 100
