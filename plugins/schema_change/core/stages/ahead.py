"""Which stages of a run have nothing to do, known from the journal before they are begun."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from schema_change.core.model import Phase
from schema_change.core.stages.before import needed_approvals
from schema_change.core.stages.session import Session


def has_nothing_to_do(session: Session, stage: str) -> bool:
    """Tell whether a stage would be skipped, once everything before it is done or skipped."""
    return stage in _IDLE and _IDLE[stage](session)


def _no_approvals(session: Session) -> bool:
    return not needed_approvals(session)


def _no_rehearsal(session: Session) -> bool:
    return session.options.skip_rehearsal or session.options.skip_backup


def _no_fill(session: Session) -> bool:
    # Another DAG that fills data runs before this stage, which makes sure of it.
    return session.surroundings.backfill_dag is None and not _has_steps(session, Phase.BACKFILL)


def _no_switch(session: Session) -> bool:
    hooks = session.surroundings.hooks
    # Where there is something to fill, cutover asserts that no row is left.
    return not (hooks.before_cutover or hooks.after_cutover or _has_steps(session, Phase.BACKFILL, Phase.CUTOVER))


def _no_soak(session: Session) -> bool:
    return session.surroundings.soak is None


def _landed(session: Session) -> bool:
    return session.journal.run.status == "applied"


def _has_steps(session: Session, *phases: Phase) -> bool:
    return any(row.planned.phase in phases for row in session.journal.steps())


#: The others always do something, be it only to record that it was not asked for.
_IDLE: Mapping[str, Callable[[Session], bool]] = {
    "approve": _no_approvals,
    "rehearse": _no_rehearsal,
    "backfill": _no_fill,
    "cutover": _no_switch,
    "soak": _no_soak,
    "rollback": _landed,
    "verify_rollback": _landed,
}
