"""How the time of the runbooks' loop is extrapolated."""

from __future__ import annotations

import pytest

from benchmarks.b01_fill import _continued


@pytest.mark.parametrize(
    ("begun", "batches", "seconds"),
    [
        ([1.0, 2.0, 3.0], 5, 15.0),
        ([1.0, 2.0, 3.0], 3, 6.0),
        ([3.0, 2.0, 1.0], 5, 10.0),
        ([2.0], 1, 2.0),
    ],
    ids=["goes on along the line", "is over", "never gets faster", "one batch"],
)
def test_the_rest_of_the_loop_is_on_the_line_of_what_it_did(begun: list[float], batches: int, seconds: float) -> None:
    assert _continued(begun, batches) == pytest.approx(seconds)
