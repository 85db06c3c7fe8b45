"""One Airflow DAG per procedure: common changes that need no file, asked for with a form or ``--conf``."""

from __future__ import annotations

from schema_change.factory.loading import load_procedure_dags

globals().update(load_procedure_dags())
