"""The Airflow DAGs for what lies beside the changes: reconcile, follow-ups, restore, dropped data, old backups."""

from __future__ import annotations

from pathlib import Path

from schema_change.factory.schedules import (
    backup_retention_dag,
    follow_ups_dag,
    reconcile_dag,
    recover_dag,
    restore_dag,
    retention_dag,
)
from schema_change.hooks.settings import Settings

_PROJECT = Path(__file__).resolve().parents[1]
_CHANGES = Settings.read().changes or _PROJECT / "include" / "sql" / "changes"

reconcile = reconcile_dag(_CHANGES)
follow_ups = follow_ups_dag(_CHANGES)
restore = restore_dag()
retention = retention_dag(_CHANGES)
backup_retention = backup_retention_dag(_CHANGES)
recover = recover_dag()
