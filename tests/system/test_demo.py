"""The demo, as a new user runs it: real weather and a real scheduler, one change lands and one is rolled back."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from demo.postgres import free_port
from tests.airflow_home import ROOT

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]


def test_the_demo_proves_what_it_says(tmp_path: Path) -> None:
    """Its exit code is 0 only when its own checks, made without the product, all hold."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW", "PG", "SCHEMA_CHANGE"))}
    environment |= {
        "DEMO_HOME": str(tmp_path / "demo"),
        "DEMO_UI_PORT": str(free_port()),
        "DEMO_PG_PORT": str(free_port()),
    }
    try:
        demo = subprocess.run(
            [sys.executable, "-m", "demo", "demo"],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=380,
            check=False,
        )
        assert demo.returncode == 0, demo.stdout + demo.stderr
        assert "20240208143002_add_extreme_cold_hours: success" in demo.stdout
        assert "20240215091500_add_flight_speed: failed" in demo.stdout
        assert "✗ every" not in demo.stdout
    finally:
        subprocess.run(
            [sys.executable, "-m", "demo", "clean"], cwd=ROOT, env=environment, capture_output=True, check=True
        )
