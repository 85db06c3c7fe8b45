"""One exception tree. Every message says what, where, and (in ``hint``) what to do.

::

    SchemaChangeError
    ├── ChangeFileError          a change file cannot be read or does not make sense
    ├── ConfigurationError       the product, its target or its tools are not set up
    ├── PlanError                the change does not fit the live catalog
    ├── PreCheckFailed           a check before the change failed; nothing was changed
    ├── OwnershipError           another run owns a table, or the fence is held
    ├── JournalError             the journal does not allow what was asked
    ├── ExecutionError           a statement failed
    │   ├── LockNotAvailable     a lock could not be had in time (retryable)
    │   └── BackfillError        a batch failed; names the poison row
    ├── BackupError              a backup could not be taken, verified or restored
    ├── ValidationFailed         the changed database breaks an expectation
    ├── ChangeRolledBack         the change did not land; the database is as it was
    └── RollbackFailed           an undo failed; a person must decide
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class SchemaChangeError(Exception):
    """Base of all errors raised on purpose.

    ``hint`` is the remedy; ``retryable`` says whether trying again later can help; ``data`` is JSON for the report.
    Driver errors are kept as ``__cause__``.
    """

    retryable: bool = False

    def __init__(self, message: str, *, hint: str | None = None, data: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.data = dict(data or {})

    def __str__(self) -> str:
        return f"{self.message}\n  → {self.hint}" if self.hint else self.message


class ChangeFileError(SchemaChangeError):
    """A change file cannot be read or does not make sense."""

    def __init__(
        self,
        message: str,
        *,
        file: str,
        line: int | None = None,
        key: str | None = None,
        hint: str | None = None,
    ) -> None:
        where = file if line is None else f"{file}:{line}"
        super().__init__(f"{where}: {f'{key}: ' if key else ''}{message}", hint=hint)
        self.file = file
        self.line = line
        self.key = key


class ConfigurationError(SchemaChangeError):
    """The product, its target or its tools are not set up."""


class PlanError(SchemaChangeError):
    """The change does not fit the live catalog."""


class PreCheckFailed(SchemaChangeError):
    """A check before the change failed; nothing was changed."""


class OwnershipError(SchemaChangeError):
    """Another run owns a table, or another try of this run is still at work."""

    retryable = True


class JournalError(SchemaChangeError):
    """The journal does not allow what was asked."""


class ExecutionError(SchemaChangeError):
    """A statement failed."""


class LockNotAvailable(ExecutionError):
    """A lock could not be had in time; the blocker is named."""

    retryable = True


class BackfillError(ExecutionError):
    """A batch failed; the message names the poison row."""


class BackupError(SchemaChangeError):
    """A backup could not be taken, verified or restored."""


class ValidationFailed(SchemaChangeError):
    """The changed database breaks an expectation."""


class ChangeRolledBack(SchemaChangeError):
    """The change did not land; the database is as it was."""


class RollbackFailed(SchemaChangeError):
    """An undo failed; a person must decide how to go on."""
