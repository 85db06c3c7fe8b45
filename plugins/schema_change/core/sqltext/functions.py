"""What is known of functions by name: which have side effects, which are volatile, which are aggregates.

A name without a schema is one of pg_catalog, or of schema public. A test compares these lists with pg_proc: every
volatile function of pg_catalog is either harmless or refused.
"""

from __future__ import annotations

import re

#: Volatile, but without any effect beside their value.
HARMLESS_VOLATILE = frozenset({"array_sample", "array_shuffle", "clock_timestamp", "current_query", "timeofday"}) | {
    "gen_random_uuid",
    "random",
    "random_normal",
    "uuidv4",
    "uuidv7",
}

# pg_… functions read files, signal sessions, move logs and slots; only these few are about values.
_PG_VALUES = (
    "typeof|column_size|column_compression|size_pretty|size_bytes|input_is_valid|input_error_info|collation_for"
)
_REFUSED = re.compile(
    rf"pg_(?!(?:{_PG_VALUES})$).*"
    r"|lo_.*|loread|lowrite|binary_upgrade_.*|brin_.*|gin_clean_.*|txid_.*|.*handler|plpgsql_.*|dsnowball_.*"
    r"|(?:query|cursor|table|schema|database)_to_xml.*"
    r"|nextval|setval|currval|lastval|setseed|set_config|system|bernoulli|currtid2|amvalidate|ts_stat|ts_rewrite"
)
_REFUSED_OF_EXTENSIONS = re.compile(r"dblink.*|lo_manage|http|http_(?:get|post|put|patch|delete|head)|aws_.*")

#: A name without a schema may be that of an extension in public, of which the catalog does not tell.
_VOLATILE_OF_EXTENSIONS = re.compile(
    r"uuid_generate_v(?:1mc|[1467])|gen_random_\w+|gen_salt|(?:gen|generate)_ulid|uuidv[147]|nanoid|normal_rand"
    r"|pgp_\w*encrypt\w*"
)

_AGGREGATE = re.compile(
    r"any_value|(?:array_|string_|xml|jsonb?_|jsonb?_object_|range_|range_intersect_)agg(?:_unique)?(?:_strict)?|avg|bit_(?:and|or|x?or)"
    r"|bool_(?:and|or)|count|every|max|min|mode|percentile_\w+|sum|(?:stddev|var|variance|covar|corr|regr)(?:_\w+)?"
)


def _last(name: str) -> str:
    return name.rsplit(".", 1)[-1].lower()


def is_refused(name: str) -> bool:
    """Tell whether a function is known to do more than return a value."""
    if "." not in name and _REFUSED.fullmatch(name):
        return True
    return _REFUSED_OF_EXTENSIONS.fullmatch(_last(name)) is not None


def may_be_volatile(name: str) -> bool:
    """Tell whether a function is volatile, or one of a user's schema, of which the text tells nothing."""
    return "." in name or name in HARMLESS_VOLATILE or _VOLATILE_OF_EXTENSIONS.fullmatch(name) is not None


def is_aggregate(name: str) -> bool:
    """Tell whether a function is an aggregate of pg_catalog."""
    return _AGGREGATE.fullmatch(name) is not None
