from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from schema_change.core.database import Target
from schema_change.core.errors import ConfigurationError
from schema_change.core.execution.waiting import TransactionWait, Waiting
from schema_change.triggers import waiting as module
from schema_change.triggers.waiting import WaitingTrigger

WAIT = TransactionWait(what="a lock", reason="session 7", since=dt.datetime.now(dt.UTC), transactions=("1/2",))


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Target]]:
    """Script what the looks see, one after the other; returns the targets that were looked at."""
    monkeypatch.setattr(module, "_EVERY_S", 0)
    monkeypatch.setenv("AIRFLOW_CONN_SHOP", "postgresql://ann@db.example/shop")

    def script(*found: bool | Exception) -> list[Target]:
        left, seen = list(found), []

        def is_over(self: Waiting, target: Target) -> bool:
            assert self == WAIT
            seen.append(target)
            answer = left.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

        monkeypatch.setattr(Waiting, "is_over", is_over)
        return seen

    return script


def events(conn_id: str = "shop") -> list[Any]:
    trigger = WaitingTrigger(conn_id, WAIT.to_json())

    async def collect() -> list[Any]:
        return [event.payload async for event in trigger.run()]

    return asyncio.run(asyncio.wait_for(collect(), 20))


def test_it_is_made_again_from_what_it_says() -> None:
    path, arguments = WaitingTrigger("shop", WAIT.to_json()).serialize()
    assert path == "schema_change.triggers.waiting.WaitingTrigger"
    again = WaitingTrigger(**arguments)
    assert again.serialize() == (path, arguments)


def test_it_looks_until_the_wait_is_over_and_says_so_once(answers: Callable[..., list[Target]]) -> None:
    seen = answers(False, False, True)
    [event] = events()
    assert event["waited_s"] >= 0
    assert [target.conn_id for target in seen] == ["shop"] * 3


@pytest.mark.parametrize("error", [psycopg.OperationalError("gone"), psycopg.errors.QueryCanceled("slow")])
def test_a_server_that_does_not_answer_is_asked_again(error: Exception, answers: Callable[..., list[Target]]) -> None:
    restarting = ConfigurationError("cannot connect")
    restarting.retryable = True
    seen = answers(error, restarting, False, True)
    assert len(events()) == 1
    assert len(seen) == 4


@pytest.mark.parametrize("error", [psycopg.errors.InsufficientPrivilege("no"), ConfigurationError("$X is not set")])
def test_what_cannot_be_looked_at_is_left_to_the_stage(error: Exception, answers: Callable[..., list[Target]]) -> None:
    answers(error)
    assert len(events()) == 1


def test_a_connection_that_is_gone_ends_the_wait(answers: Callable[..., list[Target]]) -> None:
    assert answers() == []
    assert len(events("nowhere")) == 1


def test_a_wait_that_is_cancelled_ends(answers: Callable[..., list[Target]]) -> None:
    """As Airflow does when the task is cleared, or marked."""
    answers(*[False] * 100_000)

    async def cancel() -> None:
        async def wait() -> None:
            async for _ in WaitingTrigger("shop", WAIT.to_json()).run():
                pytest.fail("it was never over")

        task = asyncio.create_task(wait())
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(asyncio.wait_for(cancel(), 20))
