"""What a hook or check may take from the environment of its process, and how it is kept out of what is recorded."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping

from schema_change.core.errors import ConfigurationError
from schema_change.core.surroundings.models import VARIABLE

#: What any program needs to run at all.
_ALWAYS = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR")
_HIDDEN = "***"
_SHORTEST_SECRET = 4


def expanded(text: str) -> str:
    """Return text with each ``${NAME}`` replaced. Raises ConfigurationError for a name that is not set."""
    return VARIABLE.sub(lambda match: _value(match[1]), text)


def for_program(names: Iterable[str], more: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a program: the least there must be, the names it asks for, and ``more``."""
    always = {name: os.environ[name] for name in _ALWAYS if name in os.environ}
    return {**always, **{name: _value(name) for name in names}, **more}


def without_secrets(text: str, secrets: Iterable[str]) -> str:
    """Return text with the values of secrets blotted out; a value too short to be one is left."""
    for secret in sorted(set(secrets), key=len, reverse=True):
        if len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, _HIDDEN)
    return text


def values_of(names: Iterable[str]) -> Iterator[str]:
    """Yield the values of variables, as far as they are set."""
    return (os.environ[name] for name in names if name in os.environ)


def values_in(texts: Iterable[str]) -> Iterator[str]:
    """Yield the values of the variables that texts name, as far as they are set."""
    for text in texts:
        yield from values_of(VARIABLE.findall(text))


def _value(name: str) -> str:
    if name not in os.environ:
        raise ConfigurationError(
            f"{name} is not set in the environment of this process",
            hint="set it where the tasks run (worker) or the command is started, or take it out of the change file",
        )
    return os.environ[name]
