from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from schema_change.core.catalog.model import Catalog, Column, Index, Relation
from schema_change.core.changes.load import load_change
from schema_change.core.changes.spec import Change
from schema_change.core.model import LockMode, Phase, Plan, Step
from schema_change.core.names import Table
from schema_change.core.planning.guide import Guide, _reversible, data_loss, downtime, render_guide, rollback_complexity
from schema_change.core.planning.plan import make_plan
from schema_change.core.prechecks import CheckResult

BIG = Table("public", "big")
CATALOG = Catalog(
    180000,
    {
        BIG: Relation(
            BIG,
            "r",
            "owner",
            columns=(Column("id", "bigint", nullable=False), Column("n", "integer"), Column("old", "text")),
            indexes=(Index("big_pkey", "CREATE UNIQUE INDEX big_pkey ON big USING btree (id)", ("id",), True, True),),
            rows=1_234_567,
        )
    },
)
ADD = {"add_column": {"table": "big", "column": {"name": "twice", "type": "bigint"}, "fill": "big.n * 2"}}
FILL_NULLS = {"set_not_null": {"table": "big", "column": "n", "nulls": {"fill": "0"}}}


def _change(folder: Path, document: dict[str, Any], **scripts: str) -> Change:
    folder = folder / "001_test"
    folder.mkdir()
    text = yaml.safe_dump({"description": "A | test of <b>bold</b>", "conn_id": "weather", **document})
    (folder / "change.yaml").write_text(text)
    for name, script in scripts.items():
        (folder / f"{name}.sql").write_text(script)
    return load_change(folder)


def _guide(change: Change, checks: tuple[CheckResult, ...] = (), rehearsal: dict[str, Any] | None = None) -> Guide:
    return render_guide(change, make_plan(change, CATALOG), CATALOG, checks, rehearsal)


def test_the_guide_tells_what_changes_how_it_is_undone_and_who_to_ask(tmp_path: Path) -> None:
    index = {"create_index": {"table": "big", "columns": ["n"]}}
    document = {
        "operations": [ADD, index],
        "contacts": {"owner": "ann@example.com"},
        "window": {"from": "22:00", "to": "04:00"},
        "registry": {"table": "big", "from": "v1.0.0", "to": "v1.1.0"},
    }
    guide = _guide(_change(tmp_path, document))
    for text in (guide.markdown, guide.html):
        assert "about 1,234,567 rows" in text
        assert "ann@example.com" in text
        assert "22:00–04:00 UTC" in text
        assert "v1.0.0 → v1.1.0" in text
        assert "unknown: never rehearsed" in text
        assert "point of no return" in text
        assert "ACCESS EXCLUSIVE on public.big" in text
    assert "| add column | 1 | public.big | yes, until contract |" in guide.markdown
    assert 'ALTER TABLE "public"."big" ADD COLUMN "twice" bigint;' in guide.markdown
    assert 'ALTER TABLE "public"."big" DROP COLUMN IF EXISTS "twice";' in guide.markdown
    rollback = guide.markdown.partition("## Rollback plan")[2]
    assert rollback.index("create index") < rollback.index("add column")


def test_text_of_the_change_can_break_neither_page_nor_table(tmp_path: Path) -> None:
    guide = _guide(_change(tmp_path, {"operations": [ADD], "contacts": {"<i>": "`x` | y"}}))
    assert "<b>bold" not in guide.html
    assert "<i>" not in guide.html
    assert "A \\| test of \\<b\\>bold\\</b\\>" in guide.markdown
    assert "\\`x\\` \\| y" in guide.markdown


def test_the_page_needs_nothing_else(tmp_path: Path) -> None:
    page = _guide(_change(tmp_path, {"operations": [ADD]})).html
    assert "prefers-color-scheme: dark" in page
    assert "http" not in page
    assert "src=" not in page


def test_back_ticks_in_a_statement_do_not_end_its_block(tmp_path: Path) -> None:
    change = _change(
        tmp_path, {}, deploy="COMMENT ON TABLE public.big IS 'a ``` b';", revert="COMMENT ON TABLE public.big IS NULL;"
    )
    assert "````sql\nSET LOCAL search_path TO public;\nCOMMENT ON TABLE public.big IS 'a ``` b';\n````" in (
        _guide(change).markdown
    )


