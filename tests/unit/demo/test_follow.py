from __future__ import annotations

import pytest

from demo.follow import Backfilled


@pytest.mark.parametrize(
    ("progress", "text"),
    [
        (Backfilled(0, 1_000, 0.0), ""),
        (Backfilled(500, 1_000, 0.25), "2,000 rows/s"),
        (Backfilled(1_000, 336_776, 1.0), "1,000 rows/s, 336 s left"),
        (Backfilled(1_200, 1_000, 1.0), "1,200 rows/s"),
    ],
)
def test_rate_and_remaining_time(progress: Backfilled, text: str) -> None:
    assert progress.text == text
