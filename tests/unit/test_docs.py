"""What the pages say can be done: links lead somewhere, make targets exist, conf is valid."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from schema_change.core.changes.procedures import PROCEDURES, Procedure
from schema_change.core.stages.request import Options

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
AIRFLOW_DAGS = {
    *("backup_retention", "data_quality", "follow_ups", "reconcile", "recover", "restore", "retention"),
    *("warehouse_install", "warehouse_refresh", "warehouse_fold_year", "warehouse_emergency"),
}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
        if "://" not in link:
            assert (page.parent / link).exists(), link


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for page in PAGES:
        blocks = re.findall(r"^```\w+\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
        for target in re.findall(r"^make ([a-z-]+)", "\n".join(blocks), re.MULTILINE):
            assert target in targets, (page, target)


def conf_of_procedure(procedure: Procedure, conf: dict[str, Any]) -> None:
    """Fail when a conf has a word the procedure does not know, or does not describe a change."""
    own = {name: value for name, value in conf.items() if name in procedure.schemas()}
    Options.model_validate({k: v for k, v in conf.items() if k not in {*own, "conn_id"}})
    procedure.change(own, run="r", conn_id=conf["conn_id"], at=datetime.now(UTC))


def test_triggers_name_a_dag_and_have_a_conf_it_takes() -> None:
    changes = {folder.name for folder in (ROOT / "include" / "sql" / "changes").iterdir() if folder.is_dir()}
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    triggers = re.findall(r"airflow dags trigger (\w+)(?:[^\n']*--conf '([^']*)')?", text)
    assert triggers
    for dag_id, conf in triggers:
        assert dag_id in changes | AIRFLOW_DAGS | set(PROCEDURES)
        if dag_id in PROCEDURES:
            conf_of_procedure(PROCEDURES[dag_id], json.loads(conf))
        if dag_id in changes and conf:
            Options.model_validate({k: v for k, v in json.loads(conf).items() if k != "conn_id"})
