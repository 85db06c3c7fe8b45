from __future__ import annotations

import subprocess
import sys

_PROGRAM = """
import sys
from schema_change.core.validation.quiet import _put_off, load_builder
with _put_off(("wave",)):
    import wave
    print(wave.Error.__name__)
load_builder()
print(sorted({"altair", "scipy.stats", "scipy.optimize"} & set(sys.modules)))
from great_expectations.expectations.core import expect_column_kl_divergence_to_be_less_than as divergence
print(round(float(divergence.stats.entropy([0.5, 0.5], [0.25, 0.75])), 4), divergence.alt.Chart.__name__)
import altair, scipy.stats
print(altair.Chart is divergence.alt.Chart, scipy.stats.entropy is divergence.stats.entropy)
"""


def test_what_one_expectation_needs_is_imported_when_it_is_used() -> None:
    """What uses it at once gets it at once. In a process of its own: in this one, another test may have used it."""
    found = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert found.stdout.splitlines() == ["Error", "[]", "0.1438 Chart", "True True"]
