from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from schema_change.core.catalog.model import Catalog, Column, Index, Relation
from schema_change.core.changes.load import load_change
from schema_change.core.changes.spec import Change
from schema_change.core.model import Retired
from schema_change.core.names import Table
from schema_change.core.planning.guide import Guide, render_guide
from schema_change.core.planning.history import History
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
    folder.mkdir(parents=True)
    text = yaml.safe_dump({"description": "A | test of <b>bold</b>", "conn_id": "weather", **document})
    (folder / "change.yaml").write_text(text)
    for name, script in scripts.items():
        (folder / f"{name}.sql").write_text(script)
    return load_change(folder)


def _guide(change: Change, checks: tuple[CheckResult, ...] = (), history: History | None = None) -> Guide:
    return render_guide(change, make_plan(change, CATALOG), CATALOG, checks, history or History())


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
    assert "| Risk | **high** | data that exists is changed or moved |" in guide.markdown


def test_the_latest_rehearsal_gives_the_duration(tmp_path: Path) -> None:
    steps = [{"title": "fill public.big.twice", "lock": "ROW EXCLUSIVE", "rows": 5, "seconds": 250.0}]
    guide = _guide(_change(tmp_path, {"operations": [ADD]}), history=History({"steps": steps}))
    assert "4 min for the steps, in the latest rehearsal; 1 step of the plan is newer than it" in guide.markdown
    assert "4 min when rehearsed" in guide.markdown
    assert "- [x] **Tested on a copy**" in guide.markdown


def test_without_a_rehearsal_only_what_was_measured_is_promised(tmp_path: Path) -> None:
    change = _change(tmp_path, {"operations": [ADD]})
    assert "unknown: never rehearsed" in _guide(change, history=History(None, None)).markdown
    guide = _guide(change, history=History(None, 2000.0)).markdown
    assert "about 10 min for the backfill of 1,234,567 rows, at the 2,000 rows a second of earlier backfills" in guide
    assert "the other steps are unknown: never rehearsed" in guide


def test_the_checklist_says_what_is_seen_to_and_what_is_left_to_a_person(tmp_path: Path) -> None:
    checks = (
        CheckResult("disk_space", "warn", "3 GB free, about 2 GB needed", "make room"),
        CheckResult("server_version", "pass", "PostgreSQL 18"),
    )
    both = _guide(_change(tmp_path, {"operations": [ADD]}), checks)
    assert "3 GB free, about 2 GB needed → make room" in both.html
    guide = both.markdown
    assert "- [x] **Backup**: task backup dumps the whole schema and the rows of public.big" in guide
    assert "- [ ] **Disk space**: 3 GB free, about 2 GB needed → make room" in guide
    assert "- [x] **Server**: PostgreSQL 18" in guide
    assert "- [ ] **Extensions**: not looked at yet" in guide
    assert "- [ ] **Tested on a copy**: not yet" in guide
    assert "- [x] **Maintenance window**: not needed: downtime brief" in guide
    assert "- [ ] **Tell the stakeholders**: nobody is named" in guide
    assert "- [x] **Rollback plan**: 1 step with an undo" in guide


def test_the_rollback_plan_has_the_statements_in_their_order(tmp_path: Path) -> None:
    index = {"create_index": {"table": "big", "columns": ["n"]}}
    guide = _guide(_change(tmp_path, {"operations": [ADD, index, FILL_NULLS]}))
    rollback = guide.markdown.partition("## Rollback plan")[2]
    found = [
        rollback.index('DROP INDEX CONCURRENTLY IF EXISTS "public"."big_n_idx"'),
        rollback.index('ALTER TABLE "public"."big" DROP COLUMN IF EXISTS "twice"'),
    ]
    assert found == sorted(found)
    assert "become NULL again" in rollback
    assert "lock SHARE UPDATE EXCLUSIVE, blocks nothing an application does" in rollback


def test_each_of_several_statements_comes_with_its_own_lock(tmp_path: Path) -> None:
    guide = _guide(_change(tmp_path, {"operations": [ADD]})).markdown
    add = guide.index(
        '-- ACCESS EXCLUSIVE on public.big: blocks reads and writes\nALTER TABLE "public"."big" ADD COLUMN'
    )
    assert add < guide.index("-- SHARE ROW EXCLUSIVE on public.big: blocks writes\nCREATE TRIGGER")


def test_a_change_that_cannot_be_taken_back_says_so_on_top(tmp_path: Path) -> None:
    change = _change(tmp_path, {"operations": [ADD]})
    plan = replace(make_plan(change, CATALOG), one_way=("text <b> to integer has no inverse",))
    guide = render_guide(change, plan, CATALOG, (), History())
    for text in (guide.markdown, guide.html):
        assert text.index("One-way after cutover") < text.index("What changes")
    assert "- text \\<b\\> to integer has no inverse" in guide.markdown
    assert "<b> to integer" not in guide.html
    assert "| Rollback complexity | **high** | one-way after cutover:" in guide.markdown
    assert "- [ ] **Rollback plan**" in guide.markdown


