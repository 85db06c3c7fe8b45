"""What the operations on a template of the warehouse have in common: everything but what becomes of the column."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import ClassVar, Literal

from pydantic import Field

from schema_change.core.catalog.model import Catalog
from schema_change.core.errors import PlanError
from schema_change.core.fields import Identifier
from schema_change.core.model import Phase, Step, Tally
from schema_change.core.names import Table
from schema_change.core.operations.base import Operation, PlanContext, Planned
from schema_change.core.recipes import beside, own_functions, reconstruction
from schema_change.core.recipes.beside import Beside
from schema_change.core.recipes.dependents import shown
from schema_change.core.recipes.reconstruction import ColumnChange
from schema_change.core.warehouse.own import Own
from schema_change.core.warehouse.readings import readings
from schema_change.core.warehouse.template import Template, Tenant
from schema_change.core.wording import counted


@dataclass(frozen=True, slots=True)
class Reshaped:
    """What one operation makes of a template: the new one, and what is done to each yearly table.

    ``years`` are whole plans of other operations; ``last`` are contract steps behind theirs. The maps say what yearly
    tables call a column meanwhile, in the old and in the new shape.
    """

    new: Template
    years: tuple[Planned, ...] = ()
    last: tuple[Step, ...] = ()
    fallback: str | None = None
    history_from: int | None = None
    old_year_columns: Mapping[str, str] = field(default_factory=dict)
    new_year_columns: Mapping[str, str] = field(default_factory=dict)
    notices: tuple[str, ...] = ()


class WarehouseOperation(Operation):
    """Change a column of a template: new days are built beside the old ones, then the views are exchanged."""

    of_templates: ClassVar[bool] = True

    template: Identifier = Field(description="Name of the template, as in _wh.mv_templates")
    tenants: tuple[str, ...] = Field(
        default=("*",),
        min_length=1,
        description="Schemas of the tenants, with * and ? as wildcards; the others keep what they have",
    )
    strategy: Literal["build_beside", "rebuild_in_place"] = Field(
        default="build_beside",
        description="Build new days beside the old ones while everybody reads, or in their place, which nobody can "
        "read until it is done",
    )
    canary: tuple[str, ...] = Field(
        default=(), description="Schemas whose days are built, and checked, before those of the others"
    )
    source_down: Literal["stop", "skip", "roll_back"] = Field(
        default="roll_back",
        description="When a tenant's source fails: stop until it is back, skip the tenant and report it, or roll back",
    )
    skip_at_most: int = Field(default=1, ge=0, description="How many tenants may be skipped; one more rolls back")
    source_pause_s: float = Field(
        default=0, ge=0, le=60, description="Rest behind each day that a tenant's source is asked for, in seconds"
    )

    @abstractmethod
    def reshape(self, template: Template, catalog: Catalog, context: PlanContext) -> Reshaped:
        """Return what becomes of the template and its yearly tables. Raises PlanError."""

    @abstractmethod
    def lacks(self, tenant: Tenant, template: Template) -> bool:
        """Tell whether a tenant has the old shape still, where the template itself has the new one."""

    @property
    @abstractmethod
    def changed(self) -> str:
        """Return the name of the column."""

    @property
    def removed(self) -> str | None:
        """Return the name of the column when nobody can read it afterwards."""
        return None

    def plan(self, catalog: Catalog, context: PlanContext) -> Planned:
        """Return the steps: build beside in waves, exchange the views, retire what is old in contract."""
        template = self._template(catalog)
        waves = self.waves(template)
        chosen = {schema for wave in waves for schema in wave}
        years = tuple(t for t in template.years if t.schema in chosen)
        if template.own is not None:
            return self._by_own_functions(catalog, context, template, template.own, waves)
        if self.strategy == "rebuild_in_place":
            return self._in_place(catalog, context, template, waves)
        _refuse_users(catalog, template, self.removed)
        shaped = self.reshape(replace(template, years=years), _without_views(catalog, template, years), context)
        change = Beside(
            old=template,
            new=shaped.new,
            column=self.changed,
            waves=waves,
            fallback=shaped.fallback,
            history_from=shaped.history_from,
            source_down=self.source_down,
            skip_at_most=self.skip_at_most,
            source_pause_s=self.source_pause_s,
            old_year_columns=shaped.old_year_columns,
            new_year_columns=shaped.new_year_columns,
        )
        of_years = tuple(step for part in shaped.years for step in part.steps)
        steps = (
            beside.begin(change),
            *(s for s in of_years if s.phase in (Phase.EXPAND, Phase.BACKFILL)),
            *beside.build(change),
            *(s for s in of_years if s.phase is Phase.CUTOVER),
            *beside.switch(change),
            beside.let_go(change),
            *(s for s in of_years if s.phase is Phase.CONTRACT),
            *shaped.last,
            *beside.retire(change),
        )
        return Planned(
            catalog=catalog,
            steps=steps,
            expectations=(*(e for part in shaped.years for e in part.expectations), *beside.expectations(change)),
            data_checks=tuple(c for part in shaped.years for c in part.data_checks),
            written=years,
            read=beside.CONFIGURATION,
            # What readers see is new with the exchange of the views.
            filled=frozenset({(template.view, "")}),
            data_migration=any(part.data_migration for part in shaped.years),
            notices=(*self._notices(template, waves), *shaped.notices),
            touched=(template.view,),
            retired=tuple(kept for part in shaped.years for kept in part.retired),
            readings=tuple(readings(template, shaped.new)),
            tallies=tuple(self.tallies(change)),
        )

    def _in_place(
        self, catalog: Catalog, context: PlanContext, template: Template, waves: tuple[tuple[str, ...], ...]
    ) -> Planned:
        """Return the steps of a rebuild in place, which leaves no tenant out."""
        _refuse_left_out(template, waves)
        if self.source_down == "skip":
            raise PlanError(
                "source_down: skip: a rebuild in place is of the days of every tenant", hint="source_down: stop"
            )
        _refuse_users(catalog, template, self.removed)
        shaped = self.reshape(replace(template, years=()), catalog, context)
        new = shaped.new
        change = Beside(
            old=template,
            new=new,
            column=self.changed,
            waves=waves,
            fallback=shaped.fallback,
            source_down=self.source_down,
            source_pause_s=self.source_pause_s,
        )
        return Planned(
            catalog=catalog,
            steps=tuple(reconstruction.steps(change, self.column_change())),
            expectations=beside.expectations(change),
            written=template.years,
            read=beside.CONFIGURATION,
            filled=frozenset({(template.view, "")}),
            data_migration=True,
            notices=(
                f"nobody can read {template.view} and the tenants' views from migrate until cutover is over",
                f"{counted(template.days, 'daily view')} are put aside, and built anew; a rollback asks no source",
                "until contract the days are there twice, so they need twice the disk space",
            ),
            touched=(template.view,),
            readings=tuple(readings(template, new)),
            tallies=tuple(self.tallies(change)),
        )

    def _by_own_functions(
        self, catalog: Catalog, context: PlanContext, template: Template, own: Own, waves: tuple[tuple[str, ...], ...]
    ) -> Planned:
        """Return the steps of a rebuild in place by the functions that the warehouse has instead of the toolkit."""
        if self.strategy != "rebuild_in_place":
            raise PlanError(
                "this warehouse has functions of its own, which cannot build days beside those that are read",
                hint="strategy: rebuild_in_place calls them; nobody can read the template until it is done",
            )
        column = self.column_change()
        if column.kind != "add":
            raise PlanError(
                f"the functions of this warehouse add columns; none of them can {column.kind} one",
                hint="the toolkit can: schema-change warehouse install, in a warehouse without functions of its own",
            )
        if self.source_down != "roll_back" or self.source_pause_s:
            raise PlanError(
                "the functions of this warehouse ask the sources in their own way: a failure rolls back",
                hint="leave out source_down and source_pause_s",
            )
        _refuse_left_out(template, waves)
        _refuse_users(catalog, template, self.removed, views_too=True)
        shaped = self.reshape(replace(template, years=()), catalog, context)
        change = Beside(template, shaped.new, self.changed, waves, fallback=shaped.fallback)
        return Planned(
            catalog=catalog,
            steps=own_functions.steps(catalog, own, change, column),
            expectations=beside.expectations(change),
            written=template.years,
            # Not tenant_connections: in such a warehouse it has passwords.
            read=(Table("_wh", "mv_templates"),),
            filled=frozenset({(template.view, "")}),
            data_migration=True,
            notices=tuple(_notices_of_own(template, own)),
            touched=(template.view,),
            readings=tuple(readings(template, shaped.new)),
            tallies=(beside.distribution(change),),
        )

    def tallies(self, change: Beside) -> Iterator[Tally]:
        """Yield what the report counts: how the column is distributed, unless it is gone."""
        if self.removed is None:
            yield beside.distribution(change)

    @abstractmethod
    def column_change(self) -> ColumnChange:
        """Return what a rebuild in place does to the column of yearly tables."""

    def _template(self, catalog: Catalog) -> Template:
        known = catalog.templates
        if known is None:
            raise PlanError(
                "this database has no toolkit of the warehouse, nor functions of its own in schema _wh",
                hint="schema-change warehouse install, as a superuser",
            )
        if self.template not in known:
            raise PlanError(f"there is no template {self.template}", hint="see _wh.mv_templates")
        template = known[self.template]
        if template.changing is not None:
            raise PlanError(
                f"{template.changing} of template {template.name} is being changed by another run",
                hint="wait until it has ended: schema-change status; a dead one: schema-change reconcile",
            )
        return template

    def waves(self, template: Template) -> tuple[tuple[str, ...], ...]:
        """Return the schemas of each wave. Raises PlanError when a pattern fits nothing, or nothing is left to do."""
        schemas = [t.schema for t in template.tenants if self.lacks(t, template)]
        for pattern in (*self.tenants, *self.canary):
            if not any(fnmatchcase(t.schema, pattern) for t in template.tenants):
                known = ", ".join(t.schema for t in template.tenants)
                raise PlanError(f"no tenant of template {template.name} is called {pattern}", hint=f"known: {known}")
        wanted = [s for s in schemas if any(fnmatchcase(s, p) for p in self.tenants)]
        if not wanted:
            raise PlanError(
                f"nothing is left to do for {self.changed}: {', '.join(self.tenants)} has the new shape already",
                hint=f"the columns of template {template.name} are {', '.join(name for name, _ in template.columns)}",
            )
        first = tuple(s for s in wanted if any(fnmatchcase(s, p) for p in self.canary))
        rest = tuple(s for s in wanted if s not in first)
        return tuple(wave for wave in (first, rest) if wave)

    def _notices(self, template: Template, waves: tuple[tuple[str, ...], ...]) -> Iterator[str]:
        chosen = sum(map(len, waves))
        yield (
            f"{chosen} of {counted(len(template.tenants), 'tenant')}, {counted(template.days, 'daily view')} and "
            f"{counted(len(template.years), 'yearly table')} with about {counted(template.rows, 'row')}"
        )
        if left := sorted({t.schema for t in template.tenants} - {s for wave in waves for s in wave}):
            yield f"as they are, and adapted in public.{template.name}: {', '.join(left)}"
        yield "until contract the days are there twice, so they need twice the disk space"


def _without_views(catalog: Catalog, template: Template, years: tuple[Table, ...]) -> Catalog:
    """Return the catalog as if the template's own views read nothing: they are exchanged, not changed."""
    views = {shown(Table(tenant.schema, template.name)) for tenant in template.tenants} | {shown(template.view)}
    for relation in filter(None, map(catalog.get, years)):
        uses = tuple(u for u in relation.uses if not (u.kind == "view" and u.name in views))
        others = tuple(d for d in relation.dependants if d.removeprefix("view ") not in views)
        catalog = catalog.with_relation(replace(relation, uses=uses, dependants=others))
    return catalog


