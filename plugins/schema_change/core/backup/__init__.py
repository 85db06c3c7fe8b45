"""Backup and restore: one snapshot dumped with pg_dump, counted and checksummed, verified by restoring it."""
