"""The catalog of a target: read in a few set-based queries, canonical, comparable by fingerprint."""
