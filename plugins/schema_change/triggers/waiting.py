"""Wait for a lock, or for the end of a pause, without a worker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import psycopg
from airflow.triggers.base import BaseTrigger, TriggerEvent

from schema_change.core.database import Target
from schema_change.core.errors import SchemaChangeError
from schema_change.core.execution.waiting import Waiting
from schema_change.hooks.schema_change import target_of

_EVERY_S = 1.0


class WaitingTrigger(BaseTrigger):
    """Look about every second whether what a stage waits for is over, each time with a short session of its own.

    ``waiting`` is :meth:`Waiting.to_json() <schema_change.core.execution.waiting.Waiting.to_json>`. A server that
    cannot be reached is asked again. Whatever else goes wrong here ends the wait: the stage then says it better.
    """

    def __init__(self, conn_id: str, waiting: dict[str, Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.conn_id = conn_id
        self.waiting = waiting
        self._target: Target | None = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return where this class is and what it is made of."""
        path = f"{type(self).__module__}.{type(self).__qualname__}"
        return path, {"conn_id": self.conn_id, "waiting": self.waiting}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield one event when the stage is to be run again."""
        waiting = Waiting.from_json(self.waiting)
        self.log.info("waiting for %s", waiting)
        # In a thread: the core's look is synchronous, and so is Airflow's way to a connection.
        while not await asyncio.to_thread(self._is_over, waiting):
            await asyncio.sleep(_EVERY_S)
        yield TriggerEvent({"waited_s": waiting.waited_s})  # type: ignore[no-untyped-call]

    def _is_over(self, waiting: Waiting) -> bool:
        try:
            self._target = self._target or target_of(self.conn_id)
            return waiting.is_over(self._target)
        except (SchemaChangeError, psycopg.Error) as error:
            # Its password may be another one by now; a token of a cloud lasts for minutes only.
            self._target = None
            again = isinstance(error, psycopg.OperationalError) or getattr(error, "retryable", False)
            self.log.warning("cannot look%s: %s", ", trying again" if again else "", error)
            return not again
