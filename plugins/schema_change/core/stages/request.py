"""What a run is asked to do: change, target, options, who asked, where artifacts go."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field
from upath import UPath

from schema_change.core.changes.spec import Change
from schema_change.core.database import Target
from schema_change.core.execution.waiting import Waiting
from schema_change.core.surroundings.blackouts import load_blackouts
from schema_change.core.surroundings.models import Blackout


class Options(BaseModel):
    """The choices of one run; the same words are the DAG's params and the CLI's flags. Unknown words are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dry_run: bool = Field(default=False, description="Plan and pre-check only; nothing is written to the target")
    batch_target_ms: int = Field(default=500, ge=10, le=60_000, description="How long one backfill batch should take")
    shards: int = Field(
        default=1, ge=1, le=16, description="How many key ranges of a large table are filled side by side"
    )
    lock_timeout_ms: int = Field(default=100, ge=10, le=10_000, description="How long one lock attempt may wait")
    lock_wait_s: int = Field(default=600, ge=1, le=86_400, description="How long to keep trying for a lock in all")
    backup_scope: Literal["tables", "database"] = Field(
        default="tables", description="Rows of the tables the change touches (and the whole schema), or everything"
    )
    on_revert_failure: Literal["fail", "restore"] = Field(
        default="fail", description="When an undo fails: stop for a person, or restore the backup (loses later writes)"
    )
    skip_backup: bool = Field(
        default=False, description="Take no backup: the run cannot be restored, nor be rehearsed; audited"
    )
    skip_rehearsal: bool = Field(
        default=False, description="Do not try the change and its undo on a copy of the data first; audited"
    )
    vacuum_full: bool = Field(
        default=False,
        description="After the change has landed, rewrite its tables to give disk space back (VACUUM FULL): nobody "
        "reads or writes them meanwhile; only for a change with a window",
    )
    terminate_blockers: bool = Field(default=False, description="Terminate sessions that block us; audited")
    approvers: tuple[str, ...] = Field(
        default=(), description="Ask only these users for approval; they must be allowed to by the policy"
    )
    long_transaction_s: int = Field(default=300, ge=1, description="Transactions older than this fail the pre-check")


@dataclass(frozen=True)
class Request:
    """One run of one change against one target.

    ``artifacts`` is the folder (any fsspec URL) for backups, reports and Data Docs. ``scratch`` is the server on
    which backups are verified and rehearsed; None means the target's own server, for small changes only.
    ``approvers`` maps a role to its users, from the policy file; ``blackouts_file`` has the installation's blackouts.
    ``change`` is None when a run is finished from its journal alone, as reconcile and a later rollback do.
    """

    run_id: UUID
    change: Change | None
    target: Target
    options: Options
    artifacts: UPath
    requested_by: str = ""
    requested_from: str = ""
    scratch: Target | None = None
    expectations: Path | None = None
    approvers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    blackouts_file: Path | None = None

    @property
    def folder(self) -> UPath:
        """Return the folder of this run's artifacts."""
        return self.artifacts / self.target.conn_id / str(self.run_id)

    def blackouts(self) -> tuple[Blackout, ...]:
        """Read when no change of this installation goes on; what ends a run never asks. Raises ChangeFileError."""
        return load_blackouts(self.blackouts_file) if self.blackouts_file is not None else ()

    @property
    def backup_folder(self) -> UPath:
        """Return the folder of this run's backup."""
        return backup_folder(self.artifacts, self.target.conn_id, self.run_id)


def backup_folder(artifacts: UPath, conn_id: str, run_id: UUID) -> UPath:
    """Return where the backup of a run is."""
    return artifacts / conn_id / str(run_id) / "backup"


@dataclass(frozen=True, slots=True)
class StageResult:
    """What a stage did: ``done`` or ``skipped`` with the reason in ``summary``; ``data`` is JSON for the report.

    A stage that is ``waiting`` has to be run again, and goes on then: at ``until``, or as soon as ``waits_for`` is over
    when it says what that is.
    """

    stage: str
    status: Literal["done", "skipped", "waiting"]
    summary: str
    data: Mapping[str, Any] = field(default_factory=dict)
    until: dt.datetime | None = None
    waits_for: Waiting | None = None
