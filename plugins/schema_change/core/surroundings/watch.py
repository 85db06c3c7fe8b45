"""Look at the health of services and at metrics."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from schema_change.core.errors import ConfigurationError
from schema_change.core.surroundings.http import Answer, call
from schema_change.core.surroundings.models import HealthCheck, HttpCall, PrometheusCheck, Surroundings
from schema_change.core.surroundings.prometheus import ask

_PAUSE_S = 1.0


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at something around the change showed."""

    kind: str
    name: str
    ok: bool
    message: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}: {self.message}"


def look_around(
    surroundings: Surroundings, *, patient: bool, alive: Callable[[], bool] = lambda: True
) -> tuple[Look, ...]:
    """Look at every health check and metric; ``patient`` gives each its ``within_s`` to become good."""
    checks: list[HealthCheck | PrometheusCheck] = [*surroundings.health, *surroundings.prometheus]
    return tuple(_look(check, patient=patient, alive=alive) for check in checks)


def bad(looks: tuple[Look, ...]) -> list[Look]:
    """Return what did not look good."""
    return [look for look in looks if not look.ok]


def call_until_good(request: HttpCall, alive: Callable[[], bool]) -> Answer:
    """Send a request, again and again for its ``within_s``, until the answer is good; return the last answer."""
    return _until_good(partial(call, request), request.within_s, alive)


def _look(check: HealthCheck | PrometheusCheck, *, patient: bool, alive: Callable[[], bool]) -> Look:
    what = ("health", f"{check.method} {check.url}") if isinstance(check, HealthCheck) else ("prometheus", check.query)
    try:
        answer = _until_good(partial(_ask, check), check.within_s if patient else 0, alive)
    except ConfigurationError as error:
        answer = Answer(ok=False, message=error.message)
    return Look(*what, answer.ok, answer.message)


def _ask(check: HealthCheck | PrometheusCheck) -> Answer:
    return call(check) if isinstance(check, HealthCheck) else ask(check)


def _until_good(ask_once: Callable[[], Answer], within_s: float, alive: Callable[[], bool]) -> Answer:
    deadline = time.monotonic() + within_s
    while not (answer := ask_once()).ok and alive() and (left := deadline - time.monotonic()) > 0:
        time.sleep(min(_PAUSE_S, left))
    return answer
