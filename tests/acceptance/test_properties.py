"""Random tables, rows, operations and writes: migrate then roll back is the identity, and no write is ever lost.

The same writes go to a twin of the database that no change touches. After a rollback the two are equal. A change that
lands while the application writes gives what the same change gives after all the writes: it does not matter when they
came, so readers of the old and of the new shape have agreed.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from psycopg import sql

from demo.postgres import Server
from schema_change.core.database import Target
from schema_change.core.errors import PlanError, PreCheckFailed
from schema_change.core.journal import registry
from schema_change.core.operations import catalogue
from tests.acceptance.test_matrix import State, leftovers
from tests.bench import FORWARD, Bench, Run

_BEFORE = FORWARD[: FORWARD.index("migrate")]
#: After each of these the application writes.
_STAGES = ("migrate", "backfill", "cutover")
_numbers = itertools.count(1)

#: Types with a generator of SQL literals for values of theirs.
TYPES: dict[str, st.SearchStrategy[str]] = {
    "integer": st.integers(-1000, 1000).map(str),
    "bigint": st.integers(-(2**40), 2**40).map(str),
    "numeric(8,2)": st.integers(-99999, 99999).map(lambda n: f"{n}::numeric / 100"),
    "text": st.text("abc '\\%ä", max_size=5).map(lambda s: sql.Literal(s).as_string(None)),
    "character varying(12)": st.text("xyz", max_size=8).map(lambda s: f"'{s}'"),
    "boolean": st.sampled_from(["true", "false"]),
    "date": st.integers(0, 3000).map(lambda n: f"date '2020-01-01' + {n}"),
    "timestamp with time zone": st.integers(0, 10**8).map(
        lambda n: f"timestamptz '2020-01-01 UTC' + {n} * interval '1 s'"
    ),
    "jsonb": st.sampled_from(["'{}'::jsonb", """'{"a": 1}'::jsonb""", "'[1]'::jsonb"]),
    "integer[]": st.sampled_from(["ARRAY[1,2]", "'{}'::integer[]"]),
}
NAMES = st.sampled_from(["amount", "Mixed Case", "select", "naïve", "x" * 63, 'quo"ted', "plain"])
#: Type changes that lose nothing, so that both directions are derived.
WIDER = {"integer": ["bigint", "numeric(20,0)"], "character varying(12)": ["text", "character varying(40)"]}


@dataclass(frozen=True)
class Shape:
    """A random table: its key and its columns by name and type."""

    key: tuple[str, ...]
    columns: dict[str, str]
    rows: tuple[tuple[str, ...], ...]

    @property
    def create(self) -> str:
        ident = sql.Identifier
        parts = [sql.SQL("{} {}").format(ident(f"k{place}"), sql.SQL(kind)) for place, kind in enumerate(self.key)] + [
            sql.SQL("{} {}").format(ident(name), sql.SQL(kind)) for name, kind in self.columns.items()
        ]
        if self.key:
            keys = sql.SQL(", ").join(ident(f"k{place}") for place in range(len(self.key)))
            parts.append(sql.SQL("PRIMARY KEY ({})").format(keys))
        statement = sql.SQL("CREATE TABLE public.t ({})").format(sql.SQL(", ").join(parts)).as_string(None)
        return ";\n".join([statement, *(self.insert(number, row) for number, row in enumerate(self.rows))])

    def insert(self, number: int, values: tuple[str, ...]) -> str:
        names = [f"k{place}" for place in range(len(self.key))] + list(self.columns)
        text = sql.SQL("INSERT INTO public.t ({}) VALUES ({})").format(
            sql.SQL(", ").join(map(sql.Identifier, names)),
            sql.SQL(", ".join([*(_KEYS[kind](number) for kind in self.key), *values])),
        )
        return text.as_string(None)


_KEYS: dict[str, Callable[[int], str]] = {
    "integer": str,
    "text": lambda n: f"'key {n}'",
    "uuid": lambda n: f"'00000000-0000-0000-0000-{n:012x}'",
    "date": lambda n: f"date '2000-01-01' + {n}",
}


@st.composite
def shapes(draw: st.DrawFn) -> Shape:
    key = draw(st.sampled_from([("integer",), ("uuid",), ("text", "date"), ("integer", "text"), ()]))
    names = draw(st.lists(NAMES, min_size=1, max_size=3, unique=True))
    columns = {name: draw(st.sampled_from(sorted(TYPES))) for name in names}
    rows = draw(st.lists(st.tuples(*(_value(TYPES[kind]) for kind in columns.values())), max_size=12))
    return Shape(key, columns, tuple(rows))


def _value(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(st.just("NULL"), values)


@st.composite
def operations(draw: st.DrawFn, shape: Shape) -> list[dict[str, Any]]:
    """One to three operations on different columns, those that this release knows."""
    columns = draw(st.permutations(sorted(shape.columns)))
    found: list[dict[str, Any]] = []
    for column in columns[: draw(st.integers(1, 3))]:
        makers = [m for kind, m in _MAKERS.items() if kind in catalogue()]
        if made := draw(st.sampled_from(makers))(draw, shape, column):
            found.append(made)
    assume(found)
    return found


def _quoted(name: str) -> str:
    return sql.Identifier(name).as_string(None)


def _add_column(draw: st.DrawFn, shape: Shape, column: str) -> dict[str, Any]:
    body: dict[str, Any] = {"table": "t", "column": {"name": f"new of {column}"[:30], "type": "text"}}
    if draw(st.booleans()):
        body["fill"] = f"coalesce({_quoted(column)}::text, 'none')"
        body["column"]["nullable"] = draw(st.booleans())
    return {"add_column": body}


def _change_type(draw: st.DrawFn, shape: Shape, column: str) -> dict[str, Any] | None:
    wider = WIDER.get(shape.columns[column])
    if wider is None:
        return None
    return {"change_type": {"table": "t", "column": column, "type": draw(st.sampled_from(wider)), "strategy": "expand"}}


def _not_null(draw: st.DrawFn, shape: Shape, column: str) -> dict[str, Any]:
    value = {"integer": "0", "text": "''", "boolean": "false"}.get(shape.columns[column])
    nulls: Any = {"fill": value} if value and shape.key else "fail"
    return {"set_not_null": {"table": "t", "column": column, "nulls": nulls}}


_MAKERS: dict[str, Callable[[st.DrawFn, Shape, str], dict[str, Any] | None]] = {
    "add_column": _add_column,
    "change_type": _change_type,
    "rename_column": lambda _, __, column: {"rename_column": {"table": "t", "column": column, "to": "renamed"}},
    "set_not_null": _not_null,
    "create_index": lambda _, __, column: {"create_index": {"table": "t", "columns": [_quoted(column)]}},
    "drop_column": lambda _, __, column: {"drop_column": {"table": "t", "column": column}},
    "set_default": lambda draw, shape, column: {
        "set_default": {"table": "t", "column": column, "default": draw(TYPES[shape.columns[column]])}
    },
    "add_check": lambda _, __, column: {
        "add_check": {"table": "t", "name": "a_check", "check": f"{_quoted(column)} IS NULL OR true"}
    },
    "comment": lambda _, __, column: {"comment": {"table": "t", "column": column, "text": "said"}},
    "rename_table": lambda _, __, ___: {"rename_table": {"table": "t", "to": "renamed table"}},
}


@st.composite
def writes(draw: st.DrawFn, shape: Shape, avoid: set[str]) -> list[str]:
    columns = sorted(set(shape.columns) - avoid)
    found: list[str] = []
    for number in range(draw(st.integers(0, 4))):
        place = draw(st.integers(0, 20))
        where = sql.SQL("k0 = {}").format(sql.SQL(_KEYS[shape.key[0]](place))) if shape.key else sql.SQL("true")
        kind = draw(st.sampled_from(["insert", "update", "delete"]))
        if kind == "insert":
            values = tuple(draw(TYPES[t]) for t in shape.columns.values())
            found.append(shape.insert(100 + number, values))
        elif kind == "update" and columns:
            column = draw(st.sampled_from(columns))
            value = draw(TYPES[shape.columns[column]])
            update = sql.SQL("UPDATE public.t SET {} = {} WHERE {}")
            found.append(update.format(sql.Identifier(column), sql.SQL(value), where).as_string(None))
        elif kind == "delete" and shape.key:
            found.append(sql.SQL("DELETE FROM public.t WHERE {}").format(where).as_string(None))
    return found


#: A table, operations on it, and the writes that come after each stage.
Story = tuple[Shape, list[dict[str, Any]], list[list[str]]]


@st.composite
def stories(draw: st.DrawFn) -> Story:
    shape = draw(shapes())
    made = draw(operations(shape))
    dropped = {body["column"] for item in made for kind, body in item.items() if kind == "drop_column"}
    batches = [draw(writes(shape, dropped)) if not dropped else [] for _ in _STAGES]
    return shape, made, [_renumbered(batch, place) for place, batch in enumerate(batches)]


def _renumbered(batch: list[str], place: int) -> list[str]:
    """Give the rows inserted after each stage keys of their own."""
    return batch if place == 0 else [s for s in batch if not s.startswith("INSERT")]


@dataclass
class Databases:
    """Makes databases on a server, and drops them."""

    server: Server
    names: list[str] = field(default_factory=list)

    def create(self, setup: str) -> Target:
        name = f"p{next(_numbers)}"
        with self.server.target().connect("property") as admin:
            admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        self.names.append(name)
        target = self.server.target(name)
        self.run(target, [setup])
        with target.connect("property") as session:
            registry.install(session)
            session.execute("ANALYZE")
        return target

    def run(self, target: Target, statements: list[str]) -> None:
        with target.connect("application") as session:
            session.execute("SET search_path = public")
            for statement in statements:
                session.execute(statement.encode())

    def drop(self) -> None:
        with self.server.target().connect("property") as admin:
            for name in self.names:
                admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
        self.names.clear()


@pytest.fixture
def databases(server_18: Server) -> Iterator[Databases]:
    made = Databases(server_18)
    yield made
    made.drop()


def started(target: Target, folder: Path, made: list[dict[str, Any]]) -> Run:
    bench = Bench(target, folder)
    request = bench.request(
        bench.write("001_random", {"operations": made}), skip_backup=True, skip_rehearsal=True, batch_target_ms=10
    )
    run = Run(request)
    for stage in _BEFORE:
        if stage == "approve":
            run.approve()
        if not run.try_stage(stage):
            # What does not fit this table is refused before anything is touched; that is for other tests.
            assert isinstance(run.error, (PlanError, PreCheckFailed)), run.error
            assume(False)
    return run


def rolled_back(databases: Databases, folder: Path, story: Story) -> None:
    """The change is undone while the application writes; the twin has only the writes."""
    shape, made, batches = story
    target, twin = databases.create(shape.create), databases.create(shape.create)
    run = started(target, folder, made)
    for stage, batch in zip(_STAGES, batches, strict=True):
        assert run.try_stage(stage), (stage, run.error)
        databases.run(target, batch)
        databases.run(twin, batch)
    run.finish()
    assert_equal(State.of(target), State.of(twin))
    assert not any(leftovers(target))


def landed(databases: Databases, folder: Path, story: Story) -> None:
    """The change lands while the application writes; on the twin it lands after all the writes."""
    shape, made, batches = story
    assume(not any(batch for batch in batches) or not _renames(made))
    target, twin = databases.create(shape.create), databases.create(shape.create)
    run = started(target, folder / "target", made)
    for stage, batch in zip(_STAGES, batches, strict=True):
        assert run.try_stage(stage), (stage, run.error)
        databases.run(target, batch)
    for batch in batches:
        databases.run(twin, batch)
    late = started(twin, folder / "twin", made)
    for stage in _STAGES:
        assert late.try_stage(stage), (stage, late.error)
    for each in (run, late):
        for stage in FORWARD[FORWARD.index("validate") :]:
            assert each.try_stage(stage), (stage, each.error)
    assert_equal(State.of(target), State.of(twin))
    assert not any(leftovers(target))


def _renames(made: list[dict[str, Any]]) -> bool:
    return any("drop_column" in item for item in made)


def assert_equal(one: State, other: State) -> None:
    assert one.catalog == other.catalog
    assert one.rows == other.rows


_SETTINGS = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much],
    print_blob=True,
)
PROPERTIES = pytest.mark.parametrize("holds", [rolled_back, landed], ids=["rolled_back", "landed"])
Property = Callable[[Databases, Path, Story], None]


@PROPERTIES
@settings(_SETTINGS, max_examples=5, derandomize=True, phases=[Phase.explicit, Phase.generate])
@given(story=stories())
def test_it_holds_for_some_stories(databases: Databases, holds: Property, story: Story) -> None:
    tell(databases, holds, story)


@PROPERTIES
@pytest.mark.slow
@pytest.mark.timeout(3600)
@settings(_SETTINGS, max_examples=100)
@given(story=stories())
def test_it_holds_for_many_stories(databases: Databases, holds: Property, story: Story) -> None:
    tell(databases, holds, story)


def tell(databases: Databases, holds: Property, story: Story) -> None:
    with tempfile.TemporaryDirectory() as folder:
        try:
            for name in ("target", "twin"):
                (Path(folder) / name).mkdir()
            holds(databases, Path(folder), story)
        finally:
            databases.drop()
