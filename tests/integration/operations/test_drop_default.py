"""Defaults dropped at cutover, and given back."""

from __future__ import annotations

from tests.bench import Bench
from tests.integration.operations.stopping import rolled_back
from tests.integration.stages.test_hardening import FAST, Rows, forward, start

DROP = {"drop_default": {"table": "counted", "column": "id"}}


def test_an_application_that_needs_the_default_has_it_until_cutover(bench: Bench, rows: Rows) -> None:
    """A serial's sequence stays, still owned by the column; a rollback counts on where it was."""
    rows("CREATE TABLE counted (id serial, note text); INSERT INTO counted (note) VALUES ('a'), ('b')")
    before = bench.state()["fingerprint"]
    run = forward(start(bench, DROP, **FAST), to="cutover")
    assert rows("INSERT INTO counted (note) VALUES ('c') RETURNING id") == [(3,)]
    forward(run, to="validate")
    assert rolled_back(run)
    assert bench.state()["fingerprint"] == before
    assert rows("INSERT INTO counted (note) VALUES ('d') RETURNING id") == [(4,)]
