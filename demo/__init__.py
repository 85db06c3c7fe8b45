"""The demo: an embedded PostgreSQL, a real Airflow, real weather data. Also what the tests start their servers with."""
