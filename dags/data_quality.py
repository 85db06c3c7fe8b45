"""The Airflow DAG that checks the data of every connection on a schedule."""

from __future__ import annotations

from pathlib import Path

from schema_change.factory.schedules import data_quality_dag
from schema_change.hooks.settings import Settings

_INCLUDE = Path(__file__).resolve().parents[1] / "include"
_SETTINGS = Settings.read()

dag = data_quality_dag(
    _SETTINGS.changes or _INCLUDE / "sql" / "changes", _SETTINGS.expectations or _INCLUDE / "expectations"
)
