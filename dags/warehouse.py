"""The Airflow DAGs of the template warehouse: its toolkit, the upkeep of its days and years, an emergency."""

from __future__ import annotations

from schema_change.factory.warehouse import emergency_dag, fold_year_dag, install_dag, refresh_dag

install = install_dag()
refresh = refresh_dag()
fold_year = fold_year_dag()
emergency = emergency_dag()
