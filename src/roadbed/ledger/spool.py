"""The disk spool: batches of ledger rows that PostgreSQL could not take, kept in order until it can.

One file per batch, written whole under a temporary name, synced, then renamed; each holds a length, a CRC-32 and the
msgpack body, so that a file torn by a crash is recognised and set aside, never half read. Rows carry their own keys,
so a batch that was stored but whose file outlived a crash is stored once all the same. The whole spool is bounded by
`SPOOL_BYTES_MAX`; over it the newest batch is refused and counted, and nothing older is lost.

Processes that share a state folder have a folder each below the owner's, which they hold by a kernel lock; what one
left behind, the owner takes over (`adopt`). The invariant: no two processes ever touch one batch.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import zlib
from pathlib import Path

from roadbed.kernel.errors import RoadbedError
from roadbed.kernel.ids import new_id

SPOOL_BYTES_MAX = 1024 * 1024 * 1024
_HEADER = struct.Struct(">4sII")
_MAGIC = b"RBS2"
_LOCK = "lock"
_LOCK_ATTEMPTS_MAX = 10


class SpoolFull(RoadbedError):
    """The spool on disk is full or cannot be written, so usage records would be lost."""

    code = "ledger.spool_full"
    http_status = 503
    hint = "bring PostgreSQL back, or free space in the state folder"


class Spool:
    """A folder of batches, oldest first. ``is_shared``: it lies below another spool, so it is locked against it."""

    def __init__(self, folder: Path, bytes_max: int = SPOOL_BYTES_MAX, *, is_shared: bool = False) -> None:
        self._folder = folder
        self._bytes_max = bytes_max
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = _take_lock(folder) if is_shared else None
        self._bytes = sum(path.stat().st_size for path in self.batches())

    @property
    def size_bytes(self) -> int:
        """Bytes waiting on disk."""
        return self._bytes

    def batches(self) -> list[Path]:
        """Files of whole batches, oldest first."""
        return sorted(self._folder.glob("*.batch"))

    def write(self, body: bytes) -> Path:
        """Store one batch durably. Raises `SpoolFull`."""
        if self._bytes + len(body) > self._bytes_max:
            raise SpoolFull(f"the spool holds {self._bytes} bytes of at most {self._bytes_max}")
        final = self._folder / f"{new_id()}.batch"
        temporary = final.with_suffix(".part")
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(_HEADER.pack(_MAGIC, len(body), zlib.crc32(body)))
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(final)
        except OSError as error:
            raise SpoolFull(f"the spool cannot be written: {error.strerror}") from None
        self._bytes += final.stat().st_size
        return final

    def read(self, path: Path) -> bytes | None:
        """The batch in a file; None (and the file set aside as ``.damaged``) when it is torn."""
        data = path.read_bytes()
        if len(data) >= _HEADER.size:
            magic, length, checksum = _HEADER.unpack_from(data)
            body = data[_HEADER.size :]
            if magic == _MAGIC and len(body) == length and zlib.crc32(body) == checksum:
                return body
        self._bytes -= len(data)
        path.rename(path.with_suffix(".damaged"))
        return None

    def remove(self, path: Path) -> None:
        """Forget a batch that is stored."""
        size = path.stat().st_size
        path.unlink()
        self._bytes -= size

    def adopt(self) -> int:
        """Take over the batches in folders below whose process has ended; how many."""
        adopted = 0
        for folder in sorted(path for path in self._folder.iterdir() if path.is_dir() and not path.is_symlink()):
            lock = _try_lock(folder)
            if lock is None:
                continue
            try:
                for path in sorted(folder.glob("*.batch")):
                    size = path.stat().st_size
                    path.rename(self._folder / path.name)
                    self._bytes += size
                    adopted += 1
                for path in folder.glob("*.damaged"):
                    path.rename(self._folder / path.name)
                _remove_folder(folder)
            finally:
                os.close(lock)
        return adopted

    def close(self) -> None:
        """Give a shared folder back: gone when it is empty, else left for `adopt`."""
        if self._lock is not None:
            if not self.batches():
                _remove_folder(self._folder)
            os.close(self._lock)
            self._lock = None


def _take_lock(folder: Path) -> int:
    """The descriptor that holds the lock of a folder of our own. Raises `SpoolFull`."""
    for _ in range(_LOCK_ATTEMPTS_MAX):
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.fstat(descriptor).st_nlink:
                return descriptor
            os.close(descriptor)
        except FileNotFoundError:  # the owner took the fresh folder for one that was left
            continue
        except OSError as error:
            raise SpoolFull(f"the spool cannot be written: {error.strerror}") from None
    raise SpoolFull(f"the spool folder {folder.name} is removed again and again")


def _try_lock(folder: Path) -> int | None:
    """The descriptor that holds a folder's lock until it is closed; None when another process holds it."""
    try:
        descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _remove_folder(folder: Path) -> None:
    """Remove a folder that holds no batch any more: its lock, and what a crash left half written."""
    with contextlib.suppress(OSError):
        for path in (*folder.glob("*.part"), folder / _LOCK):
            path.unlink(missing_ok=True)
        folder.rmdir()
