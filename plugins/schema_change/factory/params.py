"""The trigger form of a change, generated from the core's options."""

from __future__ import annotations

from functools import cache
from typing import Any

from airflow.sdk import Param

from schema_change.core.changes.procedures import Procedure
from schema_change.core.stages.request import Options

#: Sections are collapsed in the form; what most runs decide is outside of them.
_SECTIONS = {
    "batch_target_ms": "Speed and locks",
    "shards": "Speed and locks",
    "lock_timeout_ms": "Speed and locks",
    "lock_wait_s": "Speed and locks",
    "long_transaction_s": "Speed and locks",
    "vacuum_full": "Speed and locks",
    "skip_backup": "Exceptions (audited)",
    "skip_rehearsal": "Exceptions (audited)",
    "terminate_blockers": "Exceptions (audited)",
}
#: Where the option's own name would not tell a reader of the form what is asked.
_TITLES = {"on_revert_failure": "If an undo fails", "backup_scope": "What to back up"}
_CHOICES = {
    "on_revert_failure": {"fail": "stop for a person", "restore": "restore the backup (loses later writes)"},
    "backup_scope": {"tables": "rows of the tables that change, and the whole schema", "database": "everything"},
}
CONN_ID = r"^[\w.\-]{1,200}$"
_UNITS = {"_ms": " (ms)", "_s": " (s)"}


def params_of(conn_id: str | None) -> dict[str, Param]:
    """Return the params of a change's DAG; their words are those of the CLI."""
    return {
        "conn_id": conn_id_param(conn_id),
        **{name: _param(name, schema) for name, schema in _options().items()},
    }


def procedure_params(procedure: Procedure) -> dict[str, Param]:
    """Return the params of a procedure: what its change is made of, then those of every change."""
    own = {}
    for name, schema in procedure.schemas().items():
        rules = {key: value for key, value in schema.items() if key not in ("default", "description")}
        known = {"default": schema["default"]} if "default" in schema else {}
        own[name] = Param(**known, description=schema.get("description"), title=_title(name), **rules)
    common = params_of(None)
    return {"conn_id": common.pop("conn_id"), **own, **common}


def conn_id_param(default: str | None) -> Param:
    """Return the param that names the target; required when there is no default."""
    known: dict[str, Any] = {} if default is None else {"default": default}
    return Param(
        **known,
        description="Airflow connection of the database",
        type="string",
        pattern=CONN_ID,
        title="Target connection",
    )


@cache
def _options() -> dict[str, Any]:
    properties: dict[str, Any] = Options.model_json_schema()["properties"]
    return properties


def _param(name: str, schema: dict[str, Any]) -> Param:
    rules = {key: value for key, value in schema.items() if key not in ("default", "description", "title")}
    if rules["type"] == "array":
        rules["type"] = ["array", "null"]  # what an empty field of the form becomes
    if name in _SECTIONS:
        rules["section"] = _SECTIONS[name]
    if name in _CHOICES:
        rules["values_display"] = _CHOICES[name]
    return Param(schema["default"], schema.get("description"), title=_title(name), **rules)


def _title(name: str) -> str:
    if name in _TITLES:
        return _TITLES[name]
    for suffix, unit in _UNITS.items():
        if name.endswith(suffix):
            return name.removesuffix(suffix).replace("_", " ").capitalize() + unit
    return name.replace("_", " ").capitalize()
