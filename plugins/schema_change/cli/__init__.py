"""``schema-change``: the same engine without Airflow."""
