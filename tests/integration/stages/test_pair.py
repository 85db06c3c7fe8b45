"""The sessions that a command keeps for all of its stages."""

from __future__ import annotations

import time

import pytest

from schema_change.core.database import Connection
from schema_change.core.stages.session import Pair, open_session
from tests.bench import Bench

PLAIN = {"operations": [{"add_column": {"table": "readings", "column": {"name": "remark", "type": "text"}}}]}


def test_both_sessions_are_looked_at_after_a_rest(
    bench: Bench, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Pair(bench.target) as pair:
        for session in (pair.work, pair.side):
            connection.execute("SELECT pg_terminate_backend(%s, 10000)", [session.info.backend_pid])
        later = time.monotonic() + 60
        monkeypatch.setattr("schema_change.core.stages.session.time.monotonic", lambda: later)
        assert pair.work.execute("SELECT 1").fetchone() == (1,)
        assert pair.side.execute("SELECT 1").fetchone() == (1,)


def test_what_a_failed_stage_has_set_does_not_reach_the_next(bench: Bench) -> None:
    """The rest of a script that failed half-way is not run, such as its RESET ROLE."""
    request = bench.request(bench.write("001_plain", PLAIN))
    with Pair(bench.target) as pair:
        stage = open_session(request, "plan", print, pair=pair)
        stage.__enter__().work.execute("SET ROLE pg_monitor")
        assert not stage.__exit__(LookupError, LookupError(), None)
        assert pair.work.execute("SELECT current_user = session_user").fetchone() == (True,)
