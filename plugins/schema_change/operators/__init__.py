"""Airflow's operators for the stages of a run; each one only calls the core."""
