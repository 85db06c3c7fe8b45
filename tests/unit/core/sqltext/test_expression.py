from __future__ import annotations

import pytest

from schema_change.core.names import Table
from schema_change.core.sqltext.expression import index_keys, normalise_type, parse_expression, parse_predicate
from schema_change.core.sqltext.grammar import SqlError


def test_an_expression_names_what_it_reads() -> None:
    read = parse_expression(
        "(SELECT count(*) FROM hourly_observations h JOIN meta.station s ON s.id = h.station_id WHERE h.v < t.limit_v)"
    )
    assert read.tables == (Table("public", "hourly_observations"), Table("meta", "station"))
    assert read.columns == ("id", "station_id", "v", "limit_v")
    assert read.functions == ("count",)
    assert not read.volatile_hint


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a + 1 -- the comment of an author", "a + 1"),
        ("a /* x */ + 1", "a   + 1"),
        ("'--' || a", "'--' || a"),
        ("(SELECT max(x) FROM obs)", "(SELECT max(x) FROM public.obs)"),
        ("(SELECT 'é€𝒳' || max(x) FROM obs, \"Übung\")", "(SELECT 'é€𝒳' || max(x) FROM public.obs, public.\"Übung\")"),
        (
            "(WITH w AS (SELECT 1 AS x FROM w) SELECT x FROM w)",
            "(WITH w AS (SELECT 1 AS x FROM public.w) SELECT x FROM w)",
        ),
        ("(WITH RECURSIVE w AS (SELECT 1 UNION SELECT * FROM w) SELECT 1 FROM w)",) * 2,
    ],
)
def test_its_text_has_no_comments_and_qualified_tables(text: str, expected: str) -> None:
    assert parse_expression(text).text == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   -- nothing",
        "a, b",
        "a) , (b",
        "a) + (b",
        "1) FROM t WHERE (true",
        "a FROM t",
        "a AS b",
        "DISTINCT a",
        "*",
        "a; DROP TABLE t",
        "1 UNION SELECT 2",
        "a /* never closed",
        "'never closed",
        "DEFAULT",
        "$1",
        "(WITH d AS (DELETE FROM t RETURNING 1) SELECT * FROM d)",
        "(SELECT a FROM t FOR UPDATE)",
        "(SELECT a FROM other.public.t)",
        "count(*)",
        "sum(x) OVER ()",
        "string_agg(a, ',')",
        "nextval('s')",
        "pg_catalog.pg_terminate_backend(1)",
        "PG_SLEEP(1)",
        "\"pg_read_file\"('x')",
        "set_config('a', 'b', false)",
        "lo_import('x')",
        "public.dblink_exec('x')",
        "query_to_xml('DELETE FROM t', true, true, '')",
        "(SELECT f(x) FROM pg_ls_dir('.') AS x)",
    ],
)
def test_what_is_not_one_harmless_expression_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expression"):
        parse_expression(text)


def test_an_error_says_where_also_behind_multi_byte_text() -> None:
    with pytest.raises(SqlError, match=r'at or near "foo" \(character 8 of') as caught:
        parse_expression("'éé' 𝒳 foo bar")
    assert caught.value.hint


@pytest.mark.parametrize(
    ("text", "volatile"),
    [
        ("random()", True),
        ("public.f(a)", True),
        ("now()", False),
        ("lower(a)", False),
        ("uuid_generate_v4()", True),
        ("uuid_generate_v5(a, b)", False),
    ],
)
def test_volatility(text: str, volatile: bool) -> None:
    assert parse_expression(text).volatile_hint is volatile


def test_a_predicate_is_about_the_row_alone() -> None:
    assert parse_predicate("deleted_at IS NULL -- alive").text == "deleted_at IS NULL"
    for text in ("a IN (SELECT 1)", "random() < 1", "a IS NULL) WHERE (true", "a > 0; SELECT 1"):
        with pytest.raises(ValueError, match="condition"):
            parse_predicate(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("int", "integer"),
        ("INT8", "bigint"),
        ("double  precision", "double precision"),
        ("numeric(10, 2)", "numeric(10,2)"),
        ("decimal(10)", "numeric(10,0)"),
        ("timestamptz(3)", "timestamp(3) with time zone"),
        ("timestamp", "timestamp without time zone"),
        ("varchar(10)[]", "character varying(10)[]"),
        ("char", "character(1)"),
        ('"char"', '"char"'),
        ("json", "json"),
        ("text array", "text[]"),
        ("interval day to second(3)", "interval day to second(3)"),
        ('public."Mood"', 'public."Mood"'),
        ("geometry(Point, 4326)", "geometry(point,4326)"),
        ("bit varying(3) -- flags", "bit varying(3)"),
    ],
)
def test_a_type_is_spelled_as_the_catalog_spells_it(text: str, expected: str) -> None:
    assert normalise_type(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "int NOT NULL",
        "int) , (x",
        "int), CAST(1 AS int",
        "int) + CAST(NULL AS int",
        "text; DROP TABLE t",
        "int /*",
        "serial",
    ],
)
def test_what_is_not_one_type_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="type"):
        normalise_type(text)


def test_index_keys() -> None:
    keys = index_keys(["station_id", "lower(name)", "(a+b) DESC", '"Name" text_pattern_ops desc nulls last'])
    assert [k.text for k in keys] == [
        "station_id",
        "lower(name)",
        "(a + b) DESC",
        '"Name" text_pattern_ops DESC NULLS LAST',
    ]
    assert [k.column for k in keys] == ["station_id", None, None, "Name"]
    assert keys[2].columns == ("a", "b")


@pytest.mark.parametrize(
    "item", ["", "a, b", "a) INCLUDE (b", "a) WHERE (x > 0", "a + b", "random()", "a) WITH (fillfactor=10", "a -- b\n)"]
)
def test_what_is_not_one_index_key_is_refused(item: str) -> None:
    with pytest.raises(ValueError, match="index key"):
        index_keys([item])


@pytest.mark.parametrize(
    "text", ["twice + 1", "g.twice", "public.g.twice", "to_jsonb(g)", "to_jsonb(g.*)", "(g).twice"]
)
def test_what_may_read_a_column_of_its_row_is_known(text: str) -> None:
    assert parse_expression(text).may_read("g", "twice")


@pytest.mark.parametrize("text", ["a + 1", "g.a", "(SELECT max(other.twice) FROM other)", "(SELECT count(*) FROM h)"])
def test_a_column_of_another_table_is_not_one_of_the_row(text: str) -> None:
    assert not parse_expression(text).may_read("g", "twice")
