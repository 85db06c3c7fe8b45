"""Lint a plan: squawk for what the text shows, our own rules for what only the catalog or the whole plan shows."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from schema_change.core.catalog.model import Catalog
from schema_change.core.errors import ConfigurationError
from schema_change.core.model import Finding, Phase, Step
from schema_change.core.names import Table
from schema_change.core.planning import rules
from schema_change.core.planning.rules import Scene
from schema_change.core.sqltext.grammar import SqlError
from schema_change.core.sqltext.statements import Statement, split

# The executor sets time-outs, owns transactions and probes what was done; the others are rules of ours, which know
# the catalog. squawk's syntax errors are about statements newer than its grammar: ours is PostgreSQL's own.
_NOT_OURS = (
    "require-timeout-settings",
    "require-lock-timeout",
    "require-statement-timeout",
    "prefer-robust-stmts",
    "transaction-nesting",
    "ban-uncommitted-transaction",
    "adding-not-nullable-field",
    "changing-column-type",
    "prefer-repack",
)
_SYNTAX = "syntax-error"

#: Rules about locks, rewrites and lost data: errors on tables that hold rows.
_DANGEROUS = {
    "require-concurrent-index-creation",
    "require-concurrent-index-deletion",
    "require-concurrent-reindex",
    "require-concurrent-partition-detach",
    "constraint-missing-not-valid",
    "adding-field-with-default",
    "adding-foreign-key-constraint",
    "adding-serial-primary-key-field",
    "adding-required-field",
    "disallowed-unique-constraint",
    "ban-drop-column",
    "ban-drop-table",
    "ban-drop-function",
    "ban-truncate-cascade",
    "renaming-column",
    "renaming-table",
    "ban-concurrent-index-creation-in-transaction",
}
#: What typed operations do on purpose, in the phase made for it: swaps at cutover, drops in contract.
_COMPATIBILITY = {
    "ban-drop-constraint",
    "ban-drop-column",
    "ban-drop-table",
    "ban-drop-function",
    "ban-drop-not-null",
    "renaming-column",
    "renaming-table",
}


def lint_plan(steps: Sequence[Step], catalog: Catalog) -> tuple[Finding, ...]:
    """Return the findings of all steps, in their order. squawk runs once, for the whole plan."""
    parsed = [_statements(step) for step in steps]
    reports = _squawk([(step, found) for step, found in zip(steps, parsed, strict=True)], catalog)
    validated: set[Table] = set()
    findings: list[Finding] = []
    for number, (step, statements) in enumerate(zip(steps, parsed, strict=True)):
        scene = Scene(catalog, step, validated)
        if isinstance(statements, Finding):
            findings.append(statements)
            continue
        findings += _of_squawk(reports.get(number, []), statements, scene)
        for statement in statements:
            findings += [finding for rule in rules.RULES for finding in rule(statement, scene)]
            rules.note_validated(statement, scene)
        findings += rules.ddl_with_bulk_dml(statements, scene)
    return tuple(dict.fromkeys(findings))


def apply_waivers(findings: Sequence[Finding], waivers: Mapping[str, str]) -> tuple[Finding, ...]:
    """Mark the findings whose rule is waived, with the reason; report waivers that nothing needs."""
    marked = [replace(f, waived=waivers[f.rule]) if f.rule in waivers else f for f in findings]
    used = {f.rule for f in findings}
    unused = [
        Finding(
            "unused-waiver",
            "warning",
            f"the waiver for {rule} is not needed: nothing is found by that rule",
            "remove it from waivers:, or correct the rule's name",
        )
        for rule in waivers
        if rule not in used
    ]
    return (*marked, *unused)


def _statements(step: Step) -> list[Statement] | Finding:
    """Return a step's statements, analysed one by one under the search_path the step sets, or why they cannot be."""
    found: list[Statement] = []
    settings = ""
    for text in step.statements:
        try:
            statements = split(f"{settings}{text}")
        except SqlError as error:
            remedy = "let a person read this statement; it is not one that PostgreSQL's grammar knows"
            return Finding("unanalysable", "warning", error.message, remedy, text)
        if not statements:
            settings += f"{text};"
        found += statements
    return found


def _squawk(
    steps: Sequence[tuple[Step, list[Statement] | Finding]], catalog: Catalog
) -> dict[int, list[dict[str, Any]]]:
    """Run squawk on one file per step; return its reports by the number of the step."""
    files = {n: _script(step, found) for n, (step, found) in enumerate(steps) if isinstance(found, list) and found}
    if not files:
        return {}
    with tempfile.TemporaryDirectory(prefix="schema_change_lint_") as folder:
        for number, text in files.items():
            (Path(folder) / f"{number}.sql").write_text(text, encoding="utf-8")
        command = [
            *(_binary(), "--reporter", "json", "--pg-version", f"{catalog.server_version // 10000}.0"),
            *("--exclude", ",".join(_NOT_OURS)),
            *(f"{number}.sql" for number in files),
        ]
        # In a folder of its own it reads nobody's .squawk.toml.
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)
    try:
        reports: list[dict[str, Any]] = json.loads(result.stdout)
    except json.JSONDecodeError as error:
        raise ConfigurationError(
            f"squawk failed: {result.stderr.strip()[:500]}", hint="reinstall the package squawk-cli"
        ) from error
    by_step: dict[int, list[dict[str, Any]]] = {}
    for report in reports:
        by_step.setdefault(int(Path(report["file"]).stem), []).append(report)
    return by_step


def _script(step: Step, statements: list[Statement]) -> str:
    """Return a step as squawk reads it: the first statement is in the second line."""
    lines = [f"{s.text.rstrip().rstrip(';')}\n;" for s in statements]
    return "\n".join(["BEGIN;", *lines, "COMMIT;"] if step.transactional else ["SELECT 1;", *lines])


def _of_squawk(reports: Sequence[Mapping[str, Any]], statements: list[Statement], scene: Scene) -> Iterator[Finding]:
    for report in reports:
        rule = report["rule_name"]
        exempt = rule in _COMPATIBILITY and scene.step.phase in {Phase.CUTOVER, Phase.CONTRACT}
        if rule == _SYNTAX or exempt:
            continue
        statement = _at_line(statements, int(report["line"]))
        busy = statement is None or scene.any_busy(_tables(statement, scene)) is not None
        yield Finding(
            rule=f"squawk:{rule}",
            level="error" if rule in _DANGEROUS and busy else "warning",
            message=report["message"],
            remedy=report["help"] or f"see squawk's page on {rule}",
            statement=statement.text if statement else "",
        )


def _tables(statement: Statement, scene: Scene) -> tuple[Table, ...]:
    """Return the tables a statement locks, an index counting as its table."""
    relations = scene.catalog.relations.values()
    owners = [r.table for r in relations for i in statement.indexes if i.schema == r.table.schema and r.index(i.name)]
    return (*statement.tables, *owners)


def _at_line(statements: list[Statement], line: int) -> Statement | None:
    """Return the statement at a line of :func:`_script`, counted from 0."""
    at = 1
    for statement in statements:
        at += statement.text.rstrip().rstrip(";").count("\n") + 2
        if line < at:
            return statement
    return None


@cache
def _binary() -> str:
    beside = Path(sys.executable).parent / "squawk"
    found = str(beside) if beside.exists() else shutil.which("squawk")
    if found is None:
        raise ConfigurationError("squawk is not installed", hint="pip install squawk-cli")
    return found
