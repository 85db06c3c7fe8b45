"""The stages of a run in this process: the shards of a backfill as threads."""

from __future__ import annotations

import concurrent.futures as cf
import threading
import time
from collections.abc import Sequence

from schema_change.core.backfill.shards import ShardStopped
from schema_change.core.stages import SHARDED
from schema_change.core.stages.request import StageResult
from schema_change.core.stages.runner import Runner


class LocalRunner(Runner):
    """Runs the stages of one request, where a task would be mapped with a thread for each shard."""

    _others: Sequence[Runner] = ()
    _cancelled = False

    def run(self, stage: str, shard: int = 0) -> StageResult:
        """Run a stage as :class:`Runner` does. Raises the error of the shard that failed first."""
        if stage != SHARDED or stage in self.skipped or self.request.options.shards == 1:
            return super().run(stage, shard)
        self._others = [Runner(self.request, progress=self.progress) for _ in range(1, self.request.options.shards)]
        name = f"shard-{id(self)}"
        with cf.ThreadPoolExecutor(1 + len(self._others), name) as pool:
            try:
                shards = [pool.submit(super().run, stage)]
                shards += [pool.submit(runner.run, stage, number) for number, runner in enumerate(self._others, 1)]
                cf.wait(shards)
            except BaseException:
                # A person who presses Ctrl-C must not wait for the end of the backfill. It may come while a shard is
                # being submitted, so those that are at work are told by their threads; and one may have been just about
                # to open its sessions.
                pool.shutdown(wait=False, cancel_futures=True)
                while any(thread.name.startswith(name) for thread in threading.enumerate()):
                    self.cancel()
                    time.sleep(0.2)
                raise
        errors = [error for future in shards if (error := future.exception()) is not None]
        if errors and not self._cancelled and all(getattr(error, "retryable", False) for error in errors):
            return super().run(stage)  # as a task would be tried again: from the checkpoints, or finding all done
        if errors:
            raise next((error for error in errors if not isinstance(error, ShardStopped)), errors[0])
        return shards[0].result()

    def cancel(self) -> None:
        """Cancel what every shard runs in the database and close the sessions."""
        self._cancelled = True
        super().cancel()
        for runner in self._others:
            runner.cancel()
