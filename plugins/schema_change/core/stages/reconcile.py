"""Find runs whose owner is gone, and finish or roll them back."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from uuid import UUID

import psycopg

from schema_change.core.database import Target
from schema_change.core.errors import SchemaChangeError
from schema_change.core.journal import registry
from schema_change.core.journal.fence import release_fence, try_fence
from schema_change.core.journal.journal import RunRow, get_run, unfinished_runs
from schema_change.core.stages.request import Request
from schema_change.core.stages.runner import Runner

log = logging.getLogger(__name__)

#: Builds the request that finishes a run from its journal: options, artifacts and scratch as they were.
Build = Callable[[RunRow], Request]


@dataclasses.dataclass(frozen=True, slots=True)
class Reconciled:
    """What became of one unfinished run."""

    run_id: UUID
    change_id: str
    action: str


def reconcile(
    target: Target,
    *,
    is_over: Callable[[RunRow], bool],
    build: Build,
    only: UUID | None = None,
    progress: Callable[[str], None] | None = None,
) -> list[Reconciled]:
    """Finish every unfinished run whose fence is free and whose requester is over; return what was done.

    ``is_over`` tells whether the Airflow run, or the process, that asked for a run has ended. A person who names a
    run with ``only`` has decided that already, so then only the fence counts.
    """
    results: list[Reconciled] = []
    with target.connect("reconcile") as connection:
        if not registry.is_installed(connection):
            return results
        for run_id in unfinished_runs(connection):
            if only is not None and run_id != only:
                continue
            run = get_run(connection, run_id)
            assert run is not None  # noqa: S101 - it was listed a moment ago
            if not try_fence(connection, run_id):
                results.append(Reconciled(run_id, run.change_id, "left alone: a task of it is at work"))
                continue
            release_fence(connection, run_id)
            if only is None and run.status == "rollback_failed":
                # Trying again could put a backup back again, and lose what was written since.
                action = f"left alone: its rollback failed, a person must look (then: reconcile --run {run_id})"
                results.append(Reconciled(run_id, run.change_id, action))
                continue
            if only is None and not is_over(run):
                action = f"left alone: {run.requested_from} is not over, or cannot be judged from here"
                results.append(Reconciled(run_id, run.change_id, action))
                continue
            results.append(Reconciled(run_id, run.change_id, _finish(run, build(run), progress)))
    return results


def _finish(run: RunRow, request: Request, progress: Callable[[str], None] | None) -> str:
    """Go forward past the point of no return, else undo; never raise, so that one run does not hide the others."""
    runner = Runner(request, progress=progress)
    stages = ("contract", "report") if run.status == "contracting" else ("rollback", "verify_rollback", "report")
    try:
        summaries = [runner.run(stage).summary for stage in stages]
    except (SchemaChangeError, psycopg.Error) as error:
        log.exception("run %s of %s could not be finished", run.run_id, run.change_id)
        return f"failed: {error}"
    return "; ".join(summaries[:2])
