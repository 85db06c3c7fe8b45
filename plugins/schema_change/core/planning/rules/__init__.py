"""Lint rules that need the live catalog or the whole plan, by theme; each is a function that yields what it found."""

from __future__ import annotations

from schema_change.core.planning.rules import (
    compatibility,
    constraints,
    locks,
    partitions,
    rewrites,
    robustness,
    rows,
)
from schema_change.core.planning.rules.base import Found, Level, Past, Rule, Scene

__all__ = ["RULES", "Found", "Level", "Past", "Rule", "Scene"]

#: Every rule by its id, in the order its findings are reported.
RULES: dict[str, Rule] = {
    **locks.RULES,
    **partitions.RULES,
    **rewrites.RULES,
    **constraints.RULES,
    **compatibility.RULES,
    **rows.RULES,
    **robustness.RULES,
}
