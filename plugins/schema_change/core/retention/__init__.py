"""Dropped data that is kept for a while: listed, brought back, exported, purged. Needs no change file."""
