"""Where the demo lives and which ports it takes; the environment can say otherwise."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from schema_change.core.errors import ConfigurationError

REPOSITORY = Path(__file__).resolve().parents[1]
UI_PORT_VARIABLE = "DEMO_UI_PORT"
PG_PORT_VARIABLE = "DEMO_PG_PORT"
HOME_VARIABLE = "DEMO_HOME"


@dataclass(frozen=True, slots=True)
class Settings:
    """The folder of a stack, its two ports on loopback, and the folders Airflow reads.

    ``include`` holds ``sql/changes``, ``expectations`` and ``approvals.yaml``.
    """

    home: Path
    ui_port: int = 28080
    pg_port: int = 25432
    dags: Path = field(default=REPOSITORY / "dags")
    plugins: Path = field(default=REPOSITORY / "plugins")
    include: Path = field(default=REPOSITORY / "include")

    @classmethod
    def from_environment(cls) -> Settings:
        """Read DEMO_HOME, DEMO_UI_PORT and DEMO_PG_PORT. Raises ConfigurationError when a port is no port."""
        home = Path(os.environ.get(HOME_VARIABLE) or REPOSITORY / ".demo").resolve()
        return cls(home, _port(UI_PORT_VARIABLE, 28080), _port(PG_PORT_VARIABLE, 25432))


def _port(variable: str, default: int) -> int:
    text = os.environ.get(variable) or str(default)
    if not text.isdecimal() or not 1024 <= int(text) <= 65535:
        raise ConfigurationError(f"{variable}={text} is not a port", hint="use a number between 1024 and 65535")
    return int(text)
