"""What the report of a change of a template says of its column, of finished years, and of reading queries."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import replace
from typing import Any

from schema_change.core.errors import ChangeFileError
from schema_change.core.recipes.beside import Beside, distribution
from schema_change.core.stages.runner import Runner
from schema_change.core.templates import duration
from schema_change.core.validation.counts import take_counts
from schema_change.core.warehouse.template import Template
from tests.bench import Bench, Run
from tests.integration.warehouse.conftest import Change
from tests.integration.warehouse.test_change import ADD, DAYS, YEARS, landed
from tests.integration.warehouse.warehouse import TEMPLATE, Warehouse

OLDER, NEWER = (f"{TEMPLATE}_{year}" for year in YEARS)
Rows = list[dict[str, Any]]


def counts_of(run: Run) -> dict[str, Rows]:
    """Return the tables of counts in a run's report by their titles, each row by its columns."""
    report = json.loads((run.request.folder / "report.json").read_text())
    assert [c["error"] for c in report["counts"]] == [None] * len(report["counts"])
    return {c["title"]: [dict(zip(c["columns"], row, strict=True)) for row in c["rows"]] for c in report["counts"]}


def page_of(run: Run) -> str:
    return (run.request.folder / "report.html").read_text()


def frequent(row: dict[str, Any]) -> list[str]:
    return sorted(row["most frequent"].split(", "))


def test_what_became_of_a_new_column(warehouse: Warehouse, change: Change) -> None:
    with warehouse.sources["landb"].connect("test") as source:
        source.execute("INSERT INTO public.foodlog VALUES (1000001, 1, 1.5, make_date(%s, 5, 1), 'peel')", [YEARS[-1]])
    warehouse.session.execute(f"UPDATE landb.{NEWER} SET id = 1000001 WHERE id = 1".encode())
    add = {**ADD, "history_from": YEARS[-1]}
    run = change("warehouse_add_column", {**add, "tenants": ["landb"]}, skip_rehearsal=True)
    landed(run)
    found = counts_of(run)
    assert list(found) == [f"public.{TEMPLATE}.waste_category of each tenant", f"Rows of finished years of {TEMPLATE}"]
    bistro, landb = found[f"public.{TEMPLATE}.waste_category of each tenant"]
    rows = 4 + 5 * DAYS
    assert (landb["tenant"], landb["rows"], landb["nulls"], landb["distinct values"]) == ("landb", rows, 0, 3)
    # A text of the tenant's may be anybody's name; the default is in the change.
    assert frequent(landb) == sorted([f"4 characters ({3 * DAYS})", f"4 characters ({2 * DAYS + 1})", "UNKNOWN (3)"])
    assert (bistro["tenant"], bistro["rows"], frequent(bistro)) == ("bistro", rows, [f"UNKNOWN ({rows})"])
    year = {"from source": 0, "with default": 2, "rows": 2}
    assert found[f"Rows of finished years of {TEMPLATE}"] == [
        {"tenant": "bistro", "year table": OLDER, **year},
        {"tenant": "bistro", "year table": NEWER, **year},
        {"tenant": "landb", "year table": OLDER, **year},
        {"tenant": "landb", "year table": NEWER, "rows": 2, "from source": 1, "with default": 1},
    ]
    page = page_of(run)
    assert "UNKNOWN (3)" in page
    assert f"<h3>Rows of finished years of {TEMPLATE}</h3>" in page
    assert "peel" not in page

    again = change("warehouse_add_column", add, skip_rehearsal=True)
    landed(again)
    # Of the other tenant this run knows nothing.
    assert [row["tenant"] for row in counts_of(again)[f"Rows of finished years of {TEMPLATE}"]] == ["bistro"] * 2


def test_how_numbers_are_distributed(warehouse: Warehouse, change: Change) -> None:
    warehouse.session.execute(f"UPDATE bistro.{NEWER} SET weight = NULL WHERE weight = 2.5".encode())
    body = {"template": TEMPLATE, "column": "weight", "type": "double precision", "strategy": "rebuild_in_place"}
    run = change("warehouse_modify_column", body, skip_rehearsal=True)
    landed(run)
    ((title, (bistro, landb)),) = counts_of(run).items()
    assert title == f"public.{TEMPLATE}.weight of each tenant"
    assert (bistro["nulls"], landb["nulls"], landb["distinct values"]) == (1, 0, 6)
    assert landb["most frequent"].startswith(f"1.5 ({DAYS + 2}), ")


def test_values_that_cannot_be_compared_are_told_apart(warehouse: Warehouse) -> None:
    warehouse.session.execute(
        "CREATE VIEW public.odd AS SELECT d::json AS doc, 'landb'::text AS schema_name"
        " FROM unnest(ARRAY['{}', '{}', '[1]', NULL]) AS d"
    )
    odd = Template("odd", "", (("doc", "json"),))
    [found] = take_counts(warehouse.session, [distribution(Beside(odd, odd, "doc", ()))])
    assert found.rows == (("landb", 4, 1, 2, "2 characters (2)"),)


def around(run: Run) -> dict[str, tuple[str, str]]:
    report = json.loads((run.request.folder / "report.json").read_text())
    lines = (
        (a["status"], *a["what"].removeprefix(f"sentinel public.{TEMPLATE}: ").split(": ", 1)) for a in report["around"]
    )
    return {name: (status, message) for status, name, message in lines}


