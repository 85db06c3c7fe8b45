from __future__ import annotations

import pytest

from schema_change.core.catalog.model import Catalog, Relation, Use
from schema_change.core.names import Table
from schema_change.core.planning.impact import StatementUse, _matching, _reached, parse_normalised

BIG = Table("public", "big")
VIEW = Table("public", "v")
VIEW_OF_VIEW = Table("other", "w")
CATALOG = Catalog(
    180000,
    {
        BIG: Relation(BIG, "r", "o", uses=(Use("view", "public.v", ("n",)), Use("index", "big_pkey", ("id",)))),
        VIEW: Relation(VIEW, "v", "o", uses=(Use("materialized view", "other.w"),)),
        VIEW_OF_VIEW: Relation(VIEW_OF_VIEW, "m", "o"),
    },
)
COLUMNS = {BIG: frozenset({"n"})}


def _found(*texts: str) -> list[StatementUse]:
    rows = [(text, 3, 1.5) for text in texts]
    return list(_matching(rows, _reached(CATALOG, COLUMNS), COLUMNS, 0).uses)


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("SELECT n FROM big WHERE id = $1", ("n",)),
        ("SELECT b.n FROM public.big AS b", ("n",)),
        ("SELECT * FROM big", ("*",)),
        ("SELECT b.* FROM big b JOIN other o ON o.id = b.id", ("*",)),
        ("SELECT count(*) FROM big", ()),
        ("SELECT id FROM big", ()),
        ("SELECT o.n FROM big b JOIN other o ON o.id = b.id", ()),
        ("UPDATE big SET n = $1 WHERE id = $2", ("n",)),
        ("INSERT INTO big (id, n) VALUES ($1, $2)", ("n",)),
        ("INSERT INTO big (id) VALUES ($1) ON CONFLICT (id) DO UPDATE SET n = $2", ("n",)),
        ("INSERT INTO big VALUES ($1, $2)", ("*",)),
        ("COPY big (id, n) TO STDOUT", ("n",)),
        ("DELETE FROM big WHERE n < $1", ("n",)),
        ("WITH x AS (SELECT n FROM big) SELECT * FROM x", ("n", "*")),
    ],
)
def test_a_statement_is_found_with_the_columns_it_takes(text: str, columns: tuple[str, ...]) -> None:
    [use] = _found(text)
    assert use.columns == columns
    assert (use.calls, use.mean_ms, use.through) == (3, 1.5, None)


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 'big'",
        "SELECT big FROM other",
        "SELECT * FROM other.big",
        "SELECT * FROM bigger",
        "WITH big AS (SELECT 1) SELECT * FROM big",
        "CREATE INDEX ON big (n)",
        "VACUUM big",
    ],
)
def test_a_name_alone_is_no_use(text: str) -> None:
    assert _found(text) == []


def test_views_lead_to_the_relation() -> None:
    use, other = _found("SELECT x FROM v", "SELECT * FROM other.w")
    assert (use.through, use.columns) == (VIEW, ("n",)), "its columns are the view's, which is made of ours"
    assert (other.through, other.columns) == (VIEW_OF_VIEW, ("n",))
    [use] = _matching([("SELECT * FROM v", 1, 1.0)], _reached(CATALOG, {BIG: {"id"}}), {BIG}, 0).uses
    assert (use.through, use.columns) == (VIEW, ()), "the view is not made of the changed column"


def test_what_names_a_changed_column_comes_first() -> None:
    assert [use.text for use in _found("SELECT id\n FROM big", "SELECT n FROM big")] == [
        "SELECT n FROM big",
        "SELECT id FROM big",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "SELECT interval $1, $2 FROM big",
        "SELECT extract($1 FROM n) FROM big",
        "SELECT n::numeric($1, $2) FROM big WHERE n IN ($3 /*, ... */)",
        "SELECT n FROM big LIMIT $1",
    ],
)
def test_normalised_constants_are_no_obstacle(text: str) -> None:
    assert parse_normalised(text) is not None
    assert len(_found(text)) == 1


def test_what_cannot_be_read_is_counted() -> None:
    statements = _matching([("SELEC big", 1, 1.0)], _reached(CATALOG, COLUMNS), COLUMNS, 4)
    assert statements.uses == ()
    assert statements.notes == (
        "not shown: 4 statements of other users; grant pg_read_all_stats to see them",
        "not shown: 1 statement with the name in it that could not be parsed",
    )


def test_no_value_of_anybody_is_shown() -> None:
    [use] = _found("COPY (SELECT n FROM big WHERE id = 'secret') TO STDOUT")
    assert use.text == "COPY (SELECT n FROM big WHERE id = '…') TO STDOUT"
