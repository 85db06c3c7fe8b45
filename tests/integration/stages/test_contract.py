"""What contract does once the change has landed."""

from __future__ import annotations

import datetime as dt

from schema_change.core.errors import ConfigurationError
from tests.bench import Bench
from tests.integration.stages.test_hardening import FAST, FILL, Rows


def test_disk_space_is_given_back_when_asked_for(bench: Bench, rows: Rows) -> None:
    """A rewritten table is another file."""
    earlier, later = (dt.datetime.now(dt.UTC) + dt.timedelta(hours=hours) for hours in (-1, 1))
    window = {"from": f"{earlier:%H:%M}", "to": f"{later:%H:%M}", "outside": "wait"}
    change = bench.write("001_change", {"operations": [FILL], "window": window})
    run = bench.run(bench.request(change, vacuum_full=True, **FAST))
    assert run.error is None
    assert rows("SELECT pg_relation_filenode('readings') <> 'readings'::regclass::oid") == [(True,)]
    assert rows("SELECT count(fahrenheit) FROM readings") == [(5000,)]


def test_it_is_refused_without_a_window(bench: Bench, rows: Rows) -> None:
    change = bench.write("001_change", {"operations": [FILL]})
    run = bench.run(bench.request(change, vacuum_full=True, **FAST))
    assert isinstance(run.error, ConfigurationError)
    assert "no window" in run.error.message
    assert rows("SELECT to_regnamespace('schema_change')") == [(None,)]
