"""docker-compose.yaml reads well and refuses to start without its secrets. The stack itself needs a Docker engine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from demo.settings import REPOSITORY

SECRETS = re.findall(r"^([A-Z_]+)=$", (REPOSITORY / "docker" / "env.example").read_text(encoding="utf-8"), re.MULTILINE)


def _config(folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    program = shutil.which("docker-compose")
    if program is None:
        pytest.skip("docker-compose is not installed here (apt-get install docker-compose)")
    # A developer's own .env must not fill in what is missing.
    (folder / "empty").touch()
    return subprocess.run(
        [program, "--file", str(REPOSITORY / "docker-compose.yaml"), "--env-file", str(folder / "empty"), "config"],
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_compose_file_is_valid(tmp_path: Path) -> None:
    result = _config(tmp_path, dict.fromkeys(SECRETS, "secret"))
    assert result.returncode == 0, result.stderr
    services = yaml.safe_load(result.stdout)["services"]
    assert {"api-server", "scheduler", "dag-processor", "triggerer", "worker", "init"} < set(services)
    assert services["worker"]["environment"]["AIRFLOW__CORE__EXECUTOR"] == "CeleryExecutor"
    everything_waits_for_init = [s for s in services.values() if "init" in s.get("depends_on", {})]
    assert len(everything_waits_for_init) == 5


@pytest.mark.parametrize("missing", SECRETS)
def test_every_secret_is_required(missing: str, tmp_path: Path) -> None:
    result = _config(tmp_path, {name: "secret" for name in SECRETS if name != missing})
    assert result.returncode != 0
    assert missing in result.stderr


def test_no_secret_is_in_an_argument() -> None:
    services = yaml.safe_load((REPOSITORY / "docker-compose.yaml").read_text(encoding="utf-8"))["services"]
    commands = " ".join(str(s.get("command", "")) + str(s.get("healthcheck", "")) for s in services.values())
    assert "${" not in commands
