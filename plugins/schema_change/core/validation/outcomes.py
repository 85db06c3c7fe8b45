"""What checks found: one outcome per check, and what of it blocks a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Status = Literal["passed", "failed", "error"]


@dataclass(frozen=True, slots=True)
class CheckOutcome:
    """What one check found; JSON-safe. ``sample`` holds primary keys of offending rows and nothing else of them."""

    suite: str
    table: str
    check_id: str
    type: str
    column: str | None
    severity: str
    status: Status
    observed: Any = None
    element_count: int | None = None
    unexpected_count: int | None = None
    unexpected_percent: float | None = None
    sample: tuple[Mapping[str, Any], ...] = ()
    error: str | None = None
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    notes: str = ""


@dataclass(frozen=True, slots=True)
class ValidationOutcome:
    """What a run's checks found, in the order of the suites and of their checks."""

    outcomes: tuple[CheckOutcome, ...]

    @property
    def blocking(self) -> tuple[CheckOutcome, ...]:
        """Return the critical checks that failed, and every check that could not be carried out."""
        return tuple(
            o for o in self.outcomes if o.status == "error" or (o.status == "failed" and o.severity == "critical")
        )

    @property
    def warnings(self) -> tuple[CheckOutcome, ...]:
        """Return the checks that failed without being critical."""
        return tuple(o for o in self.outcomes if o.status == "failed" and o.severity != "critical")
