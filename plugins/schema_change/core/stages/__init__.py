"""The stages of a run, one module each; Airflow tasks and the CLI run the same ones in the same order."""

from __future__ import annotations

#: In the order of the DAG. ``rollback`` and ``verify_rollback`` decide by the journal whether there is work.
STAGES = (
    "plan",
    "approve",
    "backup",
    "pre_check",
    "rehearse",
    "migrate",
    "backfill",
    "cutover",
    "validate",
    "soak",
    "contract",
    "rollback",
    "verify_rollback",
    "report",
    "outcome",
)

#: The stage that several sessions may run side by side, each beginning with a shard of its own.
SHARDED = "backfill"

#: Between migrate and backfill, in the journal of a change whose data another DAG fills. It is no stage of the core.
BACKFILL_DAG = "backfill_dag"
