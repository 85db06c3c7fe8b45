"""How the core's answers become task states: skipped with a reason, failed for good, or tried again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import psycopg
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from schema_change.core.errors import SchemaChangeError
from schema_change.core.stages.request import StageResult

#: SQLSTATE classes after which a later try can succeed: connection lost, transaction rolled back by the server,
#: out of resources, shut down by an operator.
_TRANSIENT = ("08", "40", "53", "57P")


@contextlib.contextmanager
def task_errors() -> Iterator[None]:
    """Fail the task for good when trying again cannot help; let everything else through to Airflow's retries."""
    try:
        yield
    except SchemaChangeError as error:
        if error.retryable:
            raise
        raise AirflowFailException(str(error)) from error
    except psycopg.Error as error:
        if _transient(error):
            raise
        raise AirflowFailException(f"{error.sqlstate}: {error}") from error


def done_or_skip(result: StageResult) -> StageResult:
    """Return a result that is done; raise AirflowSkipException, with the reason, for one that is skipped."""
    if result.status == "skipped":
        raise AirflowSkipException(result.summary)
    return result


def _transient(error: psycopg.Error) -> bool:
    if error.sqlstate is None:  # the server did not speak: the connection was lost, or the client misused
        return isinstance(error, psycopg.OperationalError)
    return error.sqlstate.startswith(_TRANSIENT)
