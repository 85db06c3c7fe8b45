"""Every case × a failure after each step × every PostgreSQL: exactly the old state before contract, the new one after.

A run is brought to the point before migrate once per case; every scenario starts from a copy of that database. The old
application writes at each boundary of the phases, through the old shape: a rollback loses none of its writes, and a
change that lands has treated them like the rows that were there before.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql

from demo.postgres import Server
from schema_change.core.backup.checksums import checksums
from schema_change.core.catalog.read import read_catalog
from schema_change.core.database import Target
from schema_change.core.errors import ExecutionError
from schema_change.core.execution.steps import StepRunner
from schema_change.core.journal import registry
from schema_change.core.journal.journal import StepRow
from schema_change.core.model import Phase
from schema_change.core.stages.request import Request
from tests.acceptance.cases import Case, all_cases
from tests.acceptance.index_page import not_listed
from tests.bench import FORWARD, Bench, Run

CASES = all_cases()
_BEFORE = FORWARD[: FORWARD.index("migrate")]
_CHANGING = FORWARD[FORWARD.index("migrate") :]
_numbers = itertools.count(1)


class Injected(ExecutionError):
    """The failure that a scenario injects."""


@dataclass(frozen=True)
class State:
    """What a database is: its catalog, and the rows of every table. Two of them are equal or tell why not."""

    catalog: dict[str, Any]
    rows: tuple[Any, ...]

    @classmethod
    def of(cls, target: Target) -> State:
        with target.connect("state") as session:
            catalog = read_catalog(session)
            tables = [r.table for r in catalog.relations.values() if r.kind == "r"]
            return cls(catalog.to_json(), tuple(c.to_json() for c in checksums(session, tables)))


@dataclass
class Scene:
    """One case on one server: the databases its scenarios start from, and the states they may end in."""

    server: Server
    case: Case
    template: Target
    prepared: Target
    request: Request
    old: State
    steps: list[StepRow]
    names: list[str] = field(default_factory=list)

    def copy(self, of: Target) -> Target:
        name = f"m{next(_numbers)}"
        with self.server.target().connect("matrix") as admin:
            admin.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(of.database))
            )
        self.names.append(name)
        return self.server.target(name)

    def run(self) -> tuple[Target, Run]:
        target = self.copy(self.prepared)
        return target, Run(replace(self.request, target=target))

    def traffic(self, target: Target) -> None:
        """Do what the application on the old shape does."""
        with target.connect("application") as session:
            session.execute("SET search_path = public")
            for statement in self.case.traffic:
                session.execute(statement.encode())

    def before_contract(self) -> list[StepRow]:
        return [s for s in self.steps if s.planned.phase is not Phase.CONTRACT]

    def in_contract(self) -> list[StepRow]:
        return [s for s in self.steps if s.planned.phase is Phase.CONTRACT]


@pytest.fixture(params=CASES, ids=lambda c: c.id)
def scene(request: pytest.FixtureRequest, server: Server, tmp_path: Path) -> Iterator[Scene]:
    case: Case = request.param
    if server.installation.major < case.oldest:
        pytest.skip(f"needs PostgreSQL {case.oldest}")
    made = _scene(server, case, tmp_path)
    yield made
    with server.target().connect("matrix") as admin:
        for name in (*made.names, made.prepared.database, made.template.database):
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def _scene(server: Server, case: Case, folder: Path) -> Scene:
    names = [f"m{next(_numbers)}" for _ in range(2)]
    with server.target().connect("matrix") as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(names[0])))
    template = server.target(names[0])
    with template.connect("setup") as session:
        session.execute("SET search_path = public")
        session.execute(case.setup.encode())
        session.execute("ANALYZE")
        registry.install(session)
    old = State.of(template)
    with server.target().connect("matrix") as admin:
        admin.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(names[1]), sql.Identifier(names[0]))
        )
    prepared = server.target(names[1])
    request = _prepare(case, prepared, folder)
    with prepared.connect("look") as session:
        steps = Run(request).journal(session).steps()
    return Scene(server, case, template, prepared, request, old, steps)


def _prepare(case: Case, target: Target, folder: Path) -> Request:
    """Bring a run of the case to the point before migrate."""
    bench = Bench(target, folder)
    (folder / "expectations").mkdir(exist_ok=True)
    document = {"operations": list(case.operations)} if case.operations else {}
    change = bench.write("001_case", document, **(case.scripts or {}))
    request = bench.request(change, skip_backup=True, skip_rehearsal=True, batch_target_ms=10)
    run = Run(request)
    for stage in _BEFORE:
        if stage == "approve":
            run.approve()
        assert run.try_stage(stage), (case.id, stage, run.error)
    return request


@contextmanager
def failing_after(seq: int) -> Iterator[None]:
    """Make the run fail right after a step."""
    original = StepRunner.run

    def run(self: StepRunner, row: StepRow) -> None:
        original(self, row)
        if row.seq == seq:
            raise Injected("injected", hint="none")

    StepRunner.run = run  # type: ignore[method-assign]
    try:
        yield
    finally:
        StepRunner.run = original  # type: ignore[method-assign]


def forward(run: Run, stages: tuple[str, ...] = _CHANGING) -> bool:
    return all(run.try_stage(stage) for stage in stages)


_LEFT_BEHIND = (
    # Functions of ours; one that guards a table of the registry belongs there.
    """SELECT p.proname FROM pg_proc p WHERE pronamespace = 'schema_change'::regnamespace AND NOT EXISTS (
        SELECT FROM pg_trigger t
        WHERE t.tgfoid = p.oid AND NOT tgisinternal AND t.tgrelid::regclass::text LIKE 'schema_change.%')""",
    "SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid",
    "SELECT table_name FROM schema_change.owner",
    """SELECT relname FROM pg_class
        WHERE relnamespace = 'schema_change_retired'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
        AND relname NOT IN (SELECT kept_name FROM schema_change.retired)""",
)


def leftovers(target: Target) -> list[Any]:
    """Return what no run may leave behind: our functions, invalid indexes, ownership, kept tables nobody knows of."""
    with target.connect("look") as session:
        return [session.execute(query.encode()).fetchall() for query in _LEFT_BEHIND]


def assert_landed(scene: Scene, target: Target) -> None:
    with target.connect("look") as session:
        session.execute("SET search_path = public")
        assert session.execute("SELECT status FROM schema_change.run").fetchall() == [("applied",)]
        for query, expected in scene.case.after.items():
            assert session.execute(query.encode()).fetchall() == expected, query
    assert not any(leftovers(target)), leftovers(target)


def assert_as_before(scene: Scene, target: Target, run: Run, old: State, when: object) -> None:
    run.finish()
    with target.connect("look") as session:
        status = session.execute("SELECT status FROM schema_change.run").fetchall()
    assert status == [("rolled_back",)], (when, run.outcome_error)
    now = State.of(target)
    assert now.catalog == old.catalog, when
    assert now.rows == old.rows, when
    assert not any(leftovers(target)), (when, leftovers(target))


def test_success(scene: Scene) -> None:
    target, run = scene.run()
    assert forward(run), (run.error, getattr(run.error, "__cause__", None))
    assert_landed(scene, target)
    wanted = [name for operation in scene.case.operations or ({"sql": {}},) for name in operation]
    assert not_listed(wanted, (row.planned for row in scene.steps)) == []


@pytest.mark.slow
def test_rolled_back_after_validate(scene: Scene) -> None:
    target, run = scene.run()
    assert forward(run, _CHANGING[:-1]), run.error
    assert_as_before(scene, target, run, scene.old, "validate")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_failure_after_any_step_leaves_the_old_state(scene: Scene) -> None:
    for row in scene.before_contract():
        target, run = scene.run()
        with failing_after(row.seq):
            assert not forward(run), row.planned.title
        assert isinstance(run.error, Injected), (row.planned.title, run.error)
        assert_as_before(scene, target, run, scene.old, row.planned.title)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_failure_in_contract_only_goes_forward(scene: Scene) -> None:
    undisturbed, run = scene.run()
    assert forward(run), run.error
    new = State.of(undisturbed)
    for row in scene.in_contract():
        target, run = scene.run()
        with failing_after(row.seq):
            assert not forward(run), row.planned.title
        assert isinstance(run.error, Injected), (row.planned.title, run.error)
        run.finish()
        again = run.again()
        assert again.try_stage("contract"), again.error
        assert_landed(scene, target)
        now = State.of(target)
        assert now.catalog == new.catalog, row.planned.title
        assert scene.case.made_up or now.rows == new.rows, row.planned.title


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_old_application_writes_at_any_time(scene: Scene) -> None:
    """A rollback gives back the old shape with its writes, and a change that lands has treated them like the others."""
    if not scene.case.traffic:
        pytest.skip("the case has no traffic")
    quiet = scene.copy(scene.template)
    scene.traffic(quiet)
    old = State.of(quiet)
    first, run = scene.run()
    scene.traffic(first)
    assert forward(run), run.error
    new = State.of(first)
    for stages in (_CHANGING[:1], _CHANGING[:2], _CHANGING[:3], _CHANGING[:4]):
        back, run = scene.run()
        assert forward(run, stages), (stages, run.error)
        scene.traffic(back)
        assert_as_before(scene, back, run, old, stages)
        on, run = scene.run()
        assert forward(run, stages), (stages, run.error)
        scene.traffic(on)
        assert forward(run, _CHANGING[len(stages) :]), (stages, run.error)
        now = State.of(on)
        assert now.catalog == new.catalog, stages
        assert scene.case.made_up or now.rows == new.rows, stages
