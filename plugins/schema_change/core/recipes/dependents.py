"""What is made of a column, captured and made anew: views, materialized views, triggers, policies, statistics.

Views are dropped in the reverse order of their dependence and created again with owner, options, grants, comments,
column defaults, triggers, rules and indexes. What cannot be had back exactly is a problem, which the plan refuses.
"""

from __future__ import annotations

import re

from pglast.parser import scan
from psycopg import sql

from schema_change.core import sqlfiles
from schema_change.core.catalog.model import OWN_PARTS, Catalog, Column, Relation, Trigger, Use
from schema_change.core.names import Table, hashed_name
from schema_change.core.recipes import analyze, raw, text
from schema_change.core.recipes.carried import Carried, Swap, alter
from schema_change.core.sqltext import grammar

_VIEWS = {"v": "VIEW", "m": "MATERIALIZED VIEW"}
_SMALL_BYTES = 32 << 20
_TARGET = re.compile(r"(?P<definition>.*?)(?: target (?P<target>\d+))?", re.DOTALL)
_ENABLED = {"D": "DISABLE", "R": "ENABLE REPLICA", "A": "ENABLE ALWAYS"}


def shown(table: Table) -> str:
    """Return a relation's name as the catalog shows it in what uses it."""
    return f"{grammar.identifier(table.schema)}.{grammar.identifier(table.name)}"


def of_column(swap: Swap, *, statistics: bool = True) -> Carried:
    """Return what is to be done for everything made of the column that is no index and no constraint.

    A change of the type in place keeps extended statistics, so it does without them.
    """
    relation, column = swap.relation, swap.column
    found = Carried(problems=problems(swap.catalog, relation, column))
    for use in relation.users_of(column):
        if use.kind == "policy" and column in use.columns:
            found += _policy(swap.catalog, use)
    for trigger in relation.triggers:
        if trigger.name in relation.parts_of(column, "trigger"):
            found += _trigger(relation.table, trigger)
    for definition in relation.statistics if statistics else ():
        name = next((n for n in relation.parts_of(column, "statistics") if f" {n} " in definition), None)
        if name is not None:
            found += _statistics(relation, name, definition)
    return found + views(swap.catalog, relation, column)


def problems(catalog: Catalog, relation: Relation, column: str) -> tuple[str, ...]:
    """Return what is made of a column and cannot be made anew."""
    found = [f"rule {name}" for name in sorted(relation.parts_of(column, "rule"))]
    known = {"view", "materialized view", "policy", "foreign key"}
    for use in relation.users_of(column):
        if use.kind == "publication":
            # The list of columns, or a row filter behind the table: PostgreSQL does not tell what that is made of.
            definition = catalog.objects.get(str(use), "").partition("\n")[0].partition(shown(relation.table))[2]
            if use.columns or re.search(rf"(?<!\w){re.escape(column)}(?!\w)", definition):
                found.append(f"{use} (its column list or row filter)")
        elif use.kind not in known and column in use.columns:
            found.append(str(use))
    return tuple(found)


def views(catalog: Catalog, relation: Relation, column: str) -> Carried:
    """Return what is to be done for the views of a column, and those made of them."""
    by_name = {shown(r.table): r for r in catalog.around(relation.table)}
    ordered: dict[Table, Relation] = {}
    found: list[str] = []

    def visit(view: Relation) -> None:
        if view.table in ordered:
            return
        for use in view.uses:
            if use.kind in {"view", "materialized view"} and use.name in by_name:
                visit(by_name[use.name])
            elif use.kind not in OWN_PARTS:
                found.append(f"{use}, made of {_VIEWS[view.kind].lower()} {view.table}")
        found.extend(_unfit(view))
        ordered[view.table] = view

    for use in relation.users_of(column):
        if use.kind in {"view", "materialized view"} and column in use.columns and use.name in by_name:
            visit(by_name[use.name])
    drops = tuple(text(sql.SQL("DROP {} {}").format(raw(_VIEWS[v.kind]), t.identifier)) for t, v in ordered.items())
    creates = tuple(s for v in reversed(ordered.values()) for s in create_view(v))
    return Carried(
        before=drops,
        after=creates,
        undo_before=drops,
        undo_after=creates,
        touched=tuple(ordered),
        problems=tuple(found),
    )


