"""PostgreSQL schema changes as safe, reversible Airflow DAG runs."""

__version__ = "0.1.0"
