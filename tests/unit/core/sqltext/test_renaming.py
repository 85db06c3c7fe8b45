from __future__ import annotations

import pytest

from schema_change.core.errors import PlanError
from schema_change.core.sqltext import renaming

INDEX = (
    'CREATE UNIQUE INDEX "ï" ON public.t USING btree (lower(("Ç")::text) COLLATE "C" text_pattern_ops DESC NULLS LAST,'
    ' "Ç", d) INCLUDE ("Ç") NULLS NOT DISTINCT WITH (fillfactor=\'70\')'
    " WHERE ((\"Ç\" <> 'Ç'::text) AND (d IS NOT NULL))"
)


def test_an_index_is_copied_with_all_it_says() -> None:
    copied = renaming.index_copy(INDEX, "copy of it", "Ç", "new one")
    assert copied == (
        'CREATE UNIQUE INDEX CONCURRENTLY "copy of it" ON public.t ((lower(CAST("new one" AS text))) COLLATE "C" '
        'text_pattern_ops DESC NULLS LAST, "new one", d) INCLUDE ("new one") NULLS NOT DISTINCT WITH (fillfactor = '
        "'70') WHERE \"new one\" <> CAST('Ç' AS text) AND d IS NOT NULL"
    )


@pytest.mark.parametrize(
    ("definition", "mentions", "plain"),
    [
        ("CREATE INDEX i ON public.t USING btree (c)", True, True),
        ("CREATE INDEX c ON public.c USING gin (d) INCLUDE (c)", True, True),
        ("CREATE INDEX c ON public.c USING btree (d) WHERE (d = 'c'::text)", False, False),
        ("CREATE INDEX i ON public.t USING btree (((c + 1)))", True, False),
    ],
)
def test_what_an_index_is_made_of(definition: str, mentions: bool, plain: bool) -> None:
    assert (renaming.mentions(definition, "c"), renaming.is_plain(definition)) == (mentions, plain)


def test_a_check_is_copied() -> None:
    assert renaming.check_copy("CHECK (((c > 0) AND (d < c))) NO INHERIT NOT VALID", "c", "n") == (
        "CHECK (n > 0 AND d < n) NO INHERIT"
    )


def test_a_foreign_key_is_copied_on_either_side() -> None:
    definition = "FOREIGN KEY (a, c) REFERENCES public.p(c, a) ON DELETE SET NULL (c) DEFERRABLE INITIALLY DEFERRED"
    assert renaming.foreign_key_copy(definition, local=("c", "n")) == (
        "FOREIGN KEY (a, n) REFERENCES public.p (c, a) ON DELETE SET NULL (n) DEFERRABLE INITIALLY DEFERRED"
    )
    assert "(a, c) REFERENCES public.p (n, a)" in renaming.foreign_key_copy(definition, referenced=("c", "n"))
    assert renaming.referenced_columns(definition) == ("c", "a")


def test_a_trigger_fires_for_other_columns_and_under_one_more_condition() -> None:
    definition = (
        "CREATE TRIGGER x BEFORE UPDATE OF a, c ON public.t FOR EACH ROW WHEN ((old.c > new.c)) EXECUTE FUNCTION f()"
    )
    assert renaming.fires_on_update_of(definition, "c")
    copied = renaming.trigger_copy(definition, "c", ("c", "n"), only_if="x IS NULL")
    assert "UPDATE OF a, c, n ON" in copied
    assert "WHEN (x IS NULL AND old.c > new.c)" in copied
    assert "UPDATE OF a, n ON public.t FOR EACH ROW WHEN (old.n > new.n)" in renaming.trigger_copy(
        definition, "c", ("n",), new="n"
    )


def test_a_value_takes_a_columns_place() -> None:
    assert renaming.substituted("t.c * 2 + abs(c)", "t", "c", "7") == "7 * 2 + abs(7)"
    assert renaming.substituted("t.c * d", "t", "c", "7") is None
    assert renaming.substituted("(SELECT max(x) FROM public.o) + c", "t", "c", "7") is None


@pytest.mark.parametrize(
    ("default", "constant"),
    [("0", True), ("'a'::text", True), ("CURRENT_TIMESTAMP", True), ("now()", False), ("nextval('s')", False)],
)
def test_defaults_that_are_the_same_in_every_row(default: str, constant: bool) -> None:
    assert renaming.is_constant(default) == constant


def test_what_does_not_come_back_from_the_printer_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renaming, "RawStream", lambda: lambda tree: "SELECT 1")
    with pytest.raises(PlanError, match="cannot be carried over"):
        renaming.check_copy("CHECK ((c > 0))", "c", "n")
