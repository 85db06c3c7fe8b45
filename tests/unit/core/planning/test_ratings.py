from __future__ import annotations

from dataclasses import replace

import pytest

from schema_change.core.catalog.model import Catalog, Column, Relation
from schema_change.core.model import Backfill, Batch, Finding, LockMode, Phase, Plan, Retired, Step
from schema_change.core.names import Table
from schema_change.core.operations.base import Planned
from schema_change.core.planning.ratings import data_loss, downtime, reversible

BIG = Table("public", "big")
RELATION = Relation(BIG, "r", "owner", columns=(Column("id", "bigint"), Column("old", "text")), rows=5, bytes=1 << 20)
CATALOG = Catalog(180000, {BIG: RELATION})
ADD = Step(Phase.EXPAND, "add", (BIG,), ("SELECT 1",), LockMode.ACCESS_EXCLUSIVE, undo=("SELECT 2",))
FOR_GOOD = replace(ADD, undo=())


def _contract(*statements: str) -> Plan:
    return Plan((Step(Phase.CONTRACT, "x", (BIG,), statements),))


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("DROP TABLE public.big", "table public.big"),
        ("TRUNCATE public.big", "rows of public.big"),
        ("DELETE FROM public.big", "rows of public.big"),
        ('ALTER TABLE public.big DROP COLUMN "old"', "column public.big.old"),
    ],
)
def test_a_contract_that_drops_is_a_risk_of_losing_data(statement: str, what: str) -> None:
    rating = data_loss(_contract(statement), CATALOG)
    assert (rating.word, rating.why) == ("high", f"removes {what}")


def test_what_the_plan_made_itself_is_no_loss() -> None:
    assert data_loss(_contract("DROP TABLE public.helper", "ALTER TABLE big DROP COLUMN mine"), CATALOG).word == "low"


def test_a_column_dropped_under_another_name_is_known_by_its_own() -> None:
    plan = _contract("ALTER TABLE public.big RENAME COLUMN old TO x", "ALTER TABLE public.big DROP COLUMN x")
    assert data_loss(plan, CATALOG).why == "removes column public.big.old"


def test_a_column_made_under_the_name_of_one_that_was_renamed_is_the_plans_own() -> None:
    plan = _contract("ALTER TABLE public.big RENAME COLUMN old TO x", "ALTER TABLE public.big DROP COLUMN old")
    assert data_loss(plan, CATALOG).word == "low"


def test_a_column_whose_values_go_on_in_another_is_replaced() -> None:
    swap = ("ALTER TABLE public.big RENAME COLUMN old TO x", "ALTER TABLE public.big RENAME COLUMN fresh TO old")
    fill = Backfill(BIG, "fresh", '"old"::integer', "fresh IS NULL")
    steps = (
        Step(Phase.BACKFILL, "fill", (BIG,), backfill=fill),
        Step(Phase.CUTOVER, "swap", (BIG,), swap),
        Step(Phase.CONTRACT, "drop", (BIG,), ("ALTER TABLE public.big DROP COLUMN x",)),
    )
    rating = data_loss(Plan(steps), CATALOG)
    assert rating.word == "medium"
    assert rating.why == "contract drops the old column public.big.old; its values were carried over before"


def test_a_column_that_a_batch_copies_is_carried_over_and_one_it_deletes_by_is_not() -> None:
    drop = Step(Phase.CONTRACT, "drop", (BIG,), ("ALTER TABLE public.big DROP COLUMN old",))
    batch = Batch('INSERT INTO other SELECT "old" FROM public.big WHERE ')
    for done, word in (
        (batch, "medium"),
        (replace(batch, verb="deleted"), "high"),
        (Batch("INSERT INTO other SELECT older FROM public.big WHERE "), "high"),
    ):
        step = Step(Phase.BACKFILL, "x", (BIG,), backfill=Backfill(BIG, "", "true", "true", batch=done))
        assert data_loss(Plan((step, drop)), CATALOG).word == word


def test_what_is_kept_for_a_while_is_no_loss_yet() -> None:
    kept = Retired("column", BIG, Table("schema_change_retired", "k"), "old", keep_days=30)
    plan = replace(_contract("ALTER TABLE public.big DROP COLUMN old"), retired=(kept,))
    rating = data_loss(plan, CATALOG)
    assert (rating.word, rating.why) == ("medium", "drops column public.big.old, kept for 30 days")


def test_no_blocking_lock_is_no_downtime() -> None:
    step = Step(Phase.EXPAND, "index", (BIG,), lock=LockMode.SHARE_UPDATE_EXCLUSIVE, long=True)
    assert downtime(Plan((step,)), CATALOG).word == "none"
    assert downtime(Plan((step, ADD)), CATALOG).word == "brief"


def test_a_step_that_works_under_a_blocking_lock_is_downtime() -> None:
    step = Step(Phase.EXPAND, "rewrite", (BIG,), ("SELECT 1",), LockMode.ACCESS_EXCLUSIVE, long=True)
    rating = downtime(Plan((ADD, step)), CATALOG)
    assert (rating.word, rating.why) == ("blocking", "'rewrite' blocks reads and writes while it works on 1.0 MB")
    large = Catalog(180000, {BIG: replace(RELATION, bytes=5 << 30)})
    assert downtime(Plan((step,)), large).word == "window"
    writers = replace(step, lock=LockMode.SHARE)
    assert downtime(Plan((writers,)), large).word == "blocking", "readers go on"


@pytest.mark.parametrize(
    ("statement", "word"),
    [
        ("CREATE INDEX i ON public.big (id)", "blocking"),
        ("UPDATE public.big SET id = 1", "blocking"),
        ("ALTER TABLE public.big DROP COLUMN old", "brief"),
        ("ALTER TABLE public.big RENAME COLUMN old TO n", "brief"),
        ("DROP TABLE public.big", "brief"),
    ],
)
def test_raw_sql_found_unsafe_stops_the_application_unless_it_is_soon_done(statement: str, word: str) -> None:
    finding = Finding("rule", "error", "m", "r", statement)
    assert downtime(Plan((ADD,), findings=(finding,)), CATALOG).word == word
    assert downtime(Plan((ADD,), findings=(replace(finding, waived="it is night"),)), CATALOG).word == word


def _part(*steps: Step) -> Planned:
    return Planned(CATALOG, steps)


def test_what_no_step_takes_back_is_not_called_reversible() -> None:
    assert reversible(_part(ADD)) == "yes, until it has landed"
    assert reversible(_part(ADD, replace(FOR_GOOD, phase=Phase.CONTRACT))) == "yes, until contract"
    assert reversible(_part(ADD, FOR_GOOD)) == "partly"
    assert reversible(_part(FOR_GOOD)) == "no"
    assert reversible(replace(_part(ADD), one_way=("no inverse",))) == "until cutover only"


def test_rows_that_are_drained_back_and_data_that_is_kept_count_as_a_way_back() -> None:
    batch = Batch("DELETE FROM public.big WHERE ", drain=("INSERT", ""), verb="deleted")
    rows = Step(Phase.BACKFILL, "delete", (BIG,), backfill=Backfill(BIG, "", "true", "true", batch=batch))
    assert reversible(_part(rows, FOR_GOOD)) == "partly"
    kept = Retired("rows", BIG, Table("schema_change_retired", "k"), keep_days=7)
    part = replace(_part(rows, replace(FOR_GOOD, phase=Phase.CONTRACT)), retired=(kept,))
    assert reversible(part) == "yes, until contract; the data for 7 days more"
