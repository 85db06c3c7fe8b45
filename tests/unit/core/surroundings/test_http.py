"""Requests against a real web server; Prometheus is played by its documented answers here."""

from __future__ import annotations

import logging
import re
from typing import Any

import pytest

from schema_change.core.errors import ConfigurationError
from schema_change.core.surroundings import http
from schema_change.core.surroundings.http import call
from schema_change.core.surroundings.models import HttpCall, PrometheusCheck, Surroundings
from schema_change.core.surroundings.prometheus import ask
from schema_change.core.surroundings.watch import bad, call_until_good, look_around
from tests.web import Web

OK = {"status": "ok", "rows": 3}
SCHEMA = {"type": "object", "required": ["status"], "properties": {"rows": {"minimum": 1}}}


def request(url: str, **more: Any) -> HttpCall:
    return HttpCall.model_validate({"url": url, **more})


@pytest.mark.parametrize(
    ("answer", "more", "expected"),
    [
        ((200, OK), {}, None),
        ((204, ""), {}, None),
        ((200, OK), {"status": 200, "json_schema": SCHEMA, "latency_ms": 10_000}, None),
        ((301, "moved"), {"status": 301}, None),
        ((500, "boom"), {}, "500 in .* but expected any 2xx: boom"),
        ((301, "moved"), {}, "301 in .* but expected any 2xx"),
        ((200, OK), {"status": 503}, "200 in .* but expected 503"),
        ((200, {"rows": 3}), {"json_schema": SCHEMA}, r"\$ does not fit: 'status' is a required property"),
        ((200, {**OK, "rows": 0}), {"json_schema": SCHEMA}, r"\$\.rows does not fit: 0 is less than"),
        ((200, "<html>"), {"json_schema": SCHEMA}, "expected JSON: <html>"),
        ((200, OK), {"latency_ms": 1}, "expected an answer within 1 ms"),
    ],
)
def test_an_answer_is_as_expected_or_says_what_is_not(
    web: Web, answer: tuple[int, Any], more: dict[str, Any], expected: str | None
) -> None:
    web.answers["/health"] = answer
    web.delay_s = 0.02 if more.get("latency_ms") == 1 else 0
    found = call(request(f"{web.url}/health", **more))
    assert found.ok is (expected is None)
    assert re.search(expected or "^20[0-9]|^301", found.message), found.message


def test_nobody_there_is_no_answer() -> None:
    found = call(request("http://127.0.0.1:1/health"))
    assert not found.ok
    assert found.message.startswith("no answer: ")


def test_secrets_come_from_the_environment_and_are_in_no_message(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_TOKEN", "t0psecret")
    web.answers["/deploy"] = (500, "no: t0psecret is not valid")
    headers = {"Authorization": "Bearer ${API_TOKEN}"}
    found = call(request(f"{web.url}/deploy", method="POST", headers=headers, json={"tag": "v2"}))
    method, _, sent, body = web.asked[0]
    assert (method, sent["Authorization"], body) == ("POST", "Bearer t0psecret", '{"tag":"v2"}')
    assert "no: *** is not valid" in found.message
    monkeypatch.delenv("API_TOKEN")
    with pytest.raises(ConfigurationError, match="API_TOKEN is not set"):
        call(request(f"{web.url}/deploy", headers=headers))


def test_a_secret_in_a_url_or_cut_in_half_is_told_nowhere(
    web: Web, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    secret = "t0psecret-" + "x" * 300
    monkeypatch.setenv("API_TOKEN", secret)
    web.answers["/hook"] = (500, f"you sent {secret}")
    with caplog.at_level(logging.INFO):
        found = call(request(f"{web.url}/hook?token=${{API_TOKEN}}"))
        ask(PrometheusCheck.model_validate({"url": f"{web.url}/${{API_TOKEN}}", "query": "up", "max": 1}))
    assert len(web.asked) == 2
    assert "t0psecret" not in found.message + caplog.text


def test_an_answer_that_does_not_end_is_given_up(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    web.answers["/drip"] = (200, "x" * 40)
    web.pause_s = 0.05
    found = call(request(f"{web.url}/drip", timeout_s=0.2))
    assert (found.ok, found.message) == (False, "no answer: the answer was not complete after 0.2 s")
    monkeypatch.setattr(http, "_MAX_BYTES", 10)
    web.pause_s = 0
    assert "more than" in call(request(f"{web.url}/drip")).message


def test_it_keeps_asking_while_it_may(web: Web) -> None:
    web.answers["/slow"] = [(503, "starting"), (200, OK)]
    assert call_until_good(request(f"{web.url}/slow", within_s=30), lambda: True).ok
    assert len(web.asked) == 2
    web.answers["/never"] = (503, "starting")
    assert not call_until_good(request(f"{web.url}/never", within_s=30), lambda: False).ok
    assert not call_until_good(request(f"{web.url}/never"), lambda: True).ok


def vector(*values: str) -> dict[str, Any]:
    result = [{"metric": {"__name__": "up", "job": f"j{n}"}, "value": [1, value]} for n, value in enumerate(values)]
    return {"status": "success", "data": {"resultType": "vector", "result": result}}


@pytest.mark.parametrize(
    ("answer", "bounds", "expected"),
    [
        ((200, vector("0.2")), {"max": 0.5}, None),
        ((200, vector("1", "1")), {"min": 1, "max": 1}, None),
        ((200, {"status": "success", "data": {"resultType": "scalar", "result": [1, "3"]}}), {"max": 3}, None),
        ((200, vector("0.2", "0.7")), {"max": 0.5}, "job=j1 0.7; expected at most 0.5"),
        ((200, vector("0")), {"min": 1}, "job=j0 0; expected at least 1"),
        ((200, vector("NaN")), {"max": 1}, "job=j0 nan; expected"),
        ((200, vector()), {"max": 1}, "or vector"),
        ((400, {"status": "error", "error": "parse error"}), {"max": 1}, "refused: parse error"),
        ((200, "<html>"), {"max": 1}, "no answer that Prometheus would give"),
        ((200, {"status": "success", "data": {"resultType": "matrix", "result": []}}), {"max": 1}, "no answer that"),
    ],
)
def test_every_value_is_within_its_bounds(
    web: Web, answer: tuple[int, Any], bounds: dict[str, float], expected: str | None
) -> None:
    web.answers["/api/v1/query"] = answer
    found = ask(PrometheusCheck.model_validate({"url": f"{web.url}/", "query": "up + 1", **bounds}))
    assert (found.ok, web.asked[0][1]) == (expected is None, "/api/v1/query?query=up+%2B+1")
    assert expected is None or expected in found.message


def test_a_look_names_what_is_bad(web: Web) -> None:
    web.answers |= {"/health": (500, "boom"), "/api/v1/query": (200, vector("9"))}
    around = Surroundings.model_validate(
        {"health": [{"url": f"{web.url}/health"}], "prometheus": [{"url": web.url, "query": "errors", "max": 1}]}
    )
    health, errors = map(str, bad(look_around(around, patient=False)))
    assert health.startswith(f"health GET {web.url}/health: 500")
    assert errors == "prometheus errors: job=j0 9; expected at most 1"
