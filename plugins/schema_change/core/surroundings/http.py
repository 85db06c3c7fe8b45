"""Send a request and judge its answer."""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from schema_change.core.surroundings.environment import expanded, values_in, without_secrets
from schema_change.core.surroundings.models import HttpCall, Metric

_SHOWN = 200
_MAX_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Answer:
    """Whether an answer was as expected, and what it was."""

    ok: bool
    message: str


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back: the status, the body, and how long it took to the end of it."""

    status: int
    text: str
    took_ms: float


class NoAnswer(Exception):
    """There was no answer to a request, or not all of it."""


def send(method: str, url: str, *, timeout_s: float, headers: Mapping[str, str], **more: Any) -> Reply:
    """Send one request and read its answer. Raises NoAnswer, also when the answer does not end in time."""
    import httpx  # noqa: PLC0415 - most changes call nobody, and it takes a while to import

    started = time.monotonic()
    body = bytearray()
    try:
        with _unlogged(), httpx.stream(method, url, headers=headers, timeout=timeout_s, **more) as response:
            # The time-out of httpx begins anew with every piece that comes.
            for piece in response.iter_bytes():
                body += piece
                if len(body) > _MAX_BYTES:
                    raise NoAnswer(f"the answer has more than {_MAX_BYTES >> 20} MB")
                if time.monotonic() - started > timeout_s:
                    raise NoAnswer(f"the answer was not complete after {timeout_s:g} s")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise NoAnswer(str(error) or type(error).__name__) from error
    took_ms = (time.monotonic() - started) * 1000
    return Reply(response.status_code, body.decode(response.encoding or "utf-8", errors="replace"), took_ms)


@contextlib.contextmanager
def _unlogged() -> Iterator[None]:
    """Keep this thread's requests out of the log: httpx writes their whole URL there, with what may be a secret."""
    thread = threading.get_ident()
    logger = logging.getLogger("httpx")

    def not_ours(_: logging.LogRecord) -> bool:
        return threading.get_ident() != thread

    logger.addFilter(not_ours)
    try:
        yield
    finally:
        logger.removeFilter(not_ours)


def call(request: HttpCall) -> Answer:
    """Send the request once. Raises ConfigurationError when a variable it names is not set."""
    url = expanded(request.url)
    headers = {name: expanded(value) for name, value in request.headers.items()}
    try:
        reply = send(
            request.method,
            url,
            timeout_s=request.timeout_s,
            headers=headers,
            json=request.body,
            follow_redirects=False,
        )
    except NoAnswer as error:
        return Answer(ok=False, message=safe(f"no answer: {error}", request))
    said = f"{reply.status} in {reply.took_ms:.0f} ms"
    problem = _problem(request, reply)
    return Answer(ok=problem is None, message=safe(f"{said}, but {problem}" if problem else said, request))


def safe(text: str, request: HttpCall | Metric) -> str:
    """Return text without the values that a request took from the environment."""
    return without_secrets(text, values_in((request.url, *request.headers.values()))).replace("\0", "")


def _problem(request: HttpCall, reply: Reply) -> str | None:
    # Cut only when the secrets are out: the half of one would not be known again.
    shown = safe(reply.text, request)[:_SHOWN]
    if request.status is None and not 200 <= reply.status < 300:
        return f"expected any 2xx: {shown}"
    if request.status is not None and reply.status != request.status:
        return f"expected {request.status}: {shown}"
    if request.latency_ms is not None and reply.took_ms > request.latency_ms:
        return f"expected an answer within {request.latency_ms} ms"
    return None if request.json_schema is None else _misfit(request, request.json_schema, reply)


def _misfit(request: HttpCall, schema: dict[str, Any], reply: Reply) -> str | None:
    try:
        body = json.loads(reply.text)
    except ValueError:
        return f"expected JSON: {safe(reply.text, request)[:_SHOWN]}"
    from jsonschema import Draft202012Validator  # noqa: PLC0415 - as httpx

    error = next(iter(Draft202012Validator(schema).iter_errors(body)), None)
    return None if error is None else f"{error.json_path} does not fit: {safe(error.message, request)[:_SHOWN]}"
