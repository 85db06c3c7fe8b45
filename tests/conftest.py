"""Servers and databases for every test: one server per PostgreSQL version, one database per test."""

from __future__ import annotations

import itertools
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from demo.postgres import Server, free_port
from schema_change.core.binaries import installations
from schema_change.core.database import Connection, Target

VERSIONS = (18, 15)
#: On several cores these run one after the other, on one of them: an Airflow is heavy, and so is building wheels.
TOGETHER = (
    ("tests/system/", "tests/integration/test_demo_airflow.py"),
    ("tests/integration/airflow/",),
    ("tests/packaging/",),
)
#: What is composed of the rest runs on the oldest server in test-all only.
COMPOSED = (
    "tests/acceptance/",
    "tests/integration/operations/",
    "tests/integration/planning/",
    "tests/integration/retention/",
    "tests/integration/stages/",
    "tests/integration/test_",
    "tests/integration/warehouse/",
)
_FAST = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "60",
    "max_prepared_transactions": "5",
    "log_min_messages": "error",
}
_numbers = itertools.count(1)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave the oldest server to test-all where the newest one tells as much."""
    for item in items:
        parameters = getattr(item, "callspec", None)
        if item.nodeid.startswith(COMPOSED) and parameters and parameters.params.get("server") == VERSIONS[-1]:
            item.add_marker(pytest.mark.slow)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    """Give each test to the worker that is free, but those that belong together to one."""
    return _Scheduling(config, log)


class _Scheduling(LoadScopeScheduling):  # type: ignore[misc]
    def _split_scope(self, nodeid: str) -> str:
        return next((together[0] for together in TOGETHER if nodeid.startswith(together)), nodeid)


def _start(major: int) -> Iterator[Server]:
    installation = next((i for i in installations() if i.major == major), None)
    if installation is None:
        pytest.skip(f"PostgreSQL {major} is not installed here (apt-get install postgresql-{major})")
    folder = Path(tempfile.mkdtemp(prefix=f"pg{major}_"))
    folder.chmod(0o755)
    server = Server(installation, folder / "data", free_port(), _FAST)
    server.start()
    try:
        yield server
    finally:
        server.stop("immediate")
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def server_18() -> Iterator[Server]:
    """PostgreSQL 18 from the wheel."""
    yield from _start(18)


@pytest.fixture(scope="session")
def server_15() -> Iterator[Server]:
    """PostgreSQL 15 from Debian's packages."""
    yield from _start(15)


@pytest.fixture(params=VERSIONS, ids=lambda v: f"pg{v}")
def server(request: pytest.FixtureRequest) -> Server:
    """Every supported server in turn: a test that asks for it, or for a database, runs on each version."""
    found: Server = request.getfixturevalue(f"server_{request.param}")
    return found


@pytest.fixture
def new_database(server: Server) -> Iterator[Callable[[], Target]]:
    """A function that creates one more empty database; they are dropped after the test."""
    created: list[sql.Identifier] = []

    def create() -> Target:
        name = f"t{next(_numbers)}"
        with server.target().connect("tests") as admin:
            admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        created.append(sql.Identifier(name))
        return server.target(name)

    yield create
    with server.target().connect("tests") as admin:
        for identifier in created:
            # A whole restore may have renamed it.
            admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(identifier))


@pytest.fixture
def target(new_database: Callable[[], Target]) -> Target:
    """An empty database of its own."""
    return new_database()


@pytest.fixture
def connection(target: Target) -> Iterator[Connection]:
    """An autocommit session of the test on its database, with the usual search_path."""
    session = target.connect("test")
    session.execute("SET search_path = public")
    session.execute("SET lock_timeout = 0")
    yield session
    session.close()


@pytest.fixture
def any_case(connection: Connection) -> str:
    """The name of a collation that calls texts equal which differ in case alone."""
    try:
        connection.execute(
            "CREATE COLLATION any_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
        )
    except psycopg.errors.FeatureNotSupported:
        pytest.skip("a server built without ICU")
    return "any_case"


@pytest.fixture(autouse=True)
def our_loggers() -> None:
    """Undo what Airflow's logging configuration did: it disables the loggers that exist, and silences warnings."""
    logging.getLogger("schema_change").setLevel(logging.INFO)
    for name, logger in logging.root.manager.loggerDict.items():
        if name.startswith("schema_change") and isinstance(logger, logging.Logger):
            logger.disabled = False
