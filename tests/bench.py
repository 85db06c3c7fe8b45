"""A small database, changes written to a temporary folder, and runs of them on the real engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import yaml
from upath import UPath

from schema_change.core.backup.checksums import checksums
from schema_change.core.catalog.read import read_catalog
from schema_change.core.changes.load import load_changes
from schema_change.core.database import Connection, Target
from schema_change.core.errors import SchemaChangeError
from schema_change.core.journal.journal import Journal
from schema_change.core.names import Table
from schema_change.core.stages import STAGES
from schema_change.core.stages.request import Options, Request, StageResult
from schema_change.core.stages.runner import Runner

FORWARD = STAGES[: STAGES.index("rollback")]
FINISH = STAGES[STAGES.index("rollback") :]
READINGS = Table("public", "readings")


@dataclass
class Bench:
    """Writes changes and runs them as the DAG would: the first failure goes to rollback and the end."""

    target: Target
    folder: Path
    options: Options = field(default_factory=Options)

    def write(self, change_id: str, document: Mapping[str, Any] | None = None, /, **scripts: str) -> str:
        folder = self.folder / "changes" / change_id
        folder.mkdir(parents=True, exist_ok=True)
        document = {"description": "a test", "conn_id": "target", **(document or {})}
        (folder / "change.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
        for name, text in scripts.items():
            (folder / f"{name}.sql").write_text(text)
        return change_id

    def expectations(self, name: str, text: str) -> None:
        folder = self.folder / "expectations"
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(text)

    def request(self, change_id: str, *, run_id: UUID | None = None, **options: Any) -> Request:
        changes = load_changes(self.folder / "changes", expectations_root=self.folder / "expectations")
        assert not changes.broken, changes.broken
        change = next(c for c in changes.changes if c.id == change_id)
        return Request(
            run_id=run_id or uuid4(),
            change=change,
            target=self.target,
            options=self.options.model_copy(update=options),
            artifacts=UPath(self.folder / "artifacts"),
            requested_by="tester",
            requested_from="test",
            expectations=self.folder / "expectations",
        )

    def run(self, request: Request, *, stop_before: str | None = None) -> Run:
        run = Run(request)
        for stage in FORWARD:
            if stage == stop_before or not run.try_stage(stage):
                break
        if stop_before is None:
            run.finish()
        return run

    def state(self, *tables: Table) -> dict[str, Any]:
        """Return everything a rollback must give back: the catalog, and the rows of the tables."""
        with self.target.connect("state") as connection:
            catalog = read_catalog(connection)
            return {
                "fingerprint": catalog.fingerprint,
                "rows": [c.to_json() for c in checksums(connection, tables or (READINGS,))],
            }


@dataclass
class Run:
    request: Request
    results: dict[str, StageResult] = field(default_factory=dict)
    error: SchemaChangeError | None = None
    outcome_error: SchemaChangeError | None = None

    def try_stage(self, stage: str) -> bool:
        try:
            self.results[stage] = Runner(self.request).run(stage)
        except SchemaChangeError as error:
            self.error = error
            return False
        return True

    def approve(self) -> None:
        """Give every approval the plan needs, as somebody who did not ask for the run."""
        for approval in Runner(self.request).approvals():
            Runner(self.request).record_approval(role=approval.role, user="somebody else")

    def finish(self) -> None:
        for stage in FINISH:
            try:
                self.results[stage] = Runner(self.request).run(stage)
            except SchemaChangeError as error:
                self.outcome_error = error

    def skipped(self) -> set[str]:
        return {name for name, result in self.results.items() if result.status == "skipped"}

    def journal(self, connection: Connection) -> Journal:
        return Journal(connection, self.request.run_id)

    def again(self, **options: Any) -> Run:
        request = replace(self.request, options=self.request.options.model_copy(update=options))
        return Run(request, dict(self.results))
