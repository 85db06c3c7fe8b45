from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
from upath import UPath

from schema_change.core.backup import files, programs
from schema_change.core.errors import BackupError
from tests.memory import held


def test_a_stream_is_hashed_verified_and_copied_on_any_storage(tmp_path: Path) -> None:
    content = bytes(range(256)) * 8192
    for folder in (UPath(tmp_path), UPath("memory://unit/backup")):
        written = files.write_stream(folder, "data.dump", io.BytesIO(content))
        assert written.bytes == len(content)
        with files.local_files(folder, [written]) as local:
            assert (local / "data.dump").read_bytes() == content
        (folder / "data.dump").write_bytes(content[:-1])
        with pytest.raises(BackupError, match="not the file that was written"), files.local_files(folder, [written]):
            pass
        files.remove(folder)
        files.remove(folder)
        with pytest.raises(BackupError, match="is missing"):
            files.verify_file(folder, written)


@pytest.mark.parametrize("blocks", [16, 96])
def test_the_memory_that_files_take_does_not_depend_on_their_size(
    blocks: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "is_local", lambda _: False)
    storage = UPath(f"file://{tmp_path}/storage", auto_mkdir=True)
    dump = tmp_path / "dump"
    dump.mkdir()
    with (dump / "3001.dat").open("wb") as file:
        file.truncate(blocks * files.CHUNK_BYTES)
    with held() as most:
        written = files.store(dump, storage)
        assert list(dump.iterdir()) == []
        with files.local_files(storage, written) as local:
            assert (local / "dump" / "3001.dat").stat().st_size == blocks * files.CHUNK_BYTES
    assert most() < 8 * files.CHUNK_BYTES


def test_a_local_file_is_read_where_it_is(tmp_path: Path) -> None:
    written = files.write_stream(UPath(tmp_path), "a", io.BytesIO(b"x"))
    with files.local_files(UPath(f"file://{tmp_path}"), [written]) as local:
        assert local == tmp_path


def test_a_program_that_fails_says_why() -> None:
    code = "import sys; sys.stderr.write('x' * 200_000 + 'the reason'); print('some output'); sys.exit(3)"
    with pytest.raises(BackupError, match=r"failed \(code 3\): x+the reason"):
        programs.run([sys.executable, "-c", code], {})
    with pytest.raises(BackupError, match=r"failed \(signal 9\): no message"):
        programs.run([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"], {})


def test_a_program_is_killed_when_its_reader_fails() -> None:
    endless = [sys.executable, "-c", "while True: print('x' * 1000)"]

    def read_and_fail() -> None:
        with programs.output_of(endless, {}) as output:
            assert output.read(10) == b"x" * 10
            raise KeyError

    with pytest.raises(KeyError):
        read_and_fail()
