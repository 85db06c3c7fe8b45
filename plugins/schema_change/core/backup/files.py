"""The files of a backup, on any fsspec storage: hashed on the way, a few at a time, never whole in memory."""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, TypeVar

from upath import UPath

from schema_change.core.backup.manifest import MANIFEST, BackupFile
from schema_change.core.backup.programs import jobs
from schema_change.core.errors import BackupError

CHUNK_BYTES = 1 << 20

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def is_local(path: UPath) -> bool:
    """Tell whether a path is on this machine's disk."""
    return path.protocol in ("", "file", "local")


def prepare(folder: UPath) -> None:
    """Create a local folder. Object storage has none; asking for one there would try to create the bucket."""
    if is_local(folder):
        folder.mkdir(parents=True, exist_ok=True)


def remove(folder: UPath) -> None:
    """Remove a backup, finished or not: the manifest first, so that no part of it is ever taken for the whole."""
    storage, path = folder.fs, folder.path
    storage.invalidate_cache()
    with contextlib.suppress(FileNotFoundError):
        (folder / MANIFEST).unlink()
    with contextlib.suppress(FileNotFoundError):
        storage.rm(path, recursive=True)


@contextlib.contextmanager
def workshop(folder: UPath) -> Iterator[Path]:
    """Yield an empty folder for a dump: in a local folder itself, else among this machine's temporary files.

    It is another one each time: what a killed try has left at work cannot write into the next one's.
    """
    within = folder.path if is_local(folder) else None
    with tempfile.TemporaryDirectory(prefix="schema_change_dump_", dir=within) as made:
        yield Path(made)


def store(dump: Path, folder: UPath) -> tuple[BackupFile, ...]:
    """Bring a dump's folder to its place in the folder, several files at a time; return their sizes and sha256.

    A local one is moved. From others the files are gone as soon as each has been sent.
    """
    if is_local(folder):
        dump = dump.rename(Path(folder.path) / dump.name)

    def one(path: Path) -> BackupFile:
        name = f"{dump.name}/{path.name}"
        with path.open("rb") as source:
            if is_local(folder):
                return BackupFile(name, *_copy(source, None))
            written = write_stream(folder, name, source)
        path.unlink()
        return written

    # The largest first, so that nobody waits for it at the end.
    return tuple(_each(one, sorted(dump.iterdir(), key=lambda path: path.stat().st_size, reverse=True)))


def _each(function: Callable[[_Item], _Result], items: Sequence[_Item]) -> list[_Result]:
    """Call a function for every item, for some at once; after a failure no other one is begun."""
    with ThreadPoolExecutor(jobs(), thread_name_prefix="files") as pool:
        return list(pool.map(function, items))


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


def write_blocks(folder: UPath, name: str, blocks: Iterable[bytes]) -> BackupFile:
    """Write blocks to a file of the folder as they come; return its size and sha256."""
    digest = hashlib.sha256()
    size = 0
    with (folder / name).open("wb") as sink:
        for block in blocks:
            digest.update(block)
            size += len(block)
            sink.write(block)
    return BackupFile(name, size, digest.hexdigest())


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
def local_files(folder: UPath, files: Sequence[BackupFile]) -> Iterator[Path]:
    """Yield a local folder with these files, verified, which is what pg_restore reads; remote ones are copied to it."""
    with tempfile.TemporaryDirectory(prefix="schema_change_restore_") as scratch:

        def fetch(file: BackupFile) -> None:
            path = Path(scratch) / file.name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as sink:
                verify_file(folder, file, sink)

        local = is_local(folder)
        _each((lambda file: verify_file(folder, file)) if local else fetch, files)
        yield Path(folder.path) if local else Path(scratch)
