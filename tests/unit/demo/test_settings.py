from __future__ import annotations

from pathlib import Path

import pytest

from demo.settings import REPOSITORY, Settings
from schema_change.core.errors import ConfigurationError


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DEMO_HOME", "DEMO_UI_PORT", "DEMO_PG_PORT"):
        monkeypatch.delenv(name, raising=False)


def test_defaults() -> None:
    settings = Settings.from_environment()
    assert settings.home == REPOSITORY / ".demo"
    assert (settings.ui_port, settings.pg_port) == (28080, 25432)
    assert settings.dags.is_dir()
    assert settings.plugins.is_dir()


def test_environment_wins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DEMO_HOME", str(tmp_path))
    monkeypatch.setenv("DEMO_UI_PORT", "1024")
    assert Settings.from_environment() == Settings(tmp_path, 1024, 25432)


@pytest.mark.parametrize("port", ["x", "80", "65536", "-1", "28080 "])
def test_a_port_must_be_a_port(port: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEMO_PG_PORT", port)
    with pytest.raises(ConfigurationError, match=r"DEMO_PG_PORT=.* is not a port"):
        Settings.from_environment()