def _unfit(view: Relation) -> list[str]:
    found = []
    if not view.owner:
        found.append(f"view {view.table} (made by this change before; create it behind this operation)")
    if view.kind == "m" and view.bytes > _SMALL_BYTES:
        found.append(f"materialized view {view.table} (too large to be filled again within the swap)")
    found += [f"rule of view {view.table}: {rule}" for rule in view.rules if not rule.endswith(";")]
    return found


def create_view(view: Relation) -> tuple[str, ...]:
    """Return the statements that create a view, or a materialized view with its rows, exactly as it was."""
    kind, name = raw(_VIEWS[view.kind]), view.table.identifier
    options = raw(f" WITH ({', '.join(map(_option, view.options))})" if view.options else "")
    query = raw((view.definition or "").strip().rstrip(";"))
    statements = [
        text(sql.SQL("CREATE {} {}{} AS {}").format(kind, name, options, query)),
        text(sql.SQL("ALTER {} {} OWNER TO {}").format(kind, name, sql.Identifier(view.owner))),
        grants(view.table, view.grants),
    ]
    if view.comment is not None:
        statements.append(text(sql.SQL("COMMENT ON {} {} IS {}").format(kind, name, sql.Literal(view.comment))))
    for column in view.columns:
        if column.default is not None:
            default = sql.SQL("ALTER VIEW {} ALTER COLUMN {} SET DEFAULT {}")
            statements.append(text(default.format(name, sql.Identifier(column.name), raw(column.default))))
        statements += dress(view.table, column, options=column.options)
    for index in view.indexes:
        statements.append(index.definition)
        if index.comment is not None:
            of_index = Table(view.table.schema, index.name).identifier
            comment = sql.SQL("COMMENT ON INDEX {} IS {}").format(of_index, sql.Literal(index.comment))
            statements.append(text(comment))
        if index.clustered:
            statements.append(alter(view.table, "CLUSTER ON {}", index.name))
    statements += [s for definition in view.statistics for s in _create_statistics(view, definition)]
    if view.kind == "m":
        statements.append(analyze(view.table))
    statements += [*view.rules, *(s for trigger in view.triggers for s in create_trigger(view.table, trigger))]
    return tuple(statements)


def _option(option: str) -> str:
    name, _, value = option.partition("=")
    return f"{grammar.identifier(name)}={text(sql.Literal(value))}"


def grants(table: Table, items: tuple[str, ...]) -> str:
    """Return the statement that gives a relation exactly these privileges, as aclitems."""
    body = sqlfiles.block("queries/dual_write", "restore_grants").format(
        relation=sql.Literal(table.quoted), grants=sql.Literal(list(items))
    )
    return text(sql.SQL("DO {}").format(sql.Literal(text(body))))


def dress(table: Table, column: Column, *, options: tuple[str, ...] = ()) -> list[str]:
    """Return the statements that give a column its comment, its own privileges and what differs from its type's."""
    name = sql.Identifier(column.name)
    statements = []
    if column.comment is not None:
        comment = sql.SQL("COMMENT ON COLUMN {}.{} IS {}")
        statements.append(text(comment.format(table.identifier, name, sql.Literal(column.comment))))
    if column.grants:
        body = sqlfiles.block("queries/dual_write", "restore_column_grants").format(
            relation=sql.Literal(table.quoted), column=sql.Literal(column.name), grants=sql.Literal(list(column.grants))
        )
        statements.append(text(sql.SQL("DO {}").format(sql.Literal(text(body)))))
    return statements + [_column_option(table, column.name, option) for option in options]


_STORAGE = {"p": "PLAIN", "e": "EXTERNAL", "m": "MAIN", "x": "EXTENDED"}
_COMPRESSION = {"p": "pglz", "l": "lz4"}


def _column_option(table: Table, column: str, option: str) -> str:
    name, _, value = option.partition("=")
    if name == "storage":
        return alter(table, f"ALTER COLUMN {{}} SET STORAGE {_STORAGE[value]}", column)
    if name == "compression":
        return alter(table, f"ALTER COLUMN {{}} SET COMPRESSION {_COMPRESSION[value]}", column)
    if name == "statistics":
        return alter(table, f"ALTER COLUMN {{}} SET STATISTICS {int(value)}", column)
    return alter(table, f"ALTER COLUMN {{}} SET ({_option(option)})", column)


