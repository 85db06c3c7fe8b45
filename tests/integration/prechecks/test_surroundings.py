from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from schema_change.core.surroundings.models import Surroundings
from tests.integration.prechecks.conftest import Ask, change
from tests.web import Web, serving

#: Nothing here differs between versions of PostgreSQL.
pytestmark = pytest.mark.parametrize("server", [18], indirect=True)


@pytest.fixture
def web() -> Iterator[Web]:
    with serving() as web:
        yield web


def around(**keys: Any) -> dict[str, Any]:
    return {"change": change(surroundings=Surroundings.model_validate(keys))}


def test_hooks_need_their_programs_and_variables(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ask("hooks").status == "skipped"
    there: dict[str, Any] = {"hooks": {"before_migrate": [{"run": ["sh", "-c", "true"], "env": ["PATH"]}]}}
    assert ask("hooks", **around(**there)).message == "1 program and 1 variable are here"
    monkeypatch.delenv("CI_TOKEN", raising=False)
    missing = {
        "hooks": {
            "after_rollback": [{"run": ["no-such-program"], "env": ["NOT_SET"]}],
            "after_restore": [{"http": {"url": "http://x", "headers": {"Authorization": "Bearer ${CI_TOKEN}"}}}],
        }
    }
    found = ask("hooks", **around(**missing))
    assert (found.status, found.message) == ("fail", "not here: no-such-program, $CI_TOKEN, $NOT_SET")


def test_health_before_the_change_is_shown(ask: Ask, web: Web) -> None:
    assert ask("health").status == "skipped"
    keys = {"health": [{"url": f"{web.url}/health"}]}
    web.answers["/health"] = (200, "well")
    assert ask("health", **around(**keys)).status == "pass"
    web.answers["/health"] = (503, "ill")
    found = ask("health", **around(**keys))
    assert found.status == "warn"
    assert "503" in found.message


def test_a_variable_that_is_not_set_is_a_bad_look_not_a_crash(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("API_HOST", raising=False)
    found = ask("health", **around(health=[{"url": "http://${API_HOST}/health"}]))
    assert (found.status, "API_HOST is not set" in found.message) == ("warn", True)


def test_a_throttle_whose_variable_is_not_set_is_one_failed_check(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("API_HOST", raising=False)
    prometheus = {"url": "http://${API_HOST}", "query": "load", "max": 1}
    found = ask("throttle", **around(throttle={"prometheus": prometheus}))
    assert (found.status, "API_HOST is not set" in found.message) == ("fail", True)
    assert found.remedy


def test_sentinels_must_run_before_the_change_already(ask: Ask) -> None:
    assert ask("sentinels").status == "skipped"
    good, bad = {"name": "v", "query": "SELECT v FROM t WHERE id = 5"}, {"name": "x", "query": "SELECT x FROM t"}
    assert ask("sentinels", **around(sentinels=[good])).status == "pass"
    found = ask("sentinels", **around(sentinels=[good, bad]))
    assert (found.status, found.message) == ("fail", 'x: column "x" does not exist')
