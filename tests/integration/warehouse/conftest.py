"""The warehouse and changes of its template."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from schema_change.core.database import Target
from schema_change.core.stages import STAGES
from tests.bench import Bench, Run
from tests.integration.warehouse.warehouse import Warehouse, empty, sources, warehouse

__all__ = ["empty", "sources", "warehouse"]

#: Runs an operation on the template as a change of its own, up to a stage or to its end.
Change = Callable[..., Run]


@pytest.fixture
def bench(target: Target, tmp_path: Path) -> Bench:
    return Bench(target, tmp_path)


@pytest.fixture
def change(bench: Bench, warehouse: Warehouse) -> Change:
    return change_of(bench)


def change_of(bench: Bench, **more: Any) -> Change:
    """Return what runs one operation on the bench's database; ``more`` are parts of its requests."""

    def run(kind: str, body: dict[str, Any], *, stop_before: str | None = None, **options: Any) -> Run:
        folder = bench.folder / "changes"
        number = len(list(folder.glob("*"))) + 1 if folder.exists() else 1
        request = bench.request(bench.write(f"{number:03}_change", {"operations": [{kind: body}]}), **options)
        run = Run(replace(request, **more))
        for stage in STAGES[: STAGES.index("rollback")]:
            if stage == stop_before or not run.try_stage(stage):
                break
            if stage == "plan":
                run.approve()
        if stop_before is None:
            run.finish()
        return run

    return run
