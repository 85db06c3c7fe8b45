"""The files of a backup, on any fsspec storage: streamed, hashed on the way, never whole in memory."""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from upath import UPath

from schema_change.core.backup.manifest import BackupFile
from schema_change.core.errors import BackupError

CHUNK_BYTES = 1 << 20


def is_local(path: UPath) -> bool:
    """Tell whether a path is on this machine's disk."""
    return path.protocol in ("", "file", "local")


def prepare(folder: UPath) -> None:
    """Create a local folder. Object storage has none; asking for one there would try to create the bucket."""
    if is_local(folder):
        folder.mkdir(parents=True, exist_ok=True)


def discard(folder: UPath, names: Sequence[str]) -> None:
    """Remove files of an unfinished backup, those that exist."""
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            (folder / name).unlink()


def _copy(source: IO[bytes], sink: IO[bytes] | None) -> tuple[int, str]:
    digest = hashlib.sha256()
    size = 0
    while chunk := source.read(CHUNK_BYTES):
        digest.update(chunk)
        size += len(chunk)
        if sink is not None:
            sink.write(chunk)
    return size, digest.hexdigest()


def write_stream(folder: UPath, name: str, source: IO[bytes]) -> BackupFile:
    """Write a stream to a file of the folder; return its size and sha256."""
    with (folder / name).open("wb") as sink:
        size, sha256 = _copy(source, sink)
    return BackupFile(name, size, sha256)


def _check(folder: UPath, file: BackupFile, found: tuple[int, str]) -> None:
    if found != (file.bytes, file.sha256):
        raise BackupError(
            f"{folder / file.name} is not the file that was written: {found[0]} bytes, sha256 {found[1][:12]}…, "
            f"expected {file.bytes} bytes, {file.sha256[:12]}…",
            hint="the storage damaged or replaced it; use another backup",
        )


def verify_file(folder: UPath, file: BackupFile, sink: IO[bytes] | None = None) -> None:
    """Read a file whole, compare its sha256 and, with ``sink``, copy it. Raises BackupError when it differs."""
    try:
        with (folder / file.name).open("rb") as source:
            found = _copy(source, sink)
    except FileNotFoundError as error:
        raise BackupError(f"{folder / file.name} is missing", hint="use another backup") from error
    _check(folder, file, found)


@contextlib.contextmanager
def local_files(folder: UPath, files: Sequence[BackupFile]) -> Iterator[dict[str, Path]]:
    """Yield verified files by name as local paths, which parallel restores need; remote ones are copied meanwhile."""
    with tempfile.TemporaryDirectory(prefix="schema_change_restore_") as scratch:
        paths: dict[str, Path] = {}
        for file in files:
            if is_local(folder):
                verify_file(folder, file)
                paths[file.name] = Path((folder / file.name).path)
            else:
                paths[file.name] = Path(scratch) / file.name
                with paths[file.name].open("wb") as sink:
                    verify_file(folder, file, sink)
        yield paths