def test_findings_come_with_remedy_or_with_the_reason_they_are_waived(tmp_path: Path) -> None:
    change = _change(
        tmp_path,
        {"waivers": {"squawk:ban-drop-column": "nobody reads it"}},
        deploy="ALTER TABLE public.big DROP COLUMN old;",
        revert="ALTER TABLE public.big ADD COLUMN IF NOT EXISTS old text;",
    )
    checks = (
        CheckResult("disk", "warn", "20 % free", "make room"),
        CheckResult("writable", "pass", "it is"),
        CheckResult("data_fit", "skipped", "no demand"),
    )
    guide = _guide(change, checks)
    assert "- **warn** disk: 20 % free → make room" in guide.markdown
    assert "(waived: nobody reads it)" in guide.markdown
    for text in (guide.markdown, guide.html):
        assert "1 of 2 pre-checks passed, 1 did not apply" in text
    assert "| ALTER TABLE | 1 | public.big | yes, by revert.sql |" in guide.markdown
    assert "| Data-loss risk | **high** | removes column public.big.old |" in guide.markdown


def test_the_risk_is_said_once(tmp_path: Path) -> None:
    guide = _guide(_change(tmp_path, {"operations": [FILL_NULLS]}))
    assert "| Risk | **high** | values that exist already are changed |" in guide.markdown


def test_what_no_step_takes_back_is_not_called_reversible() -> None:
    add = Step(Phase.EXPAND, "add", (BIG,), ("SELECT 1",), LockMode.ACCESS_EXCLUSIVE, undo=("SELECT 2",))
    for_good = replace(add, undo=())
    assert _reversible(Plan((add,)), {BIG: None}) == "yes, until it has landed"
    assert _reversible(Plan((add, replace(for_good, phase=Phase.CONTRACT))), {BIG: None}) == "yes, until contract"
    assert _reversible(Plan((add, for_good)), {BIG: None}) == "partly"
    assert _reversible(Plan((for_good,)), {BIG: None}) == "no"


def test_the_latest_rehearsal_gives_the_duration(tmp_path: Path) -> None:
    steps = [{"title": "fill public.big.twice", "lock": "ROW EXCLUSIVE", "rows": 5, "seconds": 250.0}]
    guide = _guide(_change(tmp_path, {"operations": [ADD]}), rehearsal={"steps": steps})
    assert "4 min for the steps, in the latest rehearsal" in guide.markdown
    assert "4 min when rehearsed" in guide.markdown


def test_ratings(tmp_path: Path) -> None:
    change = _change(tmp_path, {"operations": [ADD]})
    plan = make_plan(change, CATALOG)
    assert (data_loss(plan).word, downtime(plan).word, rollback_complexity(change, plan).word) == ("low", "no", "low")
    (tmp_path / "second").mkdir()
    change = _change(tmp_path / "second", {"operations": [FILL_NULLS]})
    plan = make_plan(change, CATALOG)
    assert (data_loss(plan).word, rollback_complexity(change, plan).word) == ("medium", "medium")


def test_a_step_that_works_under_a_blocking_lock_is_downtime() -> None:
    step = Step(Phase.EXPAND, "rewrite", (BIG,), ("SELECT 1",), LockMode.ACCESS_EXCLUSIVE, long=True)
    assert downtime(Plan((step,))).word == "yes"
    assert "reads and writes" in downtime(Plan((step,))).why


def test_a_contract_that_drops_is_a_risk_of_losing_data() -> None:
    for statement, what in {
        "DROP TABLE public.big": "table public.big",
        "TRUNCATE public.big": "rows of public.big",
        "DELETE FROM public.big": "rows of public.big",
        'ALTER TABLE public.big DROP COLUMN "old"': "column public.big.old",
    }.items():
        rating = data_loss(Plan((Step(Phase.CONTRACT, "x", (BIG,), (statement,)),)))
        assert (rating.word, rating.why) == ("high", f"removes {what}")
