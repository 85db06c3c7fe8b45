"""Execution of steps: locks, transactions, concurrent statements."""
