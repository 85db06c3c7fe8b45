"""File a text as an issue, with the command that the environment names."""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from pathlib import Path

from schema_change.core.errors import ConfigurationError

VARIABLE = "SCHEMA_CHANGE_ISSUE_COMMAND"
_EXAMPLE = "gh issue create --title {title} --body-file {file} --label schema-change"
_TIMEOUT_S = 120


def issue_command() -> list[str]:
    """Return the configured command as words, ``{file}`` among them. Raises ConfigurationError."""
    try:
        words = shlex.split(os.environ.get(VARIABLE, ""))
    except ValueError as error:
        raise ConfigurationError(f"{VARIABLE} cannot be read: {error}", hint="close every quote") from None
    if not words:
        raise ConfigurationError(
            f"no issue can be filed: {VARIABLE} is not set", hint=f"export {VARIABLE}='{_EXAMPLE}'"
        )
    if not any("{file}" in word for word in words):
        raise ConfigurationError(f"{VARIABLE} does not say where the text goes", hint=f"such as: {_EXAMPLE}")
    return words


def file_issue(command: list[str], title: str, text: str) -> str:
    """Run the command, without a shell, and return what it prints: the issue's address. Raises ConfigurationError."""
    with tempfile.TemporaryDirectory(prefix="schema_change_issue_") as folder:
        file = Path(folder) / "proposal.md"
        file.write_text(text, encoding="utf-8")
        words = [word.replace("{file}", str(file)).replace("{title}", title) for word in command]
        try:
            result = subprocess.run(
                words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            why = "took too long" if isinstance(error, subprocess.TimeoutExpired) else error.strerror
            raise ConfigurationError(
                f"{words[0]}: {why}; no issue is known to be filed", hint=f"see {VARIABLE}"
            ) from error
    if result.returncode:
        said = (result.stderr or result.stdout).strip()[-500:]
        raise ConfigurationError(
            f"{words[0]} ended with {result.returncode}: {said}", hint=f"correct {VARIABLE}, or sign in to the tracker"
        )
    return result.stdout.strip()