def _refuse_left_out(template: Template, waves: tuple[tuple[str, ...], ...]) -> None:
    if left := sorted({t.schema for t in template.tenants} - {s for wave in waves for s in wave}):
        raise PlanError(
            f"a rebuild in place is of every tenant, and {', '.join(left)} would be left out",
            hint="leave out tenants:, or strategy: build_beside",
        )


def _notices_of_own(template: Template, own: Own) -> Iterator[str]:
    yield "the warehouse's own functions are called: " + ", ".join(f"_wh.{name}" for name in sorted(own.names.values()))
    yield f"nobody can read {template.view} and the tenants' views from migrate until cutover is over"
    yield (
        f"{counted(template.days, 'daily view')} are dropped, and made from the sources, also by a rollback; stop the "
        "jobs that refresh them meanwhile"
    )
    if own.shows_passwords:
        yield "the definitions of daily views have passwords in them, and so has every dump, this change's backup too"


def _refuse_users(catalog: Catalog, template: Template, removed: str | None, *, views_too: bool = False) -> None:
    """Raise PlanError for what others made on the template's views and the exchange cannot make anew: all but views."""
    views = [template.view, *(Table(tenant.schema, template.name) for tenant in template.tenants)]
    ours = set(map(shown, views))
    found: set[str] = set()
    # Views of views are reached through those that they are made of.
    for table in views:
        for use in relation.uses if (relation := catalog.get(table)) is not None else ():
            is_others = shown(table) in ours and use.name not in ours
            if use.kind != "view" or (is_others and (views_too or removed in use.columns)):
                found.add(f"{use} (made of {table})")
            elif use.name not in ours and (upon := Table.parse(use.name)) not in views:
                views.append(upon)
    if found:
        raise PlanError(
            f"the views of template {template.name} cannot be exchanged under {', '.join(sorted(found))}",
            hint="drop it first, and make it again afterwards",
        )
