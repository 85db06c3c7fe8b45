"""Great Expectations on a target: suites, runs in one snapshot, results, reports.

Importing Great Expectations costs seconds, so no module here imports it at the top; the modules of
:mod:`schema_change.core.validation.expectations` do, and are themselves imported only when checks run.
"""
