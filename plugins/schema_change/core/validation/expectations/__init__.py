"""Expectations of our own, where Great Expectations is wrong or slow. Importing a module here imports it."""
