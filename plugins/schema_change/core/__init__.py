"""The engine: pure Python and psycopg. Nothing below this package imports Airflow."""
