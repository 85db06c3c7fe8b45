from __future__ import annotations

from dataclasses import replace

import pytest

from schema_change.core.backfill.pace import Progress
from schema_change.core.model import Phase, Step
from schema_change.core.names import Table
from schema_change.core.stages.session import describe

STEP = Step(Phase.BACKFILL, "fill t.c", (Table("public", "t"),))
HALF = Progress(
    rows_done=1_000,
    rows_estimated=2_000,
    rate=100.0,
    eta_s=(9.6, 14.2),
    throttled_s=0.0,
    throttle_reason=None,
    batches=3,
    done=False,
)


@pytest.mark.parametrize(
    ("eta", "left"),
    [
        ((9.6, 14.2), ", 10–14 s left"),
        ((9.6, 10.4), ", 10 s left"),
        ((0.2, 0.9), ", 0–1 s left"),
        ((0.0, 0.3), ""),
        (None, ""),
    ],
)
def test_the_time_left_is_a_range_only_when_it_is_one(eta: tuple[float, float] | None, left: str) -> None:
    assert describe(STEP, replace(HALF, eta_s=eta)) == f"fill t.c: 1,000 rows of about 2,000 (50%), 100 rows/s{left}"


def test_a_shard_says_which_it_is() -> None:
    assert describe(STEP, replace(HALF, shard="shard 2 of 4")).startswith("fill t.c, shard 2 of 4: 1,000 rows of")


def test_nothing_is_left_of_what_is_done() -> None:
    done = replace(HALF, rows_done=2_000, eta_s=(0.0, 0.0), done=True)
    assert describe(STEP, done) == "fill t.c: 2,000 rows of about 2,000 (100%), 100 rows/s"
