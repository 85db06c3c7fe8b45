"""Run suites with Great Expectations: all in one snapshot, counts first, samples only of what failed."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from upath import UPath

from schema_change.core.database import Target
from schema_change.core.errors import ConfigurationError
from schema_change.core.model import Expectation
from schema_change.core.validation import pages, translate
from schema_change.core.validation.outcomes import CheckOutcome, Status, ValidationOutcome
from schema_change.core.validation.quiet import load_builder
from schema_change.core.validation.snapshot import URL, Snapshot, Watch, creator, exported
from schema_change.core.validation.suites import Suite

__all__ = ["CheckOutcome", "Status", "ValidationOutcome", "run_suites"]

log = logging.getLogger(__name__)

#: Rows whose primary key is shown for a failed check.
SAMPLE_ROWS = 10

# The default format looks for sample rows with a second scan per check, even when it passes; this one only counts.
_COUNTS = {"result_format": "BASIC", "partial_unexpected_count": 0}


def run_suites(
    target: Target,
    suites: Sequence[Suite],
    *,
    parameters: Mapping[str, Any] | None = None,
    docs: UPath | None,
    run_name: str,
    statement_timeout_s: int = 600,
) -> ValidationOutcome:
    """Run all suites in one snapshot, write the pages to the folder ``docs``, and return what every check found.

    ``parameters`` are the values of ``{$PARAMETER: expression}`` in kwargs. A check that cannot be carried out is an
    error in the outcome, never an exception; pages that cannot be written are logged. Raises ConfigurationError when
    the target cannot be reached or two suites have one name.
    """
    _refuse_twins(suites)
    runs: list[_SuiteRun] = []
    if suites:
        builder = load_builder()
        with (
            exported(target, [s.table for s in suites]) as snapshot,
            _datasource(target, snapshot, statement_timeout_s) as (source, watch),
        ):
            for suite in suites:
                run = _SuiteRun(suite, source, snapshot.keys.get(suite.table))
                run.run(builder, parameters or {})
                runs.append(run)
            log.debug("%s statements sent", watch.sent)
    outcome = ValidationOutcome(tuple(o for run in runs for o in run.outcomes))
    log.info("%s checks of %s suites on %s", len(outcome.outcomes), len(suites), target.conn_id)
    if docs is not None:
        natives = [(run.suite, run.native) for run in runs if run.native is not None]
        try:
            pages.write(docs, outcome, natives, run_name=run_name, conn_id=target.conn_id)
        except Exception:  # a page that cannot be written is no reason to take a good change back
            log.exception("the pages of %s could not be written to %s", run_name, docs)
    return outcome


def _refuse_twins(suites: Sequence[Suite]) -> None:
    names = [s.name for s in suites]
    if twice := sorted({n for n in names if names.count(n) > 1}):
        raise ConfigurationError(
            f"several suites are named {', '.join(twice)}",
            hint="results are kept by suite and check: give each suite a name of its own",
        )


@contextlib.contextmanager
def _datasource(target: Target, snapshot: Snapshot, timeout_s: int) -> Iterator[tuple[Any, Watch]]:
    """Yield a data source on the target, in a context that is kept nowhere; its two pools are closed afterwards."""
    connect = creator(target, timeout_s)
    options = {
        "creator": connect,
        "pool_size": 1,
        "max_overflow": 1,
        "hide_parameters": True,
        "use_native_hstore": False,
    }
    source = pages.context().data_sources.add_one_pass_postgres("target", connection_string=URL, kwargs=options)
    engine = source.get_execution_engine()
    # The library spells the type of every column of a table, also those that SQLAlchemy knows no name for.
    engine.engine.dialect.type_compiler_instance.visit_null = lambda _type, **_options: "unknown"
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Did not recognize type", category=sa.exc.SAWarning)
            yield source, Watch(engine.engine, snapshot)
    finally:
        engine.close()
        engine.engine.dispose()
        source.get_engine().dispose()


class _SuiteRun:
    """One suite on one table; ``native`` is the library's own result, for its own pages."""

    def __init__(self, suite: Suite, source: Any, keys: tuple[str, ...] | None) -> None:
        self.suite = suite
        self.native: Any = None
        self._source = source
        self._keys = keys
        self._found: dict[str, CheckOutcome] = {}
        self._built: dict[str, Any] = {}

    @property
    def outcomes(self) -> list[CheckOutcome]:
        """Return the outcomes in the order of the suite; the library gives its results in another."""
        return [self._found[check.check_id] for check in self.suite.checks]

    def run(self, builder: Any, parameters: Mapping[str, Any]) -> None:
        """Count everything first, then sample what failed."""
        if self._keys is None:
            self._fail(self.suite.checks, f"table {self.suite.table} does not exist, or this role may not see it")
            return
        for check in self.suite.checks:
            try:
                self._built[check.check_id] = builder.build(check, parameters)
            except ValueError as error:
                self._fail([check], str(error))
        try:
            batch = self._batch()
        except Exception as error:  # noqa: BLE001 # whatever the library raises, the checks were not carried out
            self._fail([c for c in self.suite.checks if c.check_id in self._built], _first_line(error))
            return
        self.native = self._count(batch)
        self._sample(batch)

    def _batch(self) -> Any:
        """Return the table's one batch, so that suites of one table share what was computed for it."""
        table = self.suite.table
        if str(table) in self._source.get_asset_names():
            return self._source.get_asset(str(table)).get_batch_definition("all").get_batch()
        with warnings.catch_warnings():
            # Its replacement, a data source per schema, would leave the one snapshot and the one session.
            warnings.filterwarnings("ignore", message="`schema_name` is deprecated", category=DeprecationWarning)
            asset = self._source.add_table_asset(
                str(table),
                table_name=sa.quoted_name(table.name, quote=True),
                schema_name=sa.quoted_name(table.schema, quote=True),
            )
        return asset.add_batch_definition_whole_table("all").get_batch()

    def _count(self, batch: Any) -> Any:
        """Run the whole suite, counts only, and return the library's result."""
        import great_expectations as gx  # noqa: PLC0415

        if not self._built:
            return None
        suite = gx.ExpectationSuite(self.suite.name, list(self._built.values()))
        try:
            native = batch.validate(suite, result_format=_COUNTS)
        except Exception as error:  # noqa: BLE001 # as above
            self._fail([c for c in self.suite.checks if c.check_id in self._built], _first_line(error))
            return None
        checks = {c.check_id: c for c in self.suite.checks}
        for result in native.results:
            check = checks[result.expectation_config.meta["check_id"]]
            self._found[check.check_id] = translate.outcome(self.suite, check, result)
        self._fail(
            [c for c in self.suite.checks if c.check_id not in self._found], "Great Expectations returned no result"
        )
        return native

    def _sample(self, batch: Any) -> None:
        """Find primary keys of offending rows, for failed checks on rows of a table that has a primary key."""
        import great_expectations as gx  # noqa: PLC0415

        failed = [c for c in self.suite.checks if self._is(c, "failed") and self._found[c.check_id].unexpected_count]
        if not failed or not self._keys:
            return
        how = {
            "result_format": "SUMMARY",
            "partial_unexpected_count": SAMPLE_ROWS,
            "unexpected_index_column_names": list(self._keys),
        }
        chosen = [self._built[c.check_id].copy(update={"id": None}) for c in failed]
        try:
            sampled = batch.validate(gx.ExpectationSuite(f"{self.suite.name} again", chosen), result_format=how).results
        except Exception as error:  # noqa: BLE001 # as above; the counts stand, samples are an extra
            log.warning("%s: no sample of offending rows: %s", self.suite.name, _first_line(error))
            return
        for result in sampled:
            check_id = result.expectation_config.meta["check_id"]
            if problem := translate.error_of(result):
                log.warning("%s: no sample of offending rows of %s: %s", self.suite.name, check_id, problem)
            keys = translate.sample(result, self._keys)
            self._found[check_id] = dataclasses.replace(self._found[check_id], sample=keys)

    def _is(self, check: Expectation, status: Status) -> bool:
        return self._found[check.check_id].status == status

    def _fail(self, checks: Sequence[Expectation], message: str) -> None:
        for check in checks:
            self._found[check.check_id] = translate.failure(self.suite, check, message)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".split("\n", 1)[0]
