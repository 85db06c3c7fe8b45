"""Filling of a column, batch by batch: checkpoints, throttle, progress, undo."""