def test_what_reading_costs_is_compared(warehouse: Warehouse, change: Change) -> None:
    run = change("warehouse_add_column", {**ADD, "strategy": "rebuild_in_place"}, skip_rehearsal=True)
    landed(run)
    found = around(run)
    assert list(found) == ["one day", "the last week by tenant", "one row by its key"]
    for status, message in found.values():
        assert status in {"passed", "warn"}
        assert message.startswith("cost ")
        assert " before, " in message
    assert [row["with default"] for row in counts_of(run)[f"Rows of finished years of {TEMPLATE}"]] == [2] * 4


def test_without_a_public_view_there_is_nothing_to_compare_with(warehouse: Warehouse, change: Change) -> None:
    warehouse.session.execute(f"DROP VIEW public.{TEMPLATE}".encode())
    run = change("warehouse_add_column", ADD, skip_rehearsal=True)
    landed(run)
    checks = {c["name"]: (c["status"], c["message"]) for c in run.results["pre_check"].data["checks"]}
    assert checks["sentinels"][0] == "warn"
    assert f'relation "public.{TEMPLATE}" does not exist' in checks["sentinels"][1]
    assert {status for status, _ in around(run).values()} == {"passed"}
    assert all(message.endswith("it was not measured before") for _, message in around(run).values())


def test_a_reader_that_gets_slower_is_a_warning(warehouse: Warehouse, change: Change) -> None:
    session = warehouse.session
    session.execute(f"CREATE INDEX ON landb.{NEWER} (logged_time)".encode())
    session.execute(
        f"INSERT INTO landb.{NEWER} SELECT g, 'old', 1, timestamptz '{YEARS[-1]}-01-01' + g * interval '20 minutes'"
        " FROM generate_series(10, 20000) AS g".encode()
    )
    session.execute("ANALYZE")
    body = {"template": TEMPLATE, "column": "logged_time", "type": "timestamp"}
    run = change("warehouse_modify_column", body, stop_before="validate", skip_rehearsal=True)
    assert run.error is None, run.error
    made = "SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = %s::regclass"
    for (index,) in session.execute(made.encode(), [f"landb.{NEWER}"]).fetchall():
        session.execute(f"DROP INDEX {index}".encode())
    assert all(run.try_stage(stage) for stage in ("validate", "soak")), run.error
    run.finish()
    status, message = around(run)["one day"]
    assert status == "warn"
    assert "more than 2 times" in message
    assert "Seq Scan" in message
    assert around(run)["one row by its key"][0] == "passed"
    ((_, (bistro, landb)),) = counts_of(run).items()
    # Each of its values is there once; the other's rows of before are met by those of above.
    assert (bistro["distinct values"], bistro["most frequent"]) == (4 + 5 * DAYS, None)
    assert "-05-01 00:00:00 (2)" in landb["most frequent"]


def risks(run: Run) -> tuple[str, str]:
    """Return what the plan says of the risks, also one that was refused for another reason."""
    plan = run.results["plan"].data if "plan" in run.results else run.error.data if run.error else {}
    return next((c["status"], c["message"]) for c in plan["checks"] if c["name"] == "warehouse_risks")


def test_how_long_it_will_take_is_known_from_the_last_time(warehouse: Warehouse, change: Change) -> None:
    warehouse.session.execute("UPDATE _wh.tenant_connections SET created_at = now() - interval '1 year'")
    first = change("warehouse_add_column", {**ADD, "column": "other"}, skip_rehearsal=True)
    landed(first)
    days = f"for {2 * DAYS} days, "
    status, message = risks(first)
    assert status == "warn"
    assert "no warehouse_add_column has landed in this warehouse before" in message
    assert f"expected to take about {duration(2 * DAYS * 6.0)} {days}6 s each (assumed" in message
    status, message = risks(change("warehouse_add_column", ADD, stop_before="approve"))
    assert status == "pass", message
    assert days in message
    assert "(as when days were built last)" in message
    body = {**ADD, "source_pause_s": 60, "history_from": YEARS[0]}
    status, message = risks(change("warehouse_add_column", body, stop_before="approve"))
    assert status == "warn"
    assert message.startswith("it takes more than two hours; expected to take about ")


def test_a_blackout_of_the_installation_is_kept_to(warehouse: Warehouse, bench: Bench) -> None:
    change = bench.write("001_change", {"operations": [{"warehouse_add_column": ADD}]})
    file = bench.folder / "blackouts.yaml"
    today, day = dt.datetime.now(dt.UTC).date(), dt.timedelta(days=1)
    file.write_text(f"blackouts: [{{from: {today - day}, to: {today + day}, reason: month end}}]")
    request = bench.request(change, skip_rehearsal=True, skip_backup=True)
    run = Run(replace(request, blackouts_file=file))
    assert run.try_stage("plan"), run.error
    assert "it would run into a blackout" in risks(run)[1]
    run.approve()
    for stage in ("approve", "backup", "pre_check", "rehearse"):
        assert run.try_stage(stage), run.error
    checks = {c["name"]: (c["status"], c["message"]) for c in run.results["pre_check"].data["checks"]}
    assert checks["window"][0] == "warn"
    assert "month end" in checks["window"][1]
    assert Runner(run.request).run("migrate").status == "waiting"
    assert warehouse.one("SELECT count(*) FROM _wh.changes") == 0
    # What ends a run must not depend on the file.
    file.write_text("nothing of that kind")
    assert not run.try_stage("migrate")
    assert isinstance(run.error, ChangeFileError)
    run.finish()
    assert warehouse.one("SELECT status FROM schema_change.run") == "stopped"
