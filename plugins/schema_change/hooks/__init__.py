"""What the core needs from Airflow: connections and configuration."""
