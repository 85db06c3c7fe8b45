"""What Airflow's provider manager is told about this package."""

from __future__ import annotations

from typing import Any


def get_provider_info() -> dict[str, Any]:
    """Return the provider's description; the keys are those of Airflow's provider_info schema."""
    return {
        "package-name": "airflow-provider-schema-change",
        "name": "Schema change",
        "description": "PostgreSQL schema changes as safe, reversible DAG runs.",
        "integrations": [
            {
                "integration-name": "Schema change",
                "external-doc-url": "https://www.postgresql.org/docs/current/ddl-alter.html",
                "tags": ["software"],
            }
        ],
        "operators": [
            {
                "integration-name": "Schema change",
                "python-modules": [
                    "schema_change.operators.stage",
                    "schema_change.operators.approve",
                    "schema_change.operators.backfill_dag",
                    "schema_change.operators.data_quality",
                    "schema_change.operators.maintenance",
                    "schema_change.operators.warehouse",
                ],
            }
        ],
        "hooks": [{"integration-name": "Schema change", "python-modules": ["schema_change.hooks.schema_change"]}],
        "triggers": [{"integration-name": "Schema change", "python-modules": ["schema_change.triggers.waiting"]}],
        "config": {
            "schema_change": {
                "description": "Where changes are read from and artifacts are written to.",
                "options": {
                    "changes_folder": _option(
                        "Folder of the change folders. Empty: ``include/sql/changes`` beside the dags folder."
                    ),
                    "expectations_folder": _option(
                        "Folder of the Great Expectations suites. Empty: ``expectations`` beside "
                        "the ``sql`` folder of the changes."
                    ),
                    "artifacts_url": _option(
                        "Where backups, reports and Data Docs go: any object storage URL, such as "
                        "``s3://aws_default@bucket/schema-changes``. Every worker must reach it. "
                        "Empty: a folder in AIRFLOW_HOME, for one machine only.",
                        example="s3://aws_default@bucket/schema-changes",
                    ),
                    "approvers_file": _option(
                        "YAML file that maps a role to the users who may approve in it. Empty: anybody who may answer "
                        "required actions, except who asked for the run.",
                        example="/opt/airflow/include/approvers.yaml",
                    ),
                    "blackouts_file": _option(
                        "YAML file with ``blackouts``, as in a change file: times in which no change goes on, also of "
                        "those from a form.",
                        example="/opt/airflow/include/blackouts.yaml",
                    ),
                    "scratch_conn_id": _option(
                        "Connection of the server on which backups are verified and changes rehearsed. Empty: the "
                        "target's own server, for small databases only."
                    ),
                    "conn_ids": _option(
                        "Connections, separated by commas, that reconcile, follow_ups, retention and data_quality look "
                        "after beside those that change files name: procedures can be run on any.",
                        example="billing, shop_replica",
                    ),
                    "warehouse_conn_id": _option(
                        "Connection of the template warehouse. Empty: ``warehouse_refresh`` and "
                        "``warehouse_fold_year`` have no schedule.",
                        example="warehouse",
                    ),
                },
            }
        },
    }


def _option(description: str, example: str | None = None) -> dict[str, Any]:
    return {
        "description": description,
        "version_added": "0.1.0",
        "type": "string",
        "example": example,
        "default": "",
    }
