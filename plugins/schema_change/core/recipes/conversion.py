"""What is known of type changes: which lose nothing, which rewrite nothing, and which values do not fit."""

from __future__ import annotations

import re
from dataclasses import dataclass

from psycopg import sql

from schema_change.core.recipes import raw, text

_TYPE = re.compile(
    r"(?P<name>[a-z][a-z ]*?)(?:\((?P<modifiers>[\d,-]+)\))?(?P<rest> with(?:out)? time zone)?(?P<array>\[\])?"
)

_INTEGERS = {"smallint": 2**15, "integer": 2**31, "bigint": 2**63}
_FLOATS = {"real", "double precision"}
_TEXTS = {"text", "character varying"}
_NO_LIMIT = 10**9
#: Types of which a value of any length is stored, possibly compressed or elsewhere.
_VARYING = _TEXTS | {"character", "bytea", "json", "jsonb", "xml", "numeric", "bit", "bit varying"}
#: Digits of the largest value of an integer type.
_DIGITS = {"smallint": 5, "integer": 10, "bigint": 19}
#: Types whose values another type holds exactly.
_EXACT = {
    "real": {"smallint"},
    "double precision": {"smallint", "integer", "real"},
    "timestamp without time zone": {"date"},
}


@dataclass(frozen=True, slots=True)
class Type:
    """A type in format_type()'s spelling, in its parts; ``name`` is empty for one that is not PostgreSQL's own."""

    name: str
    modifiers: tuple[int, ...] = ()

    @classmethod
    def parse(cls, spelled: str) -> Type:
        """Read format_type()'s text; arrays and other people's types have no parts."""
        match = _TYPE.fullmatch(spelled)
        if match is None or match["array"]:
            return cls("")
        modifiers = tuple(map(int, match["modifiers"].split(","))) if match["modifiers"] else ()
        return cls(match["name"] + (match["rest"] or ""), modifiers)

    @property
    def limit(self) -> int:
        """Return the length, or the precision, that is the first modifier; very large when there is none."""
        return self.modifiers[0] if self.modifiers else _NO_LIMIT

    @property
    def is_varying(self) -> bool:
        """Tell whether SET STORAGE and SET COMPRESSION mean something for it."""
        return self.name in _VARYING

    @property
    def has_collation(self) -> bool:
        """Tell whether a column of it has a collation."""
        return self.name in _TEXTS | {"character"}


def rewrites_nothing(old: str, new: str) -> bool:
    """Tell whether PostgreSQL changes the type without looking at a row: every old value is stored the same."""
    a, b = Type.parse(old), Type.parse(new)
    if not a.name or not b.name:
        return False
    if a.name in _TEXTS and b.name in _TEXTS:
        return b.limit >= a.limit
    if a.name != b.name:
        return False
    if a.name == "numeric":
        return not b.modifiers or (bool(a.modifiers) and b.limit >= a.limit and a.modifiers[1:] == b.modifiers[1:])
    if a.name == "bit varying" or a.name.startswith(("timestamp", "time ")):
        return b.limit >= a.limit
    return False


def loses_nothing(old: str, new: str) -> bool:
    """Tell whether every old value has a new one that an assignment turns into the old value again."""
    a, b = Type.parse(old), Type.parse(new)
    if old == new or rewrites_nothing(old, new):
        return True
    if a.name in _INTEGERS:
        if b.name in _INTEGERS:
            return _INTEGERS[b.name] > _INTEGERS[a.name]
        if b.name == "numeric":
            return not b.modifiers or b.limit - b.modifiers[1] >= _DIGITS[a.name]
    if a.name == b.name == "numeric" and a.modifiers and b.modifiers:
        return b.limit - b.modifiers[1] >= a.limit - a.modifiers[1] and b.modifiers[1] >= a.modifiers[1]
    return a.name in _EXACT.get(b.name, ())


def assignment(new: str) -> str:
    """Return the cast behind which an assignment to the type is right: none, or text where a cast would cut values."""
    found = Type.parse(new)
    return "text" if found.modifiers and found.name in {"character varying", "character"} else new


def too_long(value: str, new: str) -> str | None:
    """Return the condition that a value is longer than the type allows, which a cast would cut; None for others."""
    limited = Type.parse(new)
    if not limited.modifiers or limited.name not in {"character varying", "character"}:
        return None
    return text(sql.SQL("length(({})::text) > {}").format(raw(value), sql.Literal(limited.limit)))


