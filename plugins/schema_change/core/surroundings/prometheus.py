"""Ask Prometheus for the value of a query now, and compare it with its bounds."""

from __future__ import annotations

import json
import math
from typing import Any

from schema_change.core.surroundings.environment import expanded
from schema_change.core.surroundings.http import Answer, NoAnswer, safe, send
from schema_change.core.surroundings.models import Metric

_SHOWN = 3


def ask(check: Metric) -> Answer:
    """Evaluate the query once. Raises ConfigurationError when a variable the check names is not set."""
    url = f"{expanded(check.url).rstrip('/')}/api/v1/query"
    headers = {name: expanded(value) for name, value in check.headers.items()}
    try:
        reply = send("GET", url, timeout_s=check.timeout_s, headers=headers, params={"query": check.query})
        answer: dict[str, Any] = json.loads(reply.text)
        if answer["status"] != "success":
            return Answer(ok=False, message=safe(f"Prometheus refused: {answer.get('error', answer)}", check))
        values = _values(answer["data"])
    except NoAnswer as error:
        return Answer(ok=False, message=safe(f"no answer: {error}", check))
    except (ValueError, KeyError, TypeError):
        return Answer(ok=False, message=f"{reply.status}, but no answer that Prometheus would give")
    if not values:
        return Answer(ok=False, message="the result is empty; write '… or vector(0)' where that means zero")
    bad = [f"{name}{value:g}" for name, value in values if not _within(value, check)]
    if bad:
        bounds = " and ".join(
            f"{word} {bound:g}"
            for word, bound in (("at most", check.max), ("at least", check.min))
            if bound is not None
        )
        return Answer(ok=False, message=f"{', '.join(bad[:_SHOWN])}; expected {bounds}")
    return Answer(ok=True, message=", ".join(f"{name}{value:g}" for name, value in values[:_SHOWN]))


def _values(data: dict[str, Any]) -> list[tuple[str, float]]:
    """Return the samples of a scalar or instant vector, each with the labels it goes by."""
    if data["resultType"] == "scalar":
        return [("", float(data["result"][1]))]
    if data["resultType"] != "vector":
        raise ValueError("a query of Prometheus must give numbers")
    return [(_labels(sample["metric"]), float(sample["value"][1])) for sample in data["result"]]


def _labels(metric: dict[str, str]) -> str:
    return "".join(f"{name}={value} " for name, value in metric.items() if name != "__name__")


def _within(value: float, check: Metric) -> bool:
    """Tell whether a value is inside the bounds; a division of zero by zero is not."""
    high = math.inf if check.max is None else check.max
    low = -math.inf if check.min is None else check.min
    return low <= value <= high
