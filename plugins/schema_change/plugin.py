"""The plugin, imported by every component of Airflow: keep it light."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin


class SchemaChangePlugin(AirflowPlugin):
    """Name under which Airflow lists this package."""

    name = "schema_change"
