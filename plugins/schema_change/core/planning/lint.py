"""Lint a plan: squawk for what the text shows, our own rules for what only the catalog or the whole plan shows.

Steps of typed operations are linted for what their author chose (types, names, widths); raw SQL for everything.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from schema_change.core.catalog.model import Catalog
from schema_change.core.model import Finding, Step
from schema_change.core.planning import squawk
from schema_change.core.planning.rules import RULES, Found, Past, Scene
from schema_change.core.sqltext.grammar import SqlError
from schema_change.core.sqltext.statements import Statement, split

#: Prefix of the ids of squawk's rules.
SQUAWK = "squawk:"
UNUSED = "unused-waiver"


def lint_plan(steps: Sequence[Step], catalog: Catalog, typed: Collection[Step] = ()) -> tuple[Finding, ...]:
    """Return the findings of all steps, in their order. squawk runs once, for the whole plan.

    ``typed`` are the steps that typed operations made; the others are raw SQL.
    """
    parsed = {number: _statements(step) for number, step in enumerate(steps)}
    readable = {
        number: (steps[number].transactional, found)
        for number, found in parsed.items()
        if not isinstance(found, Finding) and found
    }
    reports = squawk.run(readable, catalog)
    past = Past()
    findings: list[Finding] = []
    for number, step in enumerate(steps):
        statements, by_operation = parsed[number], step in typed
        if isinstance(statements, Finding):
            findings += () if by_operation else (statements,)
            continue
        scene = Scene(catalog, step, past, tuple(statements), by_operation)
        findings += _of_step(reports.get(number, []), scene)
    return tuple(dict.fromkeys(findings))


def apply_waivers(findings: Sequence[Finding], waivers: Mapping[str, str]) -> tuple[Finding, ...]:
    """Mark the findings whose rule is waived, with the reason; report waivers that nothing needs."""
    marked = [replace(f, waived=waivers[f.rule]) if f.rule in waivers else f for f in findings]
    used = {f.rule for f in findings}
    unused = [
        Finding(
            UNUSED,
            "warning",
            f"the waiver for {rule} is not needed: nothing is found by that rule",
            "remove it from waivers:, or correct the rule's name",
        )
        for rule in waivers
        if rule not in used
    ]
    return (*marked, *unused)


def _of_step(reports: Sequence[squawk.Report], scene: Scene) -> Iterator[Finding]:
    rules = {name: rule for name, rule in RULES.items() if rule.typed or not scene.typed}
    for number, statement in enumerate(scene.statements):
        found = {name: list(rule.find(statement, scene)) for name, rule in rules.items()}
        said = {other for name, rule in rules.items() if found[name] for other in rule.instead_of}
        for report in reports:
            if report.statement == number and report.rule not in said:
                yield from (
                    _finding(f"{SQUAWK}{report.rule}", f, statement) for f in squawk.found(report, statement, scene)
                )
        for name, results in found.items():
            yield from (_finding(name, f, statement) for f in results)
        scene.past.note(statement, scene.catalog)


def _finding(rule: str, found: Found, statement: Statement) -> Finding:
    return Finding(
        rule, found.level, found.message, _with_waiver(found.remedy, rule), "" if found.whole else statement.text
    )


def _with_waiver(remedy: str, rule: str) -> str:
    return f"{remedy}; to accept it as it is: waivers: {{{rule}: <reason>}}"


def _statements(step: Step) -> list[Statement] | Finding:
    """Return a step's statements, analysed one by one under the search_path the step sets, or why they cannot be."""
    found: list[Statement] = []
    settings = ""
    for text in step.statements:
        try:
            statements = split(f"{settings}{text}")
        except SqlError as error:
            remedy = "let a person read this statement; it is not one that PostgreSQL's grammar knows"
            return Finding("unanalysable", "warning", error.message, _with_waiver(remedy, "unanalysable"), text)
        if not statements:
            settings += f"{text};"
        found += statements
    return found
