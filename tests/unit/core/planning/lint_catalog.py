"""The database that unsafe statements are linted against: tables with rows, empty ones, partitions, dependants."""

from __future__ import annotations

from schema_change.core.catalog.model import Catalog, Column, Constraint, Index, Relation, Use
from schema_change.core.names import Table


def _index(table: str, name: str, columns: str, *, unique: bool = False, valid: bool = True) -> Index:
    made = f"CREATE {'UNIQUE ' if unique else ''}INDEX {name} ON public.{table} USING btree ({columns})"
    return Index(name, made, tuple(columns.split(", ")), unique=unique, primary=name.endswith("_pkey"), valid=valid)


def _check(name: str, text: str, *columns: str, validated: bool = True) -> Constraint:
    return Constraint(name, "c", f"CHECK ({text})", columns, validated=validated)


def _key(name: str, column: str, to: str) -> Constraint:
    text = f"FOREIGN KEY ({column}) REFERENCES public.{to}(id)"
    return Constraint(name, "f", text, (column,), references=Table("public", to))


_ID = Column("id", "bigint", nullable=False)
_DAY = Column("day", "date", nullable=False)
_BIG = Relation(
    Table("public", "big"),
    "r",
    "owner",
    columns=(
        _ID,
        Column("n", "integer"),
        Column("s", "character varying(10)"),
        Column("checked", "character varying(10)"),
        Column("price", "numeric(10,2)"),
        Column("state", "text", nullable=False, default="'new'::text"),
        Column("parent_id", "bigint"),
        Column("proven", "bigint"),
        Column("free", "bigint"),
    ),
    constraints=(
        _check("checked_check", "checked <> ''", "checked"),
        _check("proven_check", "(proven IS NOT NULL) AND (proven > 0)", "proven"),
        _check("either_check", "(free IS NOT NULL) OR (n IS NOT NULL)", "free", "n"),
        _check("unproven_check", "parent_id IS NOT NULL", "parent_id", validated=False),
        _key("big_parent", "parent_id", "parent"),
    ),
    indexes=(
        _index("big", "big_pkey", "id", unique=True),
        _index("big", "half", "n", valid=False),
        _index("big", "big_n", "n"),
        _index("big", "big_free", "free", unique=True),
        _index("big", "big_state", "state", unique=True),
    ),
    dependants=("foreign key child_big of public.child", "view public.report"),
    uses=(
        Use("foreign key", "child_big of public.child", ("id",)),
        Use("index", "big_n", ("n",)),
        Use("view", "public.report", ("n",)),
    ),
    rows=1_000_000,
)


def _table(name: str, *columns: Column, **more: object) -> Relation:
    return Relation(Table("public", name), "r", "owner", columns=(_ID, *columns), **more)  # type: ignore[arg-type]


_PARTED, _OPEN = Table("public", "parted"), Table("public", "open")
_BOUND = "FOR VALUES FROM ('2023-01-01') TO ('2024-01-01')"
_RANGE = "((day >= '2024-01-01'::date) AND (day < '2025-01-01'::date))"
_PARTED_PKEY = _index("parted", "parted_pkey", "id, day", unique=True)
_FIT_PKEY = _index("fits", "fits_pkey", "id, day", unique=True)
_RELATIONS = (
    _BIG,
    _table("empty", Column("n", "integer")),
    _table("parent", rows=10),
    _table("child", Column("big_id", "bigint"), rows=10, constraints=(_key("child_big", "big_id", "big"),)),
    _table("leaf", Column("parent_id", "bigint"), constraints=(_key("leaf_parent", "parent_id", "parent"),)),
    _table("people", Column("mail", "public.email"), rows=10),
    _table(
        "sent",
        Column("n", "integer"),
        rows=10,
        dependants=("publication feed",),
        uses=(Use("publication", "feed"),),
    ),
    Relation(_PARTED, "p", "owner", columns=(_ID, _DAY), partition_key="RANGE (day)", indexes=(_PARTED_PKEY,)),
    _table("parted_2023", _DAY, rows=10, partition_of=_PARTED, partition_bound=_BOUND),
    Relation(_OPEN, "p", "owner", columns=(_ID, _DAY), partition_key="RANGE (day)"),
    _table("open_rest", _DAY, rows=10, partition_of=_OPEN, partition_bound="DEFAULT"),
    _table("loose", _DAY, rows=10, indexes=(_FIT_PKEY,)),
    _table("fits", _DAY, rows=10, constraints=(_check("fits_day", _RANGE, "day"),), indexes=(_FIT_PKEY,)),
    _table("bare", _DAY, rows=10, constraints=(_check("bare_day", _RANGE, "day"),)),
    Relation(Table("public", "report"), "v", "owner"),
    Relation(Table("public", "top"), "m", "owner", rows=10, indexes=(_index("top", "top_id", "id", unique=True),)),
    Relation(Table("public", "slow"), "m", "owner", rows=10),
)


def catalog_of(version: int = 180000) -> Catalog:
    objects = {"domain public.email": "text email_check CHECK ((VALUE ~ '@'::text))\nowner: owner"}
    return Catalog(version, {r.table: r for r in _RELATIONS}, objects)
