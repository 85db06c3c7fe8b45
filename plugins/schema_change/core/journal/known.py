"""What was found out for a run, kept while its fence is held: nobody else writes its journal then."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from psycopg.pq import PipelineStatus, TransactionStatus

from schema_change.core.database import Connection

_T = TypeVar("_T")


class Known:
    """Parts by name, mostly of the journal; without ``work``, for who does not hold the fence, nothing is kept.

    Nor is what is read or written inside a transaction of ``work``, which could still take it back.
    """

    def __init__(self, work: Connection | None = None) -> None:
        self._work = work
        self._parts: dict[str, Any] = {}

    def get(self, part: str, read: Callable[[], _T]) -> _T:
        """Return a part, read at its first use."""
        if part in self._parts:
            kept: _T = self._parts[part]
            return kept
        found = read()
        if self._settled:
            self._parts[part] = found
        return found

    def keep(self, part: str, value: object) -> None:
        """Take in a part that is known without being read."""
        if self._settled:
            self._parts[part] = value

    def amend(self, part: str, change: Callable[[Any], Any]) -> None:
        """Change a part that is kept as the database has just changed it."""
        if not self._settled:
            self.forget(part)
        elif part in self._parts:
            self._parts[part] = change(self._parts[part])

    def forget(self, *parts: str) -> None:
        """Read these parts again, or without a name all of them, at their next use."""
        for part in parts or tuple(self._parts):
            self._parts.pop(part, None)

    @property
    def _settled(self) -> bool:
        if self._work is None or self._work.pgconn.pipeline_status != PipelineStatus.OFF:
            return False  # in a pipeline the status of the transaction is an old one
        return self._work.info.transaction_status is TransactionStatus.IDLE
