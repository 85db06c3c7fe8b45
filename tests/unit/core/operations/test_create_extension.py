from __future__ import annotations

from typing import Any

import pytest

from schema_change.core.catalog.model import Catalog
from schema_change.core.errors import PlanError
from schema_change.core.model import Phase
from schema_change.core.operations.base import PlanContext, Planned
from schema_change.core.operations.create_extension import CreateExtension

CATALOG = Catalog(180000, {}, {'schema "My Schema"': "owner: o"}, ("plpgsql 1.0",))


def plan(**keys: Any) -> Planned:
    return CreateExtension.model_validate(keys).plan(CATALOG, PlanContext("1"))


def test_it_is_installed_and_taken_away_by_the_undo() -> None:
    planned = plan(name="uuid-ossp", into="My Schema", version="1.1")
    (step,) = planned.steps
    assert step.statements[-1] == 'CREATE EXTENSION "uuid-ossp" SCHEMA "My Schema" VERSION \'1.1\''
    assert step.undo == ('DROP EXTENSION IF EXISTS "uuid-ossp"',)
    assert (step.phase, planned.whole) == (Phase.EXPAND, True)
    assert [check.name.split(" extension")[0] for check in planned.data_checks] == [
        "the server has no",
        "our role may not install",
        "extension uuid-ossp would make a schema, which a rollback leaves behind",
    ]


def test_one_that_is_there_is_left_alone() -> None:
    planned = plan(name="plpgsql")
    assert (planned.steps, planned.data_checks) == ((), ())
    assert "nothing to install" in planned.notices[0]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"name": "citext", "into": "nope"}, "no schema nope"),
        ({"name": "plpgsql", "version": "2.0"}, "not version 2.0"),
    ],
)
def test_what_does_not_fit_is_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=message) as refused:
        plan(**keys)
    assert refused.value.hint
