"""The stage of B4: the load on a table, who is in the way of what is done to it, and what the load saw of that."""

from __future__ import annotations

import math
import shutil
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from benchmarks import load
from benchmarks.bench import Bench
from benchmarks.changes import changes, connect, copied
from schema_change.core.database import Target
from tests import bench as engine


@dataclass(frozen=True)
class Wait:
    """One thing done while somebody was in the way, from the beginning of that to the end of all.

    ``waited`` is the moment at which the lock was had and used, ``after_s`` how long after the transaction that was.
    """

    what: str
    began: float
    waited: float
    ended: float
    after_s: float


@dataclass
class Scene:
    """The database, its load, and the times at which things happened."""

    bench: Bench
    target: Target
    made: engine.Bench
    app: load.Load
    waits: list[Wait] = field(default_factory=list)
    whole: dict[str, tuple[float, float]] = field(default_factory=dict)
    quiet: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))

    def be_quiet(self, seconds: float, *names: str) -> None:
        """Let the load work alone for a moment, which counts as the quiet time of what comes before and after."""
        began = time.time()
        time.sleep(seconds)
        for name in names:
            self.quiet[name].append((began, time.time()))

    @contextmanager
    def all_of(self, name: str) -> Iterator[None]:
        """Count every stall within the block as one of that work."""
        began = time.time()
        yield
        self.whole[name] = (began, time.time())

    def seen(self, name: str, *, is_long: bool) -> Seen:
        """Return what the load saw of one work; of a long wait the statement itself counts into the p99 as well."""
        waits = [w for w in self.waits if w.what == name]
        stalled = self.app.between(*self.whole[name])
        waiting = self._together((w.began, w.waited if is_long else w.waited - w.after_s) for w in waits)
        before, after = (self.app.between(*times).p99 for times in self.quiet[name])
        quiet = self._together(self.quiet[name])
        return Seen(
            longest=stalled.longest_stall,
            median=stalled.median_stall,
            waiting=waiting,
            quiet=quiet,
            after_s=max((w.after_s for w in waits), default=math.nan),
            seconds=max((w.ended - w.began for w in waits), default=math.nan),
            noise=after / before,
        )

    def _together(self, times: Iterable[tuple[float, float]]) -> load.Window:
        return as_one(self.app.between(*each) for each in times)


@dataclass(frozen=True)
class Seen:
    """What the load saw of one work in one round: while it waited, and in its quiet times; ``noise`` is quiet twice.

    Seconds.
    """

    longest: float
    median: float
    waiting: load.Window
    quiet: load.Window
    after_s: float
    seconds: float
    noise: float

    @property
    def ratio(self) -> float:
        """Return the p99 while it waited against the quiet one."""
        return self.waiting.p99 / self.quiet.p99


def as_one(windows: Iterable[load.Window]) -> load.Window:
    """Return the transactions of some windows as if they were one."""
    found = list(windows)
    return load.Window([t for w in found for t in w.transactions], [], sum(w.seconds for w in found))


@contextmanager
def on_stage(bench: Bench, name: str, rows: int, rate: float) -> Iterator[Scene]:
    """Let the load work on a copy of its own; afterwards all it wrote must be there."""
    target = copied(bench, name, "template")
    made = changes(bench, target)
    with load.running(bench, target, rows, rate) as app:
        time.sleep(1)
        yield (scene := Scene(bench, target, made, app))
    shutil.rmtree(made.folder)
    with connect(target) as session:
        session.execute("DELETE FROM app WHERE id = 0")
        app.check(session, rows)
    bench.say(f"{name}: {len(scene.app.transactions)} transactions, no write lost")


@contextmanager
def blocked(scene: Scene, name: str, hold_s: float, *, run: engine.Run | None = None) -> Iterator[float]:
    """Keep a transaction open on the table for some seconds; yields its end."""
    with connect(scene.target, "somebody") as session:
        session.execute("BEGIN")
        session.execute("UPDATE app SET value = 0 WHERE id = 0")
        began = time.time()
        until = began + hold_s
        closed: list[float] = []

        def end() -> None:
            session.execute("COMMIT")
            closed.append(time.time())

        timer = threading.Timer(hold_s, end)
        timer.start()
        try:
            yield until
        finally:
            ended = time.time()
            timer.join()
            after = _after(scene, run, closed[0], ended) if run else max(0.0, ended - closed[0])
            scene.waits.append(Wait(name, began, closed[0] + after, ended, after))
            scene.bench.say(f"{name}: {ended - began:.1f} s, through {after:.2f} s after the transaction")


def _after(scene: Scene, run: engine.Run, closed: float, ended: float) -> float:
    """Return how long after the transaction the step was through that had waited for it, by the journal.

    What is filled first takes its time, whoever is in the way, and does not count.
    """
    with scene.target.connect("look") as session:
        steps = run.journal(session).steps()
    times = [(at.timestamp(), row) for row in steps for at in (row.finished_at, row.undone_at) if at]
    before = closed
    for at, row in sorted(times, key=lambda item: item[0]):
        if not closed < at <= ended:
            continue
        if row.planned.backfill is None:
            return at - before
        before = at
    return 0.0
