"""What a stage works with: two sessions on the target, the journal, the fence, the runner of steps."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Self
from uuid import UUID

import psycopg

from schema_change.core.backfill.engine import BackfillSettings, Progress
from schema_change.core.backfill.throttle import ThrottleSettings
from schema_change.core.database import Connection, Target, terminate_quietly
from schema_change.core.execution.locks import LockSafeExecutor, LockSettings
from schema_change.core.execution.steps import StepRunner
from schema_change.core.execution.waiting import Parking
from schema_change.core.journal.fence import fenced, release_fence, take_fence
from schema_change.core.journal.journal import Journal
from schema_change.core.journal.known import Known
from schema_change.core.model import Phase, Plan, Step
from schema_change.core.stages.request import Options, Request
from schema_change.core.surroundings.hooks import HookRunner
from schema_change.core.surroundings.models import Surroundings

Note = Callable[[str], None]

#: Raw SQL and expressions may name tables of schema public without it, as they would in psql.
_PUBLIC = "SET search_path = public"


@dataclass(frozen=True)
class Session:
    """One task's try at a stage. ``work`` holds the fence and does the work; ``side`` looks, and records failures.

    ``known`` is what may be kept while the fence is held.
    """

    request: Request
    target: Target
    work: Connection
    side: Connection
    journal: Journal
    steps: StepRunner
    note: Note
    known: Known

    @property
    def options(self) -> Options:
        """Return the run's options."""
        return self.request.options

    @property
    def run_id(self) -> UUID:
        """Return the run's id."""
        return self.journal.run_id

    def plan(self) -> Plan:
        """Return the plan stored in the journal."""
        return self.journal.plan()

    @property
    def surroundings(self) -> Surroundings:
        """Return what lies around the change, as it was planned."""
        return Surroundings.of(self.journal.run.change)

    @property
    def hooks(self) -> HookRunner:
        """Return what runs the hooks of this run; they end when the session does."""
        return HookRunner(self.journal.on(self.side), self.target, self.note, self.is_open)

    def is_open(self) -> bool:
        """Tell whether nobody has cancelled the session."""
        return not self.side.closed

    def run_phase(self, phase: Phase) -> list[Step]:
        """Run every step of a phase that is not done yet; return the phase's steps."""
        rows = [row for row in self.journal.steps() if row.planned.phase is phase]
        for row in rows:
            self.steps.run(row)
        return [row.planned for row in rows]

    def undo_all(self) -> int:
        """Undo every step that was done or begun, newest first; return how many."""
        return sum(self.steps.undo(row) for row in reversed(self.journal.steps()))

    def cancel(self) -> None:
        """Cancel what runs and close both sessions; the journal stays as it is."""
        terminate_quietly(self.work)
        terminate_quietly(self.side)


#: Seconds after which an idle session may have been ended by the server, or something in between.
_TRUSTED_S = 5.0


