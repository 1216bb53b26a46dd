"""A folder of documents: listed by a walk, read without following links, watched for changes.

``sync`` drives it. The version that it lists is made of a file's times, size and inode, so an unchanged file is never
opened. Hidden files and folders, what the globs leave out and the state folder are passed over silently; links that
lead out of the folder, special files and files over the limit are listed with the reason. The invariant: no byte
outside the folder is ever read, whatever links appear while it is being read.
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

from roadbed.knowledge.connectors.connector import (
    PAGE_ITEMS,
    Content,
    DocumentGone,
    Listed,
    NotTaken,
    ReadRefused,
    SourceAway,
)
from roadbed.sources.globs import Globs

FILE_BYTES_MAX = 100 * 1024 * 1024
FILES_MAX = 1_000_000
DEPTH_MAX = 64
READ_BYTES = 1024 * 1024
RACY_NS = 100_000_000  # a file changed so shortly before it was read may change again under the same times
DEBOUNCE_MS = 400
POLL_MS = 2_000


class FilesConnector:
    """The documents below one folder. ``passed_over`` are folders that never belong to it, such as the state."""

    kind = "files"

    def __init__(
        self,
        folder: Path,
        *,
        include: Sequence[str] = ("**/*",),
        exclude: Sequence[str] = (),
        bytes_max: int = FILE_BYTES_MAX,
        passed_over: Sequence[Path] = (),
        force_polling: bool | None = None,
    ) -> None:
        self.folder = folder
        self._globs = Globs(include, exclude)
        self._bytes_max = bytes_max
        self._passed_over = {os.path.realpath(path) for path in passed_over}
        self._force_polling = force_polling

    async def listing(self) -> AsyncIterator[Sequence[Listed | NotTaken]]:
        """All files, by path. Raises `SourceAway` when a folder cannot be read: what is below it is not gone."""
        entries = await asyncio.to_thread(self._walk)
        for start in range(0, len(entries), PAGE_ITEMS):
            yield entries[start : start + PAGE_ITEMS]

    async def read(self, key: str) -> Content:
        """The bytes of a file below the folder. Raises `DocumentGone`, `ReadRefused` or `SourceAway`."""
        return await asyncio.to_thread(self._read, key)

    async def changes(self) -> AsyncIterator[None]:
        """Yields when something below the folder changed, at most every `DEBOUNCE_MS`."""
        from watchfiles import awatch

        async for changed in awatch(
            self.folder,
            debounce=DEBOUNCE_MS,
            step=100,
            rust_timeout=1_000,
            force_polling=self._force_polling,
            poll_delay_ms=POLL_MS,
            ignore_permission_denied=True,
            watch_filter=None,
            yield_on_timeout=False,
        ):
            if any(not self._is_passed_over(Path(path)) for _, path in changed):
                yield

    # -- listing ------------------------------------------------------------------------------------------------------

    def _walk(self) -> list[Listed | NotTaken]:
        root = os.path.realpath(self.folder)
        if not os.path.isdir(root):
            raise SourceAway(f"the folder {self.folder} is not there")
        found = []
        for entry in self._below(root, "", 0, root):
            found.append(entry)
            if len(found) > FILES_MAX:
                raise SourceAway(f"the folder {self.folder} holds more than {FILES_MAX} files")
        found.sort(key=lambda item: item.key)
        return found

    def _below(self, folder: str, prefix: str, depth: int, root: str) -> Iterator[Listed | NotTaken]:
        try:
            with os.scandir(folder) as scan:
                entries = list(scan)
        except OSError as error:
            if depth and error.errno == errno.ENOENT:
                return  # the folder was removed during the walk
            raise SourceAway(f"the folder {prefix or self.folder} cannot be read: {error.strerror}") from None
        for entry in entries:
            key = f"{prefix}{entry.name}"
            if entry.name.startswith("."):
                continue
            try:
                key.encode()
            except UnicodeEncodeError:
                yield NotTaken(key.encode("utf-8", "replace").decode(), "its name is not UTF-8")
                continue
            if entry.is_symlink():
                yield from self._link(entry, key, root)
            elif entry.is_dir(follow_symlinks=False):
                if os.path.realpath(entry.path) in self._passed_over:
                    continue
                if depth >= DEPTH_MAX:
                    yield NotTaken(key, f"folders nest deeper than {DEPTH_MAX}")
                else:
                    yield from self._below(entry.path, f"{key}/", depth + 1, root)
            elif self._globs.match(key):
                yield from self._file(entry, key)

    def _link(self, entry: os.DirEntry[str], key: str, root: str) -> Iterator[NotTaken]:
        """Links are not read: inside the folder their target is listed anyway, outside they would lead out."""
        target = os.path.realpath(entry.path)
        if target != root and not target.startswith(root + os.sep):
            yield NotTaken(key, "a link that leads out of the folder")

    def _file(self, entry: os.DirEntry[str], key: str) -> Iterator[Listed | NotTaken]:
        try:
            status = entry.stat(follow_symlinks=False)
        except OSError:
            return  # removed during the walk
        if not stat.S_ISREG(status.st_mode):
            yield NotTaken(key, "not a regular file")
        elif status.st_size > self._bytes_max:
            yield NotTaken(key, f"larger than {self._bytes_max} bytes")
        else:
            yield Listed(key, key, key.rsplit("/", 1)[-1], file_version(status), status.st_size)

    def _is_passed_over(self, path: Path) -> bool:
        try:
            parts = path.relative_to(self.folder).parts
        except ValueError:
            try:
                parts = path.relative_to(os.path.realpath(self.folder)).parts
            except ValueError:
                return True
        if any(part.startswith(".") for part in parts):
            return True
        real = os.path.realpath(path)
        return any(real == folder or real.startswith(folder + os.sep) for folder in self._passed_over)

    # -- reading ------------------------------------------------------------------------------------------------------

    def _read(self, key: str) -> Content:
        try:
            descriptor = self._open(key)
        except OSError as error:
            raise _explained(error, key) from None
        try:
            before = os.fstat(descriptor)
            if not stat.S_ISREG(before.st_mode):
                raise ReadRefused("unsupported", f"{key} is not a regular file")
            data = bytearray()
            while piece := os.read(descriptor, READ_BYTES):
                data += piece
                if len(data) > self._bytes_max:
                    raise ReadRefused("too_large", f"{key} is larger than {self._bytes_max} bytes")
            after = os.fstat(descriptor)
        except OSError as error:
            raise _explained(error, key) from None
        finally:
            os.close(descriptor)
        version = file_version(before)
        newest = max(after.st_mtime_ns, after.st_ctime_ns)
        if file_version(after) != version or time.time_ns() - newest < RACY_NS:
            version += "?"  # never equal to a listed one, so the next listing reads the file once more
        return Content(name=key, data=bytes(data), version=version)

    def _open(self, key: str) -> int:
        """Open the file step by step from the folder, refusing links at each, so that none can be put in between."""
        parts = key.split("/")
        if any(part in ("", ".", "..") for part in parts):
            raise ReadRefused("unsafe", "a key may not lead out of the folder")
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for part in parts[:-1]:
                below = os.open(part, flags | os.O_DIRECTORY, dir_fd=folder)
                os.close(folder)
                folder = below
            return os.open(parts[-1], flags, dir_fd=folder)
        finally:
            os.close(folder)


def file_version(status: os.stat_result) -> str:
    """A cheap sign of change: nobody sets back the time of an inode's change."""
    return f"{status.st_mtime_ns}:{status.st_ctime_ns}:{status.st_size}:{status.st_ino}"


def _explained(error: OSError, key: str) -> DocumentGone | ReadRefused | SourceAway:
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ESTALE):
        return DocumentGone(f"{key} is gone")
    if error.errno == errno.ELOOP:
        return ReadRefused("unsafe", f"{key} has become a link")
    if error.errno in (errno.EACCES, errno.EPERM):
        return ReadRefused("unreadable", f"{key} may not be read")
    return SourceAway(f"{key} cannot be read: {error.strerror}")
