"""Send a request and judge its answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx
from jsonschema import Draft202012Validator

from schema_change.core.surroundings.environment import expanded, values_in, without_secrets
from schema_change.core.surroundings.models import HttpCall, PrometheusCheck

_SHOWN = 200


@dataclass(frozen=True, slots=True)
class Answer:
    """Whether an answer was as expected, and what it was."""

    ok: bool
    message: str


def call(request: HttpCall) -> Answer:
    """Send the request once. Raises ConfigurationError when a variable it names is not set."""
    url = expanded(request.url)
    headers = {name: expanded(value) for name, value in request.headers.items()}
    try:
        response = httpx.request(
            request.method, url, headers=headers, json=request.body, timeout=request.timeout_s, follow_redirects=False
        )
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return Answer(ok=False, message=safe(f"no answer: {error or type(error).__name__}", request))
    took_ms = response.elapsed.total_seconds() * 1000
    said = f"{response.status_code} in {took_ms:.0f} ms"
    problem = _problem(request, response, took_ms)
    return Answer(ok=problem is None, message=safe(f"{said}, but {problem}" if problem else said, request))


def safe(text: str, request: HttpCall | PrometheusCheck) -> str:
    """Return text without the values that a request took from the environment."""
    return without_secrets(text, values_in((request.url, *request.headers.values()))).replace("\0", "")


def _problem(request: HttpCall, response: httpx.Response, took_ms: float) -> str | None:
    if request.status is None and not response.is_success:
        return f"expected any 2xx: {response.text[:_SHOWN]}"
    if request.status is not None and response.status_code != request.status:
        return f"expected {request.status}: {response.text[:_SHOWN]}"
    if request.latency_ms is not None and took_ms > request.latency_ms:
        return f"expected an answer within {request.latency_ms} ms"
    return None if request.json_schema is None else _misfit(request.json_schema, response)


def _misfit(schema: dict[str, Any], response: httpx.Response) -> str | None:
    try:
        body = response.json()
    except ValueError:
        return f"expected JSON: {response.text[:_SHOWN]}"
    error = next(iter(Draft202012Validator(schema).iter_errors(body)), None)
    return None if error is None else f"{error.json_path} does not fit: {error.message[:_SHOWN]}"