def test_what_is_kept_after_contract_is_said_with_the_way_to_it(tmp_path: Path) -> None:
    change = _change(tmp_path, {"operations": [ADD]})
    kept = Retired("column", BIG, Table("schema_change_retired", "big_old"), "old", ("id",), keep_days=14)
    guide = render_guide(change, replace(make_plan(change, CATALOG), retired=(kept,)), CATALOG, (), History())
    said = "the data of public.big.old (column) is kept as schema_change_retired.big_old for 14 days after contract"
    for text in (guide.markdown, guide.html):
        assert re.sub(r"\\", "", said) in text.replace("\\", "")
        assert "schema-change recover" in text


def test_demands_on_rows_are_shown_with_what_was_counted(tmp_path: Path) -> None:
    change = _change(tmp_path, {"operations": [FILL_NULLS]})
    assert "not counted yet: task pre_check does" in _guide(change).markdown
    guide = _guide(change, (CheckResult("data_fit", "pass", "every row fits (NULL in public.big.n)"),))
    for text in (guide.markdown, guide.html):
        assert "every row fits (NULL in public.big.n)" in text
        assert "SELECT count(*) FROM" in text
    assert "Do the rows fit?" not in _guide(_change(tmp_path / "other", {"operations": [ADD]})).markdown


def test_raw_sql_that_cannot_be_analysed_needs_a_window_and_is_called_unknown(tmp_path: Path) -> None:
    change = _change(
        tmp_path,
        {},
        deploy="DO $$ BEGIN UPDATE public.big SET n = 1; END $$;\nCOMMENT ON TABLE public.big IS 'x';",
        revert="COMMENT ON TABLE public.big IS NULL;",
        verify="SELECT 1 / count(*) FROM public.big;",
    )
    guide = _guide(change).markdown
    assert "| Downtime | **window** | SQL that cannot be analysed; see the findings |" in guide
    assert "| Data-loss risk | **unknown** | SQL that cannot be analysed; see the findings |" in guide
    assert "-- what it locks is known only when it runs; ACCESS EXCLUSIVE is assumed\nDO $$" in guide
    assert "downtime window, but the change has no window:" in guide
    assert "verify.sql runs in a transaction that is rolled back" in guide
    assert "all of deploy.sql: what that takes away is gone at once" in guide


def test_verification_and_support_say_where_to_look(tmp_path: Path) -> None:
    guide = _guide(_change(tmp_path, {"operations": [ADD], "contacts": {"on-call": "+49 30 1234"}}))
    for text in (guide.markdown, guide.html):
        assert "every row whose fill expression gives a value has one" in text
        assert "+49 30 1234" in text
        assert "schema_change.schema_audit" in text
        assert "schema-change status" in text
        assert "Planned 2" in text


def test_what_is_done_and_watched_around_the_change_is_said(tmp_path: Path) -> None:
    document = {
        "operations": [ADD],
        "window": {"from": "22:00", "to": "04:00", "outside": "refuse"},
        "blackouts": [{"from": "2024-12-20", "to": "2024-12-27", "reason": "Christmas"}],
        "hooks": {
            "before_migrate": [{"run": ["systemctl", "stop", "the writer"]}],
            "after_cutover": [
                {"http": {"url": "https://ci/deploy?a=<b>", "method": "POST", "headers": {"Cookie": "${SECRET}"}}}
            ],
        },
        "health": [{"url": "https://api/health"}],
        "prometheus": [{"url": "https://prom", "query": "error_rate", "max": 0.01}],
        "sentinels": [{"name": "daily", "query": "SELECT 1", "critical": True}],
        "soak": {"hours": 48},
        "backfill_dag": {"dag_id": "compute_cold"},
        "follow_ups": [{"name": "index in use", "after_hours": 24, "index_usage": {"index": "public.i"}}],
    }
    guide = _guide(_change(tmp_path, document))
    for line in (
        "| window | 22:00–04:00 UTC; migrate, cutover and contract refuse outside of it |",
        "| blackout | 2024-12-20 to 2024-12-27 (UTC): Christmas |",
        "| before migrate | systemctl stop 'the writer' |",
        "| after cutover | POST https://ci/deploy?a=\\<b\\> |",
        "| between migrate and backfill | DAG compute_cold runs to its end |",
        "- GET https://api/health answers as it should",
        "- metric error_rate is at most 0.01",
        "- query 'daily' costs at most 2 times what it did, else the run is rolled back",
        "- 24 hours after it landed: index in use",
    ):
        assert line in guide.markdown
    assert "soak of 48 hours" in guide.html
    assert "a=<b>" not in guide.html
    assert "SECRET" not in guide.markdown + guide.html
    assert "Around the steps" not in _guide(_change(tmp_path / "other", {"operations": [ADD]})).markdown
