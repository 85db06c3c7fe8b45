"""What ``make bench`` runs: one module per work of the table in docs/benchmarks.md, B1 to B11."""