def misfit(column: str, old: str, new: str, server_version: int) -> str | None:
    """Return the condition of the values that the new type cannot hold; None when all fit or nobody can tell."""
    a, b = Type.parse(old), Type.parse(new)
    value = sql.Identifier(column)
    if loses_nothing(old, new):
        return None
    if longer := too_long(text(value), new):
        return longer
    if a.name in _TEXTS | {"character"}:
        return _unreadable(value, new, b, server_version)
    if a.name in _INTEGERS.keys() | _FLOATS | {"numeric"}:
        return _out_of_range(value, a, b)
    return None


def rounds(old: str, new: str) -> bool:
    """Tell whether a value that changes on the way there and back has lost something: both are numbers, or times."""
    numbers, times = _INTEGERS.keys() | _FLOATS | {"numeric"}, ("timestamp", "date", "time ")
    a, b = Type.parse(old).name, Type.parse(new).name
    if loses_nothing(old, new):
        return False
    return (a in numbers and b in numbers) or (a.startswith(times) and b.startswith(times))


def may_reference(referencing: str, referenced: str) -> bool:
    """Tell whether a foreign key may go from a column of one type to one of another."""
    a, b = Type.parse(referencing).name, Type.parse(referenced).name
    if referencing == referenced or not a or not b:
        return referencing == referenced
    ordered = ("smallint", "integer", "bigint", "numeric", "real", "double precision")
    if a in _INTEGERS and b in _INTEGERS:
        return True
    if a in ordered and b in ordered:
        return ordered.index(a) <= ordered.index(b)
    return a == b or (a in _TEXTS | {"character"} and b in _TEXTS | {"character"})


def _unreadable(value: sql.Composable, new: str, b: Type, server_version: int) -> str | None:
    if server_version >= 160000:
        return text(sql.SQL("NOT pg_input_is_valid({}::text, {})").format(value, sql.Literal(new)))
    if b.name in _INTEGERS or (b.name == "numeric" and not b.modifiers):
        number = "[0-9]+" if b.name in _INTEGERS else "([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][-+]?[0-9]{1,3})?"
        limits = _between(sql.SQL("{}::numeric").format(value), b)
        return text(
            sql.SQL("CASE WHEN {} ~ {} THEN NOT ({}) ELSE {} IS NOT NULL END").format(
                value, sql.Literal(rf"^\s*[-+]?{number}\s*$"), limits, value
            )
        )
    if b.name == "uuid":
        pattern = "^[{]?[0-9a-fA-F]{8}(-?[0-9a-fA-F]{4}){3}-?[0-9a-fA-F]{12}[}]?$"
        return text(sql.SQL("{} !~ {}").format(value, sql.Literal(pattern)))
    if b.name == "boolean":
        words = r"^\s*(t|tr|tru|true|f|fa|fal|fals|false|y|ye|yes|n|no|on|of|off|1|0)\s*$"
        return text(sql.SQL("{} !~* {}").format(value, sql.Literal(words)))
    return None


def _between(value: sql.Composable, b: Type) -> sql.Composable:
    if b.name not in _INTEGERS:
        return sql.SQL("true")
    bound = _INTEGERS[b.name]
    return sql.SQL("{} BETWEEN {} AND {}").format(value, raw(str(-bound)), raw(str(bound - 1)))


def _out_of_range(value: sql.Composable, a: Type, b: Type) -> str | None:
    number = value if a.name == "numeric" else sql.SQL("{}::numeric").format(value)
    if b.name in _INTEGERS:
        return text(
            sql.SQL("NOT (round({}) BETWEEN {} AND {})").format(
                number, raw(str(-_INTEGERS[b.name])), raw(str(_INTEGERS[b.name] - 1))
            )
        )
    if b.name == "numeric" and b.modifiers:
        precision, scale = b.modifiers[0], b.modifiers[1] if len(b.modifiers) > 1 else 0
        return text(
            sql.SQL("{0} <> 'NaN' AND abs(round({0}, {1})) >= {2}::numeric").format(
                number, raw(str(max(scale, 0))), sql.Literal(f"1e{precision - scale}")
            )
        )
    return None
