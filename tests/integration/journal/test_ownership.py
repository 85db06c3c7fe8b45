"""Tables belong to one run at a time; a run is worked on by one try at a time."""

from __future__ import annotations

import threading

import psycopg
import pytest

from schema_change.core.database import Connection, Target
from schema_change.core.errors import OwnershipError
from schema_change.core.journal.fence import fenced, release_fence, try_fence
from schema_change.core.names import Table
from tests.integration.journal.conftest import READINGS, NewRun

STATIONS, OTHER = Table("public", "stations"), Table("public", "other")
OWNED = "SELECT table_name, run_id FROM schema_change.owner ORDER BY table_name"


def test_a_table_that_is_owned_names_its_owner(installed: Connection, new_run: NewRun) -> None:
    first, second = new_run("001", "first"), new_run("002", "second")
    first.claim([READINGS])
    with pytest.raises(OwnershipError, match=f"public.readings is owned by run {first.run_id} of 001_first") as caught:
        second.claim([OTHER, READINGS])
    assert caught.value.retryable
    assert f"reconcile --run {first.run_id}" in (caught.value.hint or "")
    # Nothing of a claim that fails stays.
    assert installed.execute(OWNED).fetchall() == [("readings", first.run_id)]


def test_a_claim_is_repeated_grown_and_given_back(installed: Connection, new_run: NewRun) -> None:
    first, second = new_run("001"), new_run("002")
    first.claim([READINGS])
    first.claim([READINGS, STATIONS])
    second.claim([OTHER])
    second.claim([])
    first.release()
    assert installed.execute(OWNED).fetchall() == [("other", second.run_id)]
    second.claim([READINGS])


def test_of_two_runs_that_claim_at_once_one_wins(target: Target, installed: Connection, new_run: NewRun) -> None:
    """Both want the same two tables, named in opposite order; neither deadlocks."""
    runs = [new_run("001"), new_run("002")]
    ready = threading.Barrier(2)
    won: list[int] = []
    lost: list[OwnershipError] = []

    def claim(number: int) -> None:
        with target.connect("claim") as session:
            ready.wait(10)
            try:
                runs[number].on(session).claim([READINGS, STATIONS][:: 1 - 2 * number])
                won.append(number)
            except OwnershipError as error:
                lost.append(error)

    threads = [threading.Thread(target=claim, args=(n,)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(lost)) == (1, 1)
    owner = runs[won[0]].run_id
    assert installed.execute(OWNED).fetchall() == [("readings", owner), ("stations", owner)]


def test_a_second_try_is_kept_out_until_the_first_ends(target: Target, new_run: NewRun) -> None:
    run, other = new_run("001").run_id, new_run("002").run_id
    with target.connect("first") as first, target.connect("second") as second:
        with fenced(first, run):
            assert not try_fence(second, run)
            with pytest.raises(OwnershipError, match=str(run)) as caught, fenced(second, run, wait_s=0):
                pytest.fail("two tries are at work")
            assert caught.value.retryable
            assert try_fence(second, other)
            release_fence(second, other)
        with fenced(second, run, wait_s=0):
            pass


def test_a_second_try_waits_for_the_first(target: Target, new_run: NewRun) -> None:
    run = new_run().run_id
    with target.connect("first") as first, target.connect("second") as second:
        assert try_fence(first, run)
        timer = threading.Timer(0.3, release_fence, [first, run])
        timer.start()
        with fenced(second, run, wait_s=20):
            timer.join()
            assert not try_fence(first, run)


def test_the_fence_is_free_when_the_session_is_killed(target: Target, installed: Connection, new_run: NewRun) -> None:
    run = new_run().run_id
    first = target.connect("first")
    with target.connect("second") as second:
        with fenced(first, run):
            assert not try_fence(second, run)
            installed.execute("SELECT pg_terminate_backend(%s, 5000)", [first.info.backend_pid])
            with pytest.raises(psycopg.OperationalError):
                first.execute("SELECT 1")
        with fenced(second, run, wait_s=20):
            pass
