"""Words in messages."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: ``1 step``, ``1,204 rows``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def sized(number: float) -> str:
    """Return a number of bytes for people: ``900 bytes``, ``8.2 MB``."""
    if abs(number) < 1024:
        return f"{number:.0f} bytes"
    for unit in ("kB", "MB", "GB"):
        number /= 1024
        if abs(number) < 1024:
            return f"{number:.1f} {unit}"
    return f"{number / 1024:.1f} TB"
