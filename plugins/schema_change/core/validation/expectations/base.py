"""What our expectations share: they count offending rows, and sample their primary keys when asked to."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import sqlalchemy as sa
from great_expectations.execution_engine.execution_engine import ExecutionEngine
from great_expectations.execution_engine.sqlalchemy_execution_engine import SqlAlchemyExecutionEngine
from great_expectations.expectations.expectation import BatchExpectation, render_suite_parameter_string
from great_expectations.render.components import LegacyRendererType, RenderedStringTemplateContent
from great_expectations.render.renderer.renderer import renderer

from schema_change.core.names import Table


def table_clause(table: Table, columns: Sequence[str]) -> sa.TableClause:
    """Return a table, qualified and quoted where needed, with the columns that a query names."""
    named: list[sa.ColumnClause[Any]] = [sa.column(sa.quoted_name(c, quote=True)) for c in dict.fromkeys(columns)]
    return sa.table(sa.quoted_name(table.name, quote=True), *named, schema=sa.quoted_name(table.schema, quote=True))


class OwnExpectation(BatchExpectation, ABC):
    """An expectation on one table; the builder fills in ``on``, the suite's table as ``schema.table``."""

    on: str = ""

    domain_keys: ClassVar[tuple[str, ...]] = ("batch_id",)
    sentence: ClassVar[str] = ""
    """What Data Docs say, with ``$kwarg`` for values."""

    @classmethod
    def is_abstract(cls) -> bool:
        """Keep the base out of the registry."""
        return not cls.sentence

    @classmethod
    def prepare(cls, kwargs: Mapping[str, Any], table: Table) -> dict[str, Any]:
        """Return the kwargs for a table. Raises ValueError when they make no sense."""
        return {**kwargs, "on": str(table)}

    @classmethod
    @renderer(renderer_type=LegacyRendererType.PRESCRIPTIVE)
    @render_suite_parameter_string
    def _prescriptive_renderer(
        cls, configuration: Any = None, result: Any = None, runtime_configuration: Any = None, **kwargs: Any
    ) -> list[RenderedStringTemplateContent]:
        given = {k: str(v) for k, v in configuration.kwargs.items()}
        template = {"template": cls.sentence, "params": given, "styling": (runtime_configuration or {}).get("styling")}
        return [RenderedStringTemplateContent(content_block_type="string_template", string_template=template)]


class CountingExpectation(OwnExpectation, ABC):
    """Succeeds when no row offends."""

    count_metric: ClassVar[str] = ""

    @property
    def compared(self) -> list[str]:
        """Return the columns that :meth:`offenders` names through its table."""
        return []

    def offenders(self, table: sa.TableClause) -> sa.ColumnElement[bool]:
        """Return the condition of the rows to sample."""
        raise TypeError(f"{type(self).__name__} has no rows to sample")

    def _validate(
        self,
        metrics: Mapping[str, Any],
        runtime_configuration: Mapping[str, Any] | None = None,
        execution_engine: ExecutionEngine[Any] | None = None,
    ) -> dict[str, Any]:
        count, total = int(metrics[self.count_metric]), int(metrics["table.row_count"])
        found: dict[str, Any] = {
            "observed_value": count,
            "element_count": total,
            "unexpected_count": count,
            "unexpected_percent": 100 * count / total if total else 0.0,
        }
        how = (runtime_configuration or {}).get("result_format") or {}
        keys = how.get("unexpected_index_column_names") if isinstance(how, dict) else None
        if count and keys and isinstance(execution_engine, SqlAlchemyExecutionEngine):
            found["partial_unexpected_index_list"] = self._sample(
                execution_engine, keys, how["partial_unexpected_count"]
            )
        return {"success": count == 0, "result": found}

    def _sample(self, engine: SqlAlchemyExecutionEngine, keys: list[str], limit: int) -> list[dict[str, Any]]:
        table = table_clause(Table.parse(self.on), [*keys, *self.compared])
        query = sa.select(*(table.c[k] for k in keys)).where(self.offenders(table)).limit(limit)
        return [dict(row._mapping) for row in engine.execute_query(query).fetchall()]  # noqa: SLF001 # public, named so
