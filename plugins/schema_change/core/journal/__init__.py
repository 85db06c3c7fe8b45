"""The registry in the target database: one journal of runs, stages, steps and events."""
