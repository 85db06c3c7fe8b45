"""What Airflow's triggerer looks after while a task is deferred."""
