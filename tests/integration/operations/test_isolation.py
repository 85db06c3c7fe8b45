"""An application that writes above READ COMMITTED puts two tables out of step: contract must notice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from psycopg import IsolationLevel

from schema_change.core.database import Connection
from schema_change.core.errors import ChangeRolledBack, ValidationFailed
from tests.bench import FORWARD, Bench, Run

SETUP = """
CREATE TABLE flights (id integer PRIMARY KEY, carrier text NOT NULL, carrier_name text);
INSERT INTO flights SELECT g, 'C' || g % 3, 'Carrier ' || g % 3 FROM generate_series(1, 30) g
"""
SPLIT = {
    "table": "public.flights",
    "into": {
        "table": "public.carriers",
        "key": ["carrier"],
        "columns": [{"name": "name", "from": "carrier_name"}],
    },
}


@pytest.mark.parametrize("level", [IsolationLevel.REPEATABLE_READ, IsolationLevel.SERIALIZABLE])
def test_contract_does_not_trust_what_was_true_in_validate(
    bench: Bench, connection: Connection, rows: Callable[[str], list[Any]], level: IsolationLevel
) -> None:
    connection.execute(SETUP.encode())
    before = bench.state()["fingerprint"]
    run = forward_to_contract(bench)
    with bench.target.connect("application") as application:
        application.isolation_level = level
        with application.transaction():
            application.execute("SELECT count(*) FROM public.carriers")
            rows("INSERT INTO flights VALUES (31, 'C1', 'Carrier 1')")
            # The trigger renames it in the rows that this transaction sees.
            application.execute("UPDATE public.carriers SET name = 'renamed' WHERE carrier = 'C1'")
    assert rows("SELECT count(DISTINCT carrier_name) FROM flights WHERE carrier = 'C1'") == [(2,)]
    assert not run.try_stage("contract")
    assert isinstance(run.error, ValidationFailed)
    assert "public.flights agrees_with_carriers failed: 1 rows" in run.error.message
    run.finish()
    assert isinstance(run.outcome_error, ChangeRolledBack)
    assert bench.state()["fingerprint"] == before
    assert rows("SELECT carrier_name FROM flights WHERE id IN (1, 31) ORDER BY id") == [("renamed",), ("Carrier 1",)]


def forward_to_contract(bench: Bench) -> Run:
    change = bench.write("001_split", {"operations": [{"split_table": SPLIT}]})
    run = Run(bench.request(change, skip_backup=True, skip_rehearsal=True))
    for stage in FORWARD[: FORWARD.index("contract")]:
        assert run.try_stage(stage), (stage, run.error)
        if stage == "plan":
            run.approve()
    return run
