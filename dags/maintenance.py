"""The Airflow DAGs that reconcile runs whose owner is gone, and restore backups."""

from __future__ import annotations

from pathlib import Path

from schema_change.factory.schedules import reconcile_dag, restore_dag
from schema_change.hooks.settings import Settings

_PROJECT = Path(__file__).resolve().parents[1]

reconcile = reconcile_dag(Settings.read().changes or _PROJECT / "include" / "sql" / "changes")
restore = restore_dag()
