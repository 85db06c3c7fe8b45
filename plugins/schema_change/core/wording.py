"""Words in messages."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: ``1 step``, ``1,204 rows``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
