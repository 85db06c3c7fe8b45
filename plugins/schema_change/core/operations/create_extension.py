"""``create_extension``: install an extension in this database; a rollback removes it again."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from psycopg import sql
from pydantic import Field

from schema_change.core import sqlfiles
from schema_change.core.catalog.model import Catalog
from schema_change.core.errors import PlanError
from schema_change.core.fields import Identifier
from schema_change.core.model import DataCheck, LockMode, Phase, Step
from schema_change.core.operations.base import Operation, PlanContext, Planned
from schema_change.core.recipes import probe, text
from schema_change.core.sqltext.grammar import identifier


class CreateExtension(Operation):
    """Install an extension."""

    kind: ClassVar[str] = "create_extension"

    name: Identifier = Field(description="Extension, such as pg_trgm")
    into: Identifier | None = Field(default=None, description="Schema of its objects; public, or its own, by default")
    version: Identifier | None = Field(default=None, description="Version; the server's default one when left out")

    def plan(self, catalog: Catalog, context: PlanContext) -> Planned:
        """Return one step; none when the extension is there."""
        if installed := self._installed(catalog):
            return Planned(catalog, (), notices=(f"extension {installed} is there already; nothing to install",))
        if self.into is not None and f"schema {identifier(self.into)}" not in catalog.objects:
            raise PlanError(f"there is no schema {self.into}", hint="create it first, or leave out into:")
        parts = [sql.SQL("CREATE EXTENSION {}").format(sql.Identifier(self.name))]
        if self.into is not None:
            parts.append(sql.SQL("SCHEMA {}").format(sql.Identifier(self.into)))
        if self.version is not None:
            parts.append(sql.SQL("VERSION {}").format(sql.Literal(self.version)))
        step = Step(
            phase=Phase.EXPAND,
            title=f"install extension {self.name}",
            tables=(),
            # An extension without a schema of its own goes into the first one of the path.
            statements=("SET LOCAL search_path TO public", text(sql.SQL(" ").join(parts))),
            lock=LockMode.NONE,
            probe=probe("extension_exists", extension=self.name),
            undo=(text(sql.SQL("DROP EXTENSION IF EXISTS {}").format(sql.Identifier(self.name))),),
        )
        return Planned(
            catalog=replace(catalog, extensions=(*catalog.extensions, f"{self.name} {self.version or ''}")),
            steps=(step,),
            data_checks=self._checks(),
            whole=True,
        )

    def _installed(self, catalog: Catalog) -> str | None:
        for extension in catalog.extensions:
            name, _, version = extension.rpartition(" ")
            if name == self.name:
                if self.version not in {None, version}:
                    raise PlanError(
                        f"extension {extension} is there, not version {self.version}",
                        hint=f"ALTER EXTENSION {identifier(self.name)} UPDATE, in a raw change",
                    )
                return extension
        return None

    def _checks(self) -> tuple[DataCheck, ...]:
        names = {"name": sql.Literal(self.name), "version": sql.Literal(self.version)}

        def filled(block: str) -> str:
            return text(sqlfiles.block("queries/recipes", block).format(**names))

        return (
            DataCheck(
                name=f"the server has no extension {self.name} to install",
                count=filled("extension_missing"),
                sample=filled("extension_alike"),
                remedy="install its package on the server, or correct the name or the version",
            ),
            DataCheck(
                name=f"our role may not install extension {self.name}",
                count=filled("extension_forbidden"),
                sample=filled("who_we_are"),
                remedy="let a superuser install it; for a trusted one CREATE on the database is enough",
            ),
            DataCheck(
                name=f"extension {self.name} would make a schema, which a rollback leaves behind",
                count=text(
                    sql.SQL("SELECT count(*) FROM ({}) AS s").format(sql.SQL(filled("extension_brings_schema")))
                ),
                sample=filled("extension_brings_schema"),
                remedy="create the schema first, in a change of its own",
            ),
        )
