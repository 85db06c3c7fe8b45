"""Checks that look at the plan and the catalog alone."""

from __future__ import annotations

import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from upath import UPath

from schema_change.core.catalog.model import Catalog, Relation
from schema_change.core.changes.spec import Change
from schema_change.core.database import Connection, Target
from schema_change.core.errors import PreCheckFailed
from schema_change.core.model import Backfill, Finding, LockMode, Phase, Plan, Step
from schema_change.core.names import Table
from schema_change.core.prechecks import CheckContext, CheckResult, raise_if_failed, tables
from schema_change.core.prechecks.model import age, enumerate_some
from schema_change.core.stages.request import Options

T = Table("public", "t")
STEP = Step(Phase.EXPAND, "add", (T,), ("ALTER TABLE public.t ADD COLUMN c text",), LockMode.ACCESS_EXCLUSIVE)
FILL = Step(Phase.BACKFILL, "fill", (T,), backfill=Backfill(T, "c", "1", "c IS NULL"))


def context(plan: Plan, **relation: Any) -> CheckContext:
    found = Relation(T, "r", "me", **relation)
    return CheckContext(
        connection=cast("Connection", None),
        target=Target("target", {}),
        plan=plan,
        catalog=Catalog(180000, {T: found}),
        change=Change("1", "c", Path(), "", "target", ()),
        options=Options(),
        artifacts=UPath("memory://x"),
        scratch=None,
        run_id=uuid.uuid4(),
    )


def test_lint() -> None:
    error = Finding("rule", "error", "it hurts", "do it this way")
    assert tables.lint(context(Plan(()))).status == "pass"
    assert tables.lint(context(Plan((), findings=(replace(error, level="warning"),)))).status == "warn"
    found = tables.lint(context(Plan((), findings=(error, replace(error, level="warning", rule="other")))))
    assert (found.status, found.message, found.remedy) == ("fail", "rule: it hurts", "do it this way")
    assert tables.lint(context(Plan((), findings=(replace(error, waived="small table"),)))).status == "pass"


@pytest.mark.parametrize(
    ("statement", "status"),
    [
        (f"ALTER TABLE t ADD COLUMN {'a' * 63} text", "pass"),
        (f"ALTER TABLE t ADD COLUMN {'a' * 64} text", "fail"),
        (f'ALTER TABLE t ADD COLUMN "{"ü" * 31}" text', "pass"),
        (f'ALTER TABLE t ADD COLUMN "{"ü" * 32}" text', "fail"),
        (f"SELECT 'ü', '{'a' * 80}' AS short", "pass"),
        (f"SELECT 'ü' AS {'a' * 64}", "fail"),
        ("SELECT 'not closed", "pass"),
    ],
)
def test_identifiers(statement: str, status: str) -> None:
    found = tables.identifiers(context(Plan((replace(STEP, statements=(statement,)),))))
    assert found.status == status


def test_table_size() -> None:
    plan = Plan((STEP, FILL))
    assert tables.table_size(context(plan, bytes=1 << 20)).message == "1.0 MB in 1 table, 1.0 MB to rewrite"
    assert tables.table_size(context(plan, bytes=20 << 30)).status == "warn"
    rewriting = replace(STEP, long=True, title="change the type")
    found = tables.table_size(context(Plan((rewriting,)), bytes=2 << 30))
    assert found.message == "change the type blocks reads and writes while it works on 2.0 GB"
    assert (
        tables.table_size(context(Plan((replace(rewriting, lock=LockMode.SHARE_UPDATE_EXCLUSIVE),)))).status == "pass"
    )


def test_failures_are_raised_with_remedies() -> None:
    fine = CheckResult("a", "pass", "fine")
    raise_if_failed((fine, replace(fine, status="warn"), replace(fine, status="unknown")))
    with pytest.raises(PreCheckFailed) as caught:
        raise_if_failed((fine, CheckResult("b", "fail", "bad", "mend it"), CheckResult("c", "fail", "worse")))
    assert caught.value.message == "nothing was changed; b: bad; c: worse"
    assert caught.value.hint == "b: mend it"
    assert caught.value.data == {"failed": ["b", "c"]}


def test_words() -> None:
    assert enumerate_some(range(12)) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more"
    assert (age(4.2), age(600)) == ("4 s", "10 min")
