from __future__ import annotations

import pytest

from schema_change.core.changes.procedures import PROCEDURES
from schema_change.core.changes.spec import Change
from schema_change.core.errors import ConfigurationError
from schema_change.core.stages.request import Options
from schema_change.operators.request import WORDS, dag_run_of, refuse_unknown_words, source_of


def test_an_origin_is_read_back() -> None:
    assert dag_run_of(source_of("004_a", "manual__2026-01-01T00:00:00+00:00/x")) == (
        "004_a",
        "manual__2026-01-01T00:00:00+00:00/x",
    )


@pytest.mark.parametrize("source", ["cli:ann@host", "", "airflow:", "airflow:no-run"])
def test_what_did_not_come_from_airflow_has_no_dag_run(source: str) -> None:
    assert dag_run_of(source) is None


def test_every_option_is_a_word(change: Change) -> None:
    assert set(WORDS) == {*Options.model_fields, "conn_id"}
    refuse_unknown_words(change, dict.fromkeys(WORDS))
    refuse_unknown_words(change, None)


def test_a_procedure_has_words_of_its_own(change: Change) -> None:
    refuse_unknown_words(PROCEDURES["add_column"], {"conn_id": "x", "column": "c", "dry_run": True})
    with pytest.raises(ConfigurationError, match="unknown in the run's conf: column"):
        refuse_unknown_words(change, {"column": "c"})


def test_every_unknown_word_is_named_with_all_valid_ones(change: Change) -> None:
    with pytest.raises(ConfigurationError) as refused:
        refuse_unknown_words(change, {"xyzzy": 1, "abacus": 2})
    assert "abacus, xyzzy" in refused.value.message
    assert str(refused.value.hint).endswith(", ".join(WORDS))
