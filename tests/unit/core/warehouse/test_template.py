"""A template's query is changed as text, so what is written in it must not be taken for something else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from pglast.stream import RawStream

from schema_change.core.errors import PlanError
from schema_change.core.names import Table
from schema_change.core.sqltext import grammar
from schema_change.core.warehouse.template import Template, Tenant

WHERE = "WHERE l.at >= '{TARGET_DATE} 00:00:00+00'::timestamptz"
COLUMNS = (("id", "bigint"), ("store", "text"), ("weight", "numeric(10,2)"))
INDEXES = """CREATE UNIQUE INDEX idx_{SCHEMA}_{VIEW_NAME}_id ON {SCHEMA}.{VIEW_NAME} (id);
CREATE INDEX idx_{SCHEMA}_{VIEW_NAME}_store ON {SCHEMA}.{VIEW_NAME} (store);"""


def template(items: str = "l.id, s.name AS store, l.weight", **changes: Any) -> Template:
    query = f"SELECT {items}\nFROM log l JOIN store s ON l.store_id = s.id\n{WHERE}"
    return replace(Template("sales", query, COLUMNS, INDEXES, key=("id",)), **changes)


def items(query: str) -> list[str]:
    """Return the select list as the grammar reads it, item by item."""
    select: Any = grammar.parse(query)[0].stmt
    return [RawStream()(target) for target in select.targetList]


def test_a_row_of_the_toolkit_is_read() -> None:
    views = [["bistro", {"id": "bigint"}, ["id"]], ["landb", {"id": "bigint"}, []]]
    row = ["sales", "SELECT 1", None, [["id", "bigint"]], views, [["landb", "sales_2025"]], 3, 12, ["id"], None]
    assert Template.from_row(row) == Template(
        "sales",
        "SELECT 1",
        (("id", "bigint"),),
        tenants=(Tenant("bistro", {"id": "bigint"}, ("id",)), Tenant("landb", {"id": "bigint"})),
        years=(Table("landb", "sales_2025"),),
        days=3,
        rows=12,
        key=("id",),
    )


def test_definitions_quote_what_must_be_quoted() -> None:
    odd = template(columns=(("id", "bigint"), ("order", "text"), ("Größe", "integer")))
    assert odd.definitions == 'id bigint,\n"order" text,\n"Größe" integer'


HARD = [
    pytest.param("l.id, s.name AS store, l.weight", id="plain"),
    pytest.param("l.id,\n    s.name store,\n    l.weight", id="alias without AS"),
    pytest.param("extract(epoch FROM l.at)::bigint AS id, s.name, l.weight", id="FROM in EXTRACT"),
    pytest.param("l.id, substring(s.name FROM 1 FOR 3) AS store, trim(both ' ' FROM l.w) AS weight", id="FROM in trim"),
    pytest.param(
        "l.id, (s.name IS DISTINCT FROM 'x')::text, l.a IS NOT DISTINCT FROM l.b AS weight", id="DISTINCT FROM"
    ),
    pytest.param("l.id, l.a IS DISTINCT /* no */ FROM l.b AS store, l.weight", id="a comment in DISTINCT FROM"),
    pytest.param("coalesce(l.id, 0, 1), concat(s.a, ', ', s.b) AS store, round(l.weight, 2)", id="commas in functions"),
    pytest.param("l.id, 'a, b FROM c, (d' AS store, E'it\\'s, \"x' AS weight", id="commas in literals"),
    pytest.param("l.id, $q$, FROM ;$q$ AS store, l.weight", id="dollar quotes"),
    pytest.param("l.id, 'Größe, Übermaß – FROM' AS store, l.weight", id="beyond ASCII"),
    pytest.param('l."größe, FROM", s."FROM" AS store, l."distinct"', id="quoted names"),
    pytest.param("l.id, -- the key, FROM the log\n s.name /* FROM, here */, l.weight -- the last, FROM", id="comments"),
    pytest.param("l.id, (ARRAY[1, 2])[1]::text AS store, (SELECT max(x) FROM w, v) AS weight", id="brackets"),
    pytest.param(
        "l.id, CASE WHEN l.a IN (1, 2) THEN 'x' END AS store, sum(l.w) OVER (PARTITION BY l.a, l.b)", id="CASE"
    ),
]


@pytest.mark.parametrize("selected", HARD)
def test_a_column_is_added_behind_the_last_one(selected: str) -> None:
    old = template(selected)
    new = old.with_column("category", "text", "l.category", index=False)
    assert items(new.query) == [*items(old.query), "l.category AS category"]
    assert new.columns == (*COLUMNS, ("category", "text"))
    assert new.query.endswith(WHERE)
    assert new.indexes == INDEXES


@pytest.mark.parametrize("selected", HARD)
@pytest.mark.parametrize("column", ["store", "weight"])
def test_a_column_is_removed_wherever_it_is(selected: str, column: str) -> None:
    old = template(selected)
    new = old.without_column(column)
    place = old.place_of(column)
    assert items(new.query) == [item for at, item in enumerate(items(old.query)) if at != place]
    assert [name for name, _ in new.columns] == [name for name, _ in COLUMNS if name != column]
    assert new.query.endswith(WHERE)


@pytest.mark.parametrize("selected", HARD)
@pytest.mark.parametrize("column", ["id", "store", "weight"])
def test_a_type_is_changed_where_the_column_is(selected: str, column: str) -> None:
    old = template(selected)
    new = old.with_type(column, "text", None)
    place = old.place_of(column)
    before, after = items(old.query), items(new.query)
    assert after[:place] + after[place + 1 :] == before[:place] + before[place + 1 :]
    assert after[place].endswith(f"AS text) AS {column}")
    assert dict(new.columns) == {**dict(COLUMNS), column: "text"}
    assert new.indexes == INDEXES
    # What the query's rows are called is still to be seen by the next change.
    assert "l.category AS category" in items(new.with_column("category", "text", "l.category", index=False).query)


def test_the_first_column_is_removed() -> None:
    assert items(template(key=()).without_column("id").query) == ["s.name AS store", "l.weight"]


def test_a_comment_stays_with_its_column() -> None:
    commented = template("l.id, -- the key\n    s.name, -- of the store\n    l.weight -- in kg")
    assert "l.id, -- the key\n    l.weight -- in kg" in commented.without_column("store").query
    assert "s.name -- of the store\nFROM" in commented.without_column("weight").query
    added = commented.with_column("category", "text", "l.category", index=False).query
    assert 'l.weight, -- in kg\n    (l.category) AS "category"\nFROM' in added


def test_using_is_over_the_columns_of_the_query() -> None:
    new = template().with_type("weight", "integer", "weight * 1000")
    assert items(new.query) == ["id", "store", "CAST(weight * 1000 AS integer) AS weight"]
    assert new.query.endswith(') AS "sales" ("id", "store", "weight")')
    again = new.with_type("store", "varchar(40)", None).without_column("weight")
    assert items(again.query) == ["id", "CAST(store AS varchar(40)) AS store"]


@pytest.mark.parametrize("end", [";", " ;\n-- that is all", "\n-- that is all"])
def test_a_query_may_end_as_people_end_them(end: str) -> None:
    ended = template(query=template().query + end)
    assert len(grammar.parse(ended.with_type("weight", "integer", "weight * 1000").query)) == 1
    assert len(grammar.parse(ended.with_column("category", "text", "l.category", index=False).query)) == 1


@pytest.mark.parametrize(
    "query",
    [
        "SELECT DISTINCT l.id, s.name, l.weight FROM log l, store s",
        "SELECT l.id, s.name, sum(l.weight) FROM log l, store s GROUP BY 1, 2",
        "SELECT l.id, s.name AS store, l.weight FROM log l, store s ORDER BY store",
    ],
)
def test_which_rows_there_are_does_not_change_with_a_column(query: str) -> None:
    grouped = template(query=query)
    removed = grouped.without_column("store")
    assert items(removed.query) == ["id", "weight"]
    assert query in removed.query
    assert query in grouped.with_type("store", "varchar(40)", None).query


def test_a_common_table_expression_is_not_the_query() -> None:
    query = "WITH l AS (SELECT id, weight, 'x' AS a FROM log), s AS (SELECT 1 AS id FROM store)\n"
    new = template(query=query + template().query).with_column("category", "text", "l.a", index=False)
    assert items(new.query) == [*items(template().query), "l.a AS category"]
    assert new.query.startswith(query)


def test_reserved_names_are_quoted() -> None:
    new = template().with_column("order", "text", "l.nr", index=True)
    assert items(new.query)[-1] == 'l.nr AS "order"'
    assert new.definitions.endswith('"order" text')
    assert new.indexes.endswith('idx_{SCHEMA}_{VIEW_NAME}_order ON {SCHEMA}.{VIEW_NAME} ("order");')
    assert new.indexes_on("order") == (new.indexes.splitlines()[-1].removesuffix(";"),)
    assert items(new.without_column("order").query) == items(template().query)


def test_indexes_of_other_columns_are_kept() -> None:
    more = INDEXES + (
        "\nCREATE INDEX i1_{SCHEMA}_{VIEW_NAME} ON {SCHEMA}.{VIEW_NAME} (weight) INCLUDE (store); -- both"
        "\nCREATE INDEX i2_{SCHEMA}_{VIEW_NAME} ON {SCHEMA}.{VIEW_NAME} (split_part(weight::text, ';', 1));"
        "\nCREATE INDEX i3_{SCHEMA}_{VIEW_NAME} ON {SCHEMA}.{VIEW_NAME} (id) WHERE store <> 'x'\n-- the end"
    )
    new = template(indexes=more).without_column("store")
    assert [line.split()[2 if "UNIQUE" not in line else 3] for line in new.indexes.splitlines()] == [
        "idx_{SCHEMA}_{VIEW_NAME}_id",
        "i2_{SCHEMA}_{VIEW_NAME}",
    ]
    assert new.indexes.count(";") == 3
    assert len(template(indexes=more).indexes_on("store")) == 3
    assert template(indexes=INDEXES.splitlines()[1]).without_column("store").indexes == ""


@pytest.mark.parametrize(
    ("indexes", "message"),
    [("CREATE INDEX ON {SCHEMA}.{VIEW_NAME} (", "syntax error"), ("DROP TABLE {VIEW_NAME}", "makes no index")],
)
def test_indexes_that_are_none_are_refused(indexes: str, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        template(indexes=indexes).without_column("store")


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("SELECT * FROM log", r"it selects \*"),
        ("SELECT l.id, s.*, l.weight FROM log l, store s", r"it selects \*"),
        ("SELECT id, a, b FROM x UNION ALL SELECT id, a, b FROM y", "no simple SELECT"),
        ("SELECT 1, 2, 3", "no simple SELECT"),
        ("VALUES (1, 2, 3)", "no simple SELECT"),
        ("SELECT id, store FROM log", "it selects 2 columns, and 3 are defined"),
        ("SELECT id, store, weight FROM log; SELECT 1", "not one SELECT"),
        ("DELETE FROM log", "not one SELECT"),
        ("SELECT id, store weight FORM log", "syntax error"),
    ],
)
def test_a_query_whose_columns_cannot_be_told_is_refused(query: str, why: str) -> None:
    unclear = template(query=query)
    changes: tuple[Callable[[], Template], ...] = (
        lambda: unclear.with_column("category", "text", "1", index=False),
        lambda: unclear.with_type("store", "integer", None),
        lambda: unclear.without_column("store"),
    )
    for change in changes:
        with pytest.raises(PlanError, match=f"the query of template sales cannot be changed: .*{why}") as refused:
            change()
        assert refused.value.hint


def test_columns_that_are_there_or_not() -> None:
    with pytest.raises(PlanError, match="already has a column store"):
        template().with_column("store", "text", "1", index=False)
    changes: tuple[Callable[[], Template], ...] = (
        lambda: template().without_column("shop"),
        lambda: template().with_type("shop", "text", None),
    )
    for change in changes:
        with pytest.raises(PlanError, match="has no column shop") as refused:
            change()
        assert "id, store, weight" in (refused.value.hint or "")


def test_what_tells_rows_apart_stays() -> None:
    with pytest.raises(PlanError, match="id is in the unique index"):
        template().without_column("id")
    with pytest.raises(PlanError, match="only column"):
        template(query="SELECT id FROM log", columns=(("id", "bigint"),)).without_column("id")
