"""The stages of a run in this process: the shards of a backfill as threads."""

from __future__ import annotations

import concurrent.futures as cf
from collections.abc import Callable

from schema_change.core.backfill.shards import ShardStopped
from schema_change.core.stages import SHARDED
from schema_change.core.stages.request import Request, StageResult
from schema_change.core.stages.runner import Runner


class LocalRunner:
    """Runs the stages of one request, one at a time; where a task would be mapped, with a thread for each shard."""

    def __init__(self, request: Request, *, progress: Callable[[str], None] | None = None) -> None:
        self._runners = [Runner(request, progress=progress) for _ in range(request.options.shards)]

    def run(self, stage: str) -> StageResult:
        """Run a stage as :meth:`Runner.run` does. Raises the error of the shard that failed first."""
        if stage != SHARDED or len(self._runners) == 1:
            return self._runners[0].run(stage)
        with cf.ThreadPoolExecutor(len(self._runners), "shard") as pool:
            shards = [pool.submit(runner.run, stage, shard) for shard, runner in enumerate(self._runners)]
            try:
                cf.wait(shards)
            except BaseException:
                # A person who presses Ctrl-C must not wait for the end of the backfill.
                self.cancel()
                while cf.wait(shards, timeout=1).not_done:
                    self.cancel()  # one that was just about to open its session
                raise
        errors = [error for shard in shards if (error := shard.exception()) is not None]
        if errors:
            raise next((error for error in errors if not isinstance(error, ShardStopped)), errors[0])
        return shards[0].result()

    def cancel(self) -> None:
        """Cancel what runs in the database and close the sessions."""
        for runner in self._runners:
            runner.cancel()
