"""The unsafe patterns that known linters flag, and those that none does: each is found, and its safe form is not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from schema_change.core.catalog.read import OLDEST
from schema_change.core.errors import PlanError
from schema_change.core.model import Finding
from schema_change.core.operations import catalogue
from schema_change.core.operations.base import PlanContext
from schema_change.core.operations.sql import Sql
from schema_change.core.planning import squawk
from schema_change.core.planning.lint import SQUAWK, UNUSED, apply_waivers, lint_plan
from schema_change.core.planning.rules import RULES
from tests.unit.core.planning.lint_cases import PATTERNS, Case
from tests.unit.core.planning.lint_catalog import catalog_of
from tests.unit.core.planning.lint_gaps import GAPS

CASES = (*PATTERNS, *GAPS)
PAGE = Path(__file__).parents[4] / "docs" / "lint.md"


def _lint(script: str, version: int = 180000) -> tuple[Finding, ...]:
    catalog = catalog_of(version)
    planned = Sql(deploy=script, revert="SELECT 1").plan(catalog, PlanContext("1"))
    return lint_plan(planned.steps, catalog)


@pytest.mark.parametrize("case", CASES, ids=[c.id for c in CASES])
def test_the_unsafe_pattern_is_found(case: Case) -> None:
    found = {f.rule: f.level for f in _lint(case.unsafe)}
    assert {rule: found.get(rule) for rule in case.found} == case.found


@pytest.mark.parametrize("case", [c for c in CASES if c.safe], ids=[c.id for c in CASES if c.safe])
def test_the_safe_form_is_not(case: Case) -> None:
    found = _lint(case.safe)
    assert not [f for f in found if f.rule in case.found or f.level == "error"]


@pytest.mark.parametrize(
    ("script", "words"),
    [
        pytest.param(
            "BEGIN; CREATE INDEX CONCURRENTLY i ON public.big (n); COMMIT", "inside BEGIN", id="03-transaction"
        ),
        pytest.param("DROP DATABASE shop", "DROP DATABASE is not allowed", id="33-drop-database"),
        pytest.param("CREATE INDEX CONCURRENTLY ON public.big (n)", "without a name", id="44-index-without-name"),
        pytest.param("BEGIN; BEGIN; SELECT 1; COMMIT", "BEGIN inside", id="45-nested-begin"),
        pytest.param("SELECT 1; COMMIT", "COMMIT without BEGIN", id="45-stray-commit"),
        pytest.param("BEGIN; SELECT 1", "BEGIN without COMMIT", id="46-no-commit"),
    ],
)
def test_what_can_never_run_is_refused_before_it_is_linted(script: str, words: str) -> None:
    with pytest.raises((PlanError, ValueError), match=words):
        _lint(script)


def test_patterns_22_23_the_executor_owns_time_outs() -> None:
    catalog = catalog_of()
    script = "SET lock_timeout = '1h'; SET statement_timeout = 0; ALTER TABLE public.big ADD COLUMN x bigint"
    (step,) = Sql(deploy=script, revert="SELECT 1").plan(catalog, PlanContext("1")).steps
    assert not [text for text in step.statements if "timeout" in text]
    assert lint_plan([step], catalog) == ()


@pytest.mark.parametrize(
    ("version", "words"), [(150000, "CHECK (… IS NOT NULL) NOT VALID"), (180000, "NOT NULL column NOT VALID")]
)
def test_the_safe_way_is_that_of_the_server(version: int, words: str) -> None:
    [finding] = [f for f in _lint("ALTER TABLE public.big ALTER n SET NOT NULL", version) if f.rule == "set-not-null"]
    assert words in finding.remedy


def test_pattern_26_the_servers_whose_concurrent_builds_corrupt_are_too_old_for_us() -> None:
    assert OLDEST >= 15


def test_pattern_43_what_is_outside_a_transaction_can_be_run_again() -> None:
    script = "CREATE INDEX CONCURRENTLY i ON public.big (n); DROP INDEX CONCURRENTLY public.half"
    build, drop = Sql(deploy=script, revert="SELECT 1").plan(catalog_of(), PlanContext("1")).steps
    assert build.probe
    assert build.repair
    assert drop.probe
    assert lint_plan([build, drop], catalog_of()) == ()


def test_pattern_60_a_waiver_that_nothing_needs_is_a_finding() -> None:
    found = apply_waivers(_lint("TRUNCATE public.big"), {"truncate": "a cache", "lock-table": "was there once"})
    assert [(f.rule, f.waived) for f in found] == [("truncate", "a cache"), (UNUSED, None)]


def test_every_finding_says_how_it_is_waived() -> None:
    for case in CASES:
        for finding in _lint(case.unsafe):
            assert finding.remedy.endswith(f"; to accept it as it is: waivers: {{{finding.rule}: <reason>}}")
            key = yaml.safe_load(f"waivers: {{{finding.rule}: reason}}")
            assert key == {"waivers": {finding.rule: "reason"}}, "the words work when they are copied"


def test_the_page_has_every_rule_and_no_other() -> None:
    rows = re.findall(r"^\| `([a-z:-]+)` \|.*\| (.*) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    ids = {*RULES, *(f"{SQUAWK}{rule}" for rule in squawk.RULES), UNUSED, "does-not-fit"}
    assert len(rows) == len(dict(rows))
    assert set(dict(rows)) == ids


def test_the_page_tells_the_level() -> None:
    rows = dict(re.findall(r"^\| `([a-z:-]+)` \|.*\| (.*) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
    for case in CASES:
        for rule, level in case.found.items():
            assert level in rows[rule], f"{rule} is a finding of level {level}"


def test_every_rule_of_ours_has_a_case() -> None:
    assert {rule for case in CASES for rule in case.found} >= set(RULES)


def test_the_safe_way_names_operations_that_exist() -> None:
    texts = [PAGE.read_text(encoding="utf-8"), *(way.remedy for way in squawk.RULES.values())]
    texts += [f.remedy for case in CASES for f in _lint(case.unsafe)]
    named = {name for text in texts for name in re.findall(r"\boperations?:? `?([a-z]+_[a-z_]+)", text)}
    assert len(named) > 15
    assert named <= set(catalogue())
