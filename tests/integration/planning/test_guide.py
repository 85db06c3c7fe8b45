"""The guide of real plans, made by the stage that makes them."""

from __future__ import annotations

import re
from typing import Any

import pytest

from schema_change.core.database import Connection
from schema_change.core.errors import PreCheckFailed
from schema_change.core.stages.runner import Runner
from tests.bench import Bench
from tests.integration.planning.shop import WITHOUT_DEPENDANTS

ADD = {"add_column": {"table": "readings", "column": {"name": "<i>x", "type": "integer"}, "fill": "readings.id"}}
HEADINGS = [
    "What changes",
    "Impact",
    "Checklist",
    "Findings",
    "Steps",
    "Rollback plan",
    "While it runs",
    "Verification afterwards",
    "Support",
]


def _guide(bench: Bench, stage: str = "pre_check") -> tuple[str, str]:
    request = bench.request("001_more", dry_run=True)
    guide: str = Runner(request).run(stage).data["guide"]
    return guide, (request.folder / "guide.html").read_text(encoding="utf-8")


def test_the_guide_of_a_plan_has_every_section(bench: Bench) -> None:
    bench.write("001_more", {"operations": [ADD], "contacts": {"owner": "ann"}})
    text, page = _guide(bench)
    found = [h for h in re.findall(r"^## (.+)$", text, re.MULTILINE) if h != "To know"]
    assert found == HEADINGS
    assert [h for h in re.findall(r"<h2>(.+)</h2>", page) if h != "To know"] == HEADINGS
    assert "about 500 rows to be filled" in text
    assert "- [x] **Server**: " in text
    assert "| add column | 1 | public.readings | yes, until contract |" in text
    assert "<i>x" not in page
    assert "http" not in page


def test_rows_that_do_not_fit_are_counted_in_the_guide(bench: Bench, connection: Connection) -> None:
    bench.write("001_more", {"operations": [{"set_not_null": {"table": "readings", "column": "note"}}]})
    text, _ = _guide(bench, "plan")
    assert "not counted yet: task pre\\_check does" in text or "not counted yet: task pre_check does" in text
    with pytest.raises(PreCheckFailed) as failed:
        _guide(bench)
    guide = failed.value.data["guide"]
    fit = guide.partition("## Do the rows fit?")[2].partition("## Steps")[0]
    assert "500 rows" in fit
    assert 'SELECT count(*) FROM "public"."readings"' in fit


@pytest.mark.parametrize(
    ("scripts", "downtime"),
    [
        ({"deploy": "CREATE INDEX CONCURRENTLY i ON readings (note);", "revert": "DROP INDEX IF EXISTS i;"}, "none"),
        ({"deploy": "ALTER TABLE readings ADD COLUMN x text;", "revert": "ALTER TABLE readings DROP x;"}, "brief"),
        ({"deploy": "CREATE INDEX i ON readings (note);", "revert": "DROP INDEX IF EXISTS i;"}, "blocking"),
        ({"deploy": "DO $$ BEGIN PERFORM 1; END $$;", "revert": "SELECT 1;"}, "window"),
    ],
)
def test_downtime_of_raw_sql_is_in_one_word(bench: Bench, scripts: dict[str, str], downtime: str) -> None:
    document: dict[str, Any] = {"waivers": {"squawk:require-concurrent-index-creation": "it is night"}}
    bench.write("001_more", document if downtime == "blocking" else None, **scripts)
    text, _ = _guide(bench)
    assert f"| Downtime | **{downtime}** |" in text


@pytest.mark.parametrize(
    ("operation", "facts"),
    [
        (
            {"add_unique": {"table": "readings", "columns": ["station", "celsius"]}},
            ["| add unique | 1 | public.readings | yes, until it has landed |", "| Downtime | **brief** |"],
        ),
        (
            {"drop_table": {"table": "remark"}},
            [
                "| Data-loss risk | **medium** | drops table public.remark, kept for ",
                "`schema-change recover` brings it",
            ],
        ),
        (
            {"change_type": {"table": "readings", "column": "note", "type": "varchar(20)"}},
            [
                "| change type | 1 | public.readings | until cutover only |",
                "> **One-way after cutover.**",
                "| Data-loss risk | **medium** | contract drops the old column public.readings.note; its values were",
                "| Rollback complexity | **high** | one-way after cutover: ",
                "public.readings.note becomes character varying(20)",
            ],
        ),
        (
            {
                "split_table": {
                    "table": "readings",
                    "into": {"table": "place", "key": ["station"], "columns": [{"name": "note", "from": "note"}]},
                    "drop_columns": ["note"],
                    "foreign_key": "readings_place_fkey",
                    "conflicts": "first",
                }
            },
            [
                "| split table | 1 | public.readings, public.place | yes, until contract; the data for 30 days more |",
                "| Data-loss risk | **medium** | drops column public.readings.note, kept for 30 days",
                "public.readings.note is gone",
            ],
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "facts",
)
def test_what_is_said_of_an_operation_comes_from_its_steps(
    bench: Bench, operation: dict[str, Any], facts: list[str]
) -> None:
    bench.write("001_more", {"operations": [operation]})
    text, _ = _guide(bench, "plan")
    assert [fact for fact in facts if fact not in text] == []


def test_after_a_rehearsal_the_guide_knows_how_long_it_takes(bench: Bench, connection: Connection) -> None:
    connection.execute(WITHOUT_DEPENDANTS)
    bench.write("001_more", {"operations": [ADD]})
    run = bench.run(bench.request("001_more"), stop_before="migrate")
    assert run.error is None
    run.finish()
    text, _ = _guide(bench)
    assert re.search(r"\*\*Expected duration\*\* \S+ m?s for the steps, in the latest rehearsal$", text, re.MULTILINE)
    assert "- [x] **Tested on a copy**" in text
    assert "when rehearsed" in text
