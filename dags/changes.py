"""One Airflow DAG per change folder."""

from __future__ import annotations

from pathlib import Path

from schema_change.factory.loading import load_change_dags
from schema_change.hooks.settings import Settings

_INCLUDE = Path(__file__).resolve().parents[1] / "include"
_SETTINGS = Settings.read()

globals().update(load_change_dags(_SETTINGS.changes or _INCLUDE / "sql" / "changes", _SETTINGS.expectations))