class Pair:
    """Both sessions on a target, kept for all stages of the runs of one process; a lost one is opened anew.

    So is the fence of the run at work, from one stage to the next, with what is known of its journal.
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        self._open: dict[str, Connection] = {}
        self._used: dict[str, float] = {}
        self._durable = True
        self._held: tuple[Connection, UUID] | None = None
        self._known = Known()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.forget()

    def forget(self) -> None:
        """Give the fence back and close both sessions; the next stage opens new ones."""
        with contextlib.suppress(psycopg.Error):  # the server does it for a session that is lost, some time later
            self.rest()
        self._known.forget()
        for connection in self._open.values():
            connection.close()
        self._open.clear()

    @property
    def work(self) -> Connection:
        """Return the session that does the work."""
        return self._session("apply")

    @property
    def side(self) -> Connection:
        """Return the session that looks, and records failures."""
        return self._session("apply:side")

    def known(self, run_id: UUID) -> Known:
        """Return what is known of a run: nothing yet, unless its fence is held since the stage before."""
        if self._held != (self.work, run_id):
            self.rest()
            self._known = Known(self.work)
        return self._known

    def hold(self, run_id: UUID) -> None:
        """Take the fence of a run and keep it. Raises OwnershipError while somebody else is at work on it."""
        if self._held is None:
            take_fence(self.work, run_id)
            self._held = (self.work, run_id)

    def rest(self) -> None:
        """Give the fence back, if one is held: the run has ended, waits, or has failed."""
        held, self._held = self._held, None
        if held is not None:
            self._known.forget()
            release_fence(*held)

    def durable(self, wanted: bool) -> None:
        """Say whether a commit waits for the disk.

        While nothing is changed yet, and once everything is, the journal need not wait: WAL keeps the order, so all
        that came before a commit that waited is safe with it. A crash of the server can take the last entries only.
        """
        if wanted is not self._durable:
            for session in (self.work, self.side):
                session.execute(f"SET synchronous_commit TO {'DEFAULT' if wanted else 'off'}")
            self._durable = wanted

    def _session(self, purpose: str) -> Connection:
        now = time.monotonic()
        idle, self._used[purpose] = now - self._used.get(purpose, 0.0), now
        connection = self._open.get(purpose)
        if connection is None or connection.closed or (idle > _TRUSTED_S and not _answers(connection)):
            connection = self._open[purpose] = self.target.connect(purpose)
            if not self._durable:
                connection.execute("SET synchronous_commit TO off")
            if purpose == "apply":
                connection.execute(_PUBLIC)
        return connection


def _answers(connection: Connection) -> bool:
    try:
        connection.execute("SELECT 1")
    except psycopg.OperationalError:
        return False
    return True


@contextlib.contextmanager
def _sessions(target: Target, purpose: str, pair: Pair | None, read_only: bool) -> Iterator[tuple[Connection, ...]]:
    if pair is not None:
        try:
            yield pair.work, pair.side
        except BaseException:
            # A script that failed half-way leaves its settings in the session, such as a role.
            pair.forget()
            raise
        return
    with (
        target.connect(purpose, read_only=read_only) as work,
        target.connect(f"{purpose}:side", read_only=read_only) as side,
    ):
        work.execute(_PUBLIC)
        yield work, side


@contextlib.contextmanager
def open_session(
    request: Request,
    purpose: str,
    note: Note,
    *,
    target: Target | None = None,
    run_id: UUID | None = None,
    parking: Parking | None = None,
    pair: Pair | None = None,
    shard: int | None = None,
    opened: Callable[[Session], None] = lambda session: None,
) -> Iterator[Session]:
    """Open both sessions on the target and hold the run's fence.

    ``parking`` says whether long waits end with Parked. ``opened`` receives the session before the fence is taken, so
    that a kill can cancel it. ``pair`` has the sessions of a process that runs several stages. Sessions that fill a
    ``shard`` share the fence. Raises OwnershipError while another try of the same run is at work.
    """
    target = target or request.target
    run_id = run_id or request.run_id
    if pair is not None and shard is not None:
        pair.rest()  # the shards share the fence
    with _sessions(target, purpose, pair, request.options.dry_run) as (work, side):
        options = request.options
        settings = LockSettings(options.lock_timeout_ms, options.lock_wait_s, options.terminate_blockers)
        # Shards write each other's journal.
        known = Known() if shard is not None else pair.known(run_id) if pair is not None else Known(work)
        journal = Journal(work, run_id, request.requested_by, known)
        runner = StepRunner(
            work=work,
            side=side,
            executor=LockSafeExecutor(
                work,
                side,
                settings,
                note,
                audit=lambda message: journal.on(side).event("session_terminated", message),
                parking=parking,
            ),
            journal=journal,
            backfill=BackfillSettings(
                target_ms=options.batch_target_ms,
                lock_wait_s=options.lock_wait_s,
                shards=1 if shard is None else options.shards,
                shard=shard or 0,
                throttle=_limits(request, target),
            ),
            note=note,
            on_progress=lambda step, progress: note(describe(step, progress)),
        )
        session = Session(request, target, work, side, journal, runner, note, known)
        opened(session)
        if pair is not None and shard is None:
            pair.hold(run_id)
            yield session
            return
        with fenced(work, run_id, shared=shard is not None):
            yield session


def _limits(request: Request, target: Target) -> ThrottleSettings:
    """Return when backfills pause.

    A run that is finished from its journal alone has none to do; a copy knows nothing of what the change asks about
    its own database.
    """
    if request.change is None:
        return ThrottleSettings()
    elsewhere = set() if target == request.target else {"sql", "prometheus"}
    return ThrottleSettings(**request.change.surroundings.throttle.model_dump(exclude=elsewhere))


def describe(step: Step, progress: Progress) -> str:
    """Return one line about a backfill: rows, share, rate, time left, and why it waits."""
    total = f" of about {progress.rows_estimated:,}" if progress.rows_estimated else ""
    share = f" ({progress.fraction:.0%})" if progress.fraction is not None else ""
    rate = f", {progress.rate:,.0f} rows/s" if progress.rate else ""
    low, high = (f"{bound:.0f}" for bound in progress.eta_s or (0, 0))
    left = f", {low if low == high else f'{low}–{high}'} s left" if high != "0" else ""
    wait = f", waiting: {progress.throttle_reason}" if progress.throttle_reason else ""
    shard = f", {progress.shard}" if progress.shard else ""
    return f"{step.title}{shard}: {progress.rows_done:,} rows{total}{share}{rate}{left}{wait}"
