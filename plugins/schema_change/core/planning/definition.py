"""A relation's definition as a person would write it, from the catalog alone: for reading and comparing.

Owner and grants are left out; what the catalog only describes (policies, statistics) is said in comments.
"""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql

from schema_change.core.catalog.model import Column, Constraint, Index, Relation
from schema_change.core.names import Table
from schema_change.core.sqltext.grammar import identifier

_VIEWS = {"v": "VIEW", "m": "MATERIALIZED VIEW"}
_IDENTITY = {"a": "ALWAYS", "d": "BY DEFAULT"}
_GENERATED = {"s": "STORED", "v": "VIRTUAL"}


def definition(relation: Relation) -> str:
    """Return the statements that make a relation like this one, each on lines of its own."""
    create = _view(relation) if relation.kind in _VIEWS else _table(relation)
    return "\n".join([create, *_indexes(relation), *_others(relation), *_comments(relation)])


def name_of(table: Table) -> str:
    """Return ``schema.name``, each part quoted only where PostgreSQL demands it."""
    return f"{identifier(table.schema)}.{identifier(table.name)}"


def _view(relation: Relation) -> str:
    options = f" WITH ({', '.join(relation.options)})" if relation.options else ""
    body = (relation.definition or "").strip().rstrip(";")
    return f"CREATE {_VIEWS[relation.kind]} {name_of(relation.table)}{options} AS\n{body};"


def _table(relation: Relation) -> str:
    head = f"CREATE {_word(relation)} {name_of(relation.table)}"
    if relation.partition_of is not None:
        head += f" PARTITION OF {name_of(relation.partition_of)} {relation.partition_bound}"
    else:
        constraints = [_constraint(c) for c in relation.constraints if c.validated]
        items = [*map(_column, relation.columns), *constraints]
        head += " (\n" + ",\n".join(f"    {item}" for item in items) + "\n)"
    if relation.inherits:
        head += f" INHERITS ({', '.join(map(name_of, relation.inherits))})"
    if relation.partition_key:
        head += f" PARTITION BY {relation.partition_key}"
    if relation.kind == "f":
        # Options may hold what is nobody's business.
        server = next((o.removeprefix("server=") for o in relation.options if o.startswith("server=")), "")
        head += f" SERVER {identifier(server)}"
    elif relation.options:
        head += f" WITH ({', '.join(relation.options)})"
    return f"{head};"


def _word(relation: Relation) -> str:
    if relation.kind == "f":
        return "FOREIGN TABLE"
    return "UNLOGGED TABLE" if relation.persistence == "u" else "TABLE"


def _column(column: Column) -> str:
    parts = [identifier(column.name), column.type]
    if column.collation:
        parts.append(f"COLLATE {column.collation}")
    if column.generated:
        parts.append(f"GENERATED ALWAYS AS ({column.default}) {_GENERATED[column.generated]}")
    elif column.identity:
        parts.append(f"GENERATED {_IDENTITY[column.identity]} AS IDENTITY")
    elif column.default is not None:
        parts.append(f"DEFAULT {column.default}")
    if not column.nullable:
        parts.append("NOT NULL")
    return " ".join(parts)


def _constraint(constraint: Constraint) -> str:
    return f"CONSTRAINT {identifier(constraint.name)} {constraint.definition}"


def _indexes(relation: Relation) -> Iterator[str]:
    """Yield the indexes that no constraint brings."""
    own = {c.name for c in relation.constraints if c.type in {"p", "u", "x"}}
    for index in relation.indexes:
        if index.name not in own:
            yield f"{index.definition};" + ("" if index.valid else " -- not valid")


def _others(relation: Relation) -> Iterator[str]:
    alter = f"ALTER TABLE {name_of(relation.table)}"
    for constraint in relation.constraints:
        if not constraint.validated:
            yield f"{alter} ADD {_constraint(constraint)};"
    for trigger in relation.triggers:
        yield f"{trigger.definition};"
        if trigger.enabled == "D":
            yield f"{alter} DISABLE TRIGGER {identifier(trigger.name)};"
    yield from relation.rules
    if relation.row_security:
        yield f"{alter} ENABLE ROW LEVEL SECURITY;"
    if relation.force_row_security:
        yield f"{alter} FORCE ROW LEVEL SECURITY;"
    if relation.replica_identity and relation.kind not in _VIEWS:
        how = relation.replica_identity.removeprefix("index ")
        indexed = how != relation.replica_identity
        yield f"{alter} REPLICA IDENTITY {f'USING INDEX {identifier(how)}' if indexed else how.upper()};"
    for kind, texts in (("policy", relation.policies), ("statistics", relation.statistics)):
        yield from (f"-- {kind}: {' '.join(text.split())}" for text in texts)


def _comments(relation: Relation) -> Iterator[str]:
    name = name_of(relation.table)
    kind = _VIEWS.get(relation.kind, "FOREIGN TABLE" if relation.kind == "f" else "TABLE")
    found: list[tuple[str, Relation | Column | Constraint | Index]] = [(f"{kind} {name}", relation)]
    found += [(f"COLUMN {name}.{identifier(c.name)}", c) for c in relation.columns]
    found += [(f"CONSTRAINT {identifier(c.name)} ON {name}", c) for c in relation.constraints]
    found += [(f"INDEX {name_of(Table(relation.table.schema, i.name))}", i) for i in relation.indexes]
    for what, thing in found:
        if thing.comment is not None:
            yield f"COMMENT ON {what} IS {sql.Literal(thing.comment).as_string(None).strip()};"
