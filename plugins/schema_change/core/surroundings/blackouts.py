"""The blackouts of an installation: times in which no change goes on, whoever asks for it."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from schema_change.core.changes.document import parse
from schema_change.core.errors import ChangeFileError
from schema_change.core.surroundings.models import Blackout


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")
    blackouts: tuple[Blackout, ...] = ()


def load_blackouts(path: Path) -> tuple[Blackout, ...]:
    """Read a file with the key ``blackouts`` of a change file. Raises ChangeFileError with file and line."""
    file = str(path)
    try:
        document = parse(path.read_text(encoding="utf-8"), file)
        return _File.model_validate(document.data).blackouts
    except OSError as error:
        raise ChangeFileError(f"cannot be read: {error.strerror}", file=file) from error
    except ValidationError as error:
        first = error.errors()[0]
        raise ChangeFileError(
            first["msg"],
            file=file,
            line=document.line(first["loc"]),
            key=".".join(map(str, first["loc"])),
            hint="write blackouts: [{from: 2024-12-20, to: 2025-01-06, reason: holidays}]",
        ) from error
