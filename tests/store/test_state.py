"""The state folder and its lock."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from roadbed.store.errors import StateInUse, StateUnusable, StoreDiskFull
from roadbed.store.state import StateLock, explain_os_error, make_private_folder, require_free, write_private_file


def test_the_lock_is_exclusive_and_ends_with_release(tmp_path: Path) -> None:
    state = tmp_path / "a" / "state"
    with StateLock.acquire(state) as lock:
        assert stat.S_IMODE(state.stat().st_mode) == 0o700
        with pytest.raises(StateInUse, match=f"process {os.getpid()}"):
            StateLock.acquire(state)
    assert not lock.is_held
    lock.release()
    StateLock.acquire(state).release()


def test_a_lock_file_without_its_process_is_no_lock(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "lock").write_text("1\n")
    StateLock.acquire(tmp_path).release()


def test_an_open_folder_is_narrowed_and_a_file_refused(tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir(mode=0o755)
    make_private_folder(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(StateUnusable):
        make_private_folder(tmp_path / "link")


def test_files_are_private_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    write_private_file(path, b"one")
    write_private_file(path, b"two")
    assert path.read_bytes() == b"two"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["secret"]
    with pytest.raises(StateUnusable):
        write_private_file(tmp_path / "missing" / "secret", b"")


def test_a_full_disk_is_told_apart(tmp_path: Path) -> None:
    full = explain_os_error(OSError(errno.ENOSPC, "No space left on device"), tmp_path)
    assert isinstance(full, StoreDiskFull)
    fixed = explain_os_error(OSError(errno.EROFS, "Read-only file system"), tmp_path)
    assert isinstance(fixed, StateUnusable)
    assert "Read-only file system" in fixed.message


def test_a_private_file_is_never_written_into_a_file_that_lay_there(tmp_path: Path) -> None:
    """Whoever can guess the path (``--ready-file /tmp/ready.json``) must not own what a key is written into."""
    laid = tmp_path / "ready.json.new"
    laid.touch()
    laid.chmod(0o666)
    with laid.open("rb") as theirs:
        write_private_file(tmp_path / "ready.json", b"the key")
        assert theirs.read() == b""
    assert stat.S_IMODE((tmp_path / "ready.json").stat().st_mode) == 0o600
    assert not laid.exists()


def test_a_folder_that_another_holds_is_told_and_none_is_made(tmp_path: Path) -> None:
    require_free(tmp_path / "none")
    assert not (tmp_path / "none").exists()
    with StateLock.acquire(tmp_path / "state"), pytest.raises(StateInUse):
        require_free(tmp_path / "state")
    require_free(tmp_path / "state")
