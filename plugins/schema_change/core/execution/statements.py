"""What failed, and why: statements, their time-outs, and the errors made of them."""

from __future__ import annotations

import time

import psycopg
from psycopg import errors

from schema_change.core.errors import ExecutionError

#: Errors that say *not now*: somebody else's lock or transaction was in the way.
TRANSIENT = (errors.LockNotAvailable, errors.DeadlockDetected, errors.SerializationFailure)

_LOST = (errors.AdminShutdown, errors.CrashShutdown, errors.IdleSessionTimeout)


class Clock:
    """Knows which statement runs and its statement_timeout, so that our own time-out is told from a cancel request.

    The server reports both with the same SQLSTATE, and their messages are translated.
    """

    def __init__(self) -> None:
        self.statement = "BEGIN"
        self.working = False
        self._bound_ms = 0
        self._started = time.monotonic()

    def start(self, statement: str, bound_ms: int = 0, *, working: bool = False) -> None:
        """Note what runs next; ``bound_ms`` is its statement_timeout, 0 for none."""
        self.statement, self.working, self._bound_ms = statement, working, bound_ms
        self._started = time.monotonic()

    def ran_out(self, error: psycopg.Error) -> bool:
        """Tell whether the error is our own statement_timeout."""
        elapsed_ms = (time.monotonic() - self._started) * 1000
        return isinstance(error, errors.QueryCanceled) and 0 < self._bound_ms <= elapsed_ms


def first_line(statement: str) -> str:
    """Return the first line of a statement that is not a comment, cut to 120 characters."""
    lines = (line.strip() for line in statement.splitlines())
    line = next((line for line in lines if line and not line.startswith("--")), statement.strip())
    return line if len(line) <= 120 else f"{line[:119]}…"


def message_of(error: psycopg.Error) -> str:
    """Return the server's primary message, or the driver's words when there is no server message."""
    return error.diag.message_primary or str(error).strip() or type(error).__name__


NOTHING_LEFT = "nothing of this statement is left; correct it and run again"


def statement_failed(statement: str, error: psycopg.Error, *, left: str = NOTHING_LEFT) -> ExecutionError:
    """Return the error for a failed statement: its first line, the server's message and the SQLSTATE.

    ``left`` is the hint about what the statement left behind, used when the server has none.
    """
    where = first_line(statement)
    if error.sqlstate is None or isinstance(error, _LOST):
        lost = ExecutionError(
            f"{where}: the connection to the database was lost: {message_of(error)}",
            hint="run this again: what was committed is in the journal, the rest was rolled back by the server",
        )
        lost.retryable = True
        return lost
    hint = error.diag.message_hint
    return ExecutionError(
        f"{where}: {message_of(error)} (SQLSTATE {error.sqlstate})",
        hint=f"{hint[:1].lower()}{hint[1:]}" if hint else left,
    )