def create_trigger(table: Table, trigger: Trigger, definition: str | None = None) -> tuple[str, ...]:
    """Return the statements that create a trigger as it was, perhaps with another definition."""
    statements = [definition or trigger.definition]
    if trigger.enabled in _ENABLED:
        statements.append(alter(table, f"{_ENABLED[trigger.enabled]} TRIGGER {{}}", trigger.name))
    if trigger.comment is not None:
        comment = sql.SQL("COMMENT ON TRIGGER {} ON {} IS {}")
        values = sql.Identifier(trigger.name), table.identifier, sql.Literal(trigger.comment)
        statements.append(text(comment.format(*values)))
    return tuple(statements)


def drop_trigger(table: Table, trigger: Trigger) -> str:
    """Return the statement that drops a trigger."""
    return text(sql.SQL("DROP TRIGGER {} ON {}").format(sql.Identifier(trigger.name), table.identifier))


def _trigger(table: Table, trigger: Trigger) -> Carried:
    drop, create = (drop_trigger(table, trigger),), create_trigger(table, trigger)
    return Carried(before=drop, after=create, undo_before=drop, undo_after=create)


def _policy(catalog: Catalog, use: Use) -> Carried:
    """Return what is to be done for a policy: its conditions are read anew, where names mean other columns.

    Meanwhile they are made of nothing, so that a type can be changed in place, too.
    """
    name, _, owner = use.name.rpartition(" on ")
    relation = next((r for r in catalog.relations.values() if shown(r.table) == owner), None)
    definition = next((p for p in relation.policies if p.startswith(f"{name} ")), None) if relation else None
    if relation is None or definition is None:
        return Carried(problems=(str(use),))
    rest = definition.removeprefix(name)
    node = grammar.parse(f"CREATE POLICY {name} ON t AS {rest}")[0].stmt
    parts = [" USING (true)" if node.qual else "", " WITH CHECK (true)" if node.with_check else ""]
    start = next(t.start for t in scan(rest) if t.name in {"USING", "WITH"})
    head = sql.SQL("ALTER POLICY {} ON {}").format(raw(name), relation.table.identifier)
    open_ = text(sql.SQL("{}{}").format(head, raw("".join(parts))))
    back = text(sql.SQL("{} {}").format(head, raw(rest[start:])))
    return Carried(
        before=(open_,),
        after=(back,),
        undo_before=(open_,),
        undo_after=(back,),
        tables=(relation.table,),
        touched=(relation.table,),
    )


def _statistics(relation: Relation, name: str, definition: str) -> Carried:
    """Return what is to be done for extended statistics: the old ones stay, under a name of ours, until contract."""
    schema, plain = (part.sval for part in grammar.parse(definition)[0].stmt.defnames)
    old = hashed_name("schema_change_old", schema, plain)

    def rename(one: str, another: str) -> str:
        head = sql.SQL("ALTER STATISTICS {} RENAME TO {}")
        return text(head.format(sql.Identifier(schema, one), sql.Identifier(another)))

    def drop(what: str) -> str:
        return text(sql.SQL("DROP STATISTICS IF EXISTS {}").format(sql.Identifier(schema, what)))

    return Carried(
        before=(rename(plain, old),),
        after=_create_statistics(relation, definition),
        undo_before=(drop(plain), rename(old, plain)),
        contract=(drop(old),),
    )


def _create_statistics(relation: Relation, definition: str) -> tuple[str, ...]:
    match = _TARGET.fullmatch(definition)
    plain, target = (match["definition"], match["target"]) if match else (definition, None)
    name = sql.Identifier(*(part.sval for part in grammar.parse(plain)[0].stmt.defnames))
    statements = [plain, text(sql.SQL("ALTER STATISTICS {} OWNER TO {}").format(name, sql.Identifier(relation.owner)))]
    if target is not None:
        statements.append(text(sql.SQL("ALTER STATISTICS {} SET STATISTICS {}").format(name, raw(target))))
    return tuple(statements)
