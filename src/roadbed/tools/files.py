"""`FileRoot`: a folder whose files can be listed and opened, and nothing beside it, whatever links appear meanwhile.

The folder is held as an open descriptor. Linux resolves a path below it in one step (``openat2`` with RESOLVE_BENEATH,
RESOLVE_NO_SYMLINKS and RESOLVE_NO_MAGICLINKS); elsewhere each part is opened in turn with O_NOFOLLOW. What was opened
is looked at again before a byte is read. Everything here blocks: call it in a thread. The invariant: no byte and no
name from outside the folder is returned, and no message holds the folder's own path.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import stat
import sys
import threading
import unicodedata
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from roadbed.kernel.errors import InvalidRequest, NotFound
from roadbed.sources.errors import SourceUnavailable
from roadbed.sources.globs import Globs

PATH_BYTES_MAX = 1_024
DEPTH_MAX = 32
FOLDER_ENTRIES_MAX = 50_000

_OPENAT2 = 437
_RESOLVE_NO_MAGICLINKS, _RESOLVE_NO_SYMLINKS, _RESOLVE_BENEATH = 0x02, 0x04, 0x08
_RESOLVE = _RESOLVE_BENEATH | _RESOLVE_NO_SYMLINKS | _RESOLVE_NO_MAGICLINKS
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FOLDER_FLAGS = _FILE_FLAGS | os.O_DIRECTORY
_RACES_MAX = 8

Opener = Callable[[int, str, int], int]


class FileGone(NotFound):
    """There is no such file or folder in the source, or it is not one that tools may see."""

    code = "tools.file_missing"
    hint = "list the source to see what it has"


class PathRefused(InvalidRequest):
    """A path is not a plain one below the source's folder, or leads to something that is no plain file."""

    code = "tools.path_refused"
    hint = "take the path from the list of the source"


class FileTooLarge(InvalidRequest):
    """A file is over the size that tools open."""

    code = "tools.file_too_large"
    hint = "raise tool_bytes_max of the source, or ask for another file"


@dataclass(frozen=True, slots=True)
class FolderEntry:
    """A file or folder. ``path`` is relative to the source's folder, with forward slashes."""

    path: str
    is_folder: bool
    size_bytes: int
    modified: float


@dataclass(frozen=True, slots=True)
class FilePart:
    """Bytes of a file from ``offset``, with the file's size and a sign of its version when they were read."""

    data: bytes
    offset: int
    size_bytes: int
    version: str
    modified: float


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def open_beneath(folder: int, path: str, flags: int) -> int:
    """Open ``path`` below a folder's descriptor by ``openat2``. Raises ``OSError``."""
    how = _OpenHow(flags, 0, _RESOLVE)
    for _ in range(_RACES_MAX):  # EAGAIN: a name on the way was moved during the walk
        found: int = _libc().syscall(
            ctypes.c_long(_OPENAT2), ctypes.c_int(folder), ctypes.c_char_p(os.fsencode(path)),
            ctypes.byref(how), ctypes.c_size_t(ctypes.sizeof(how)),
        )  # fmt: skip
        if found >= 0:
            return found
        number = ctypes.get_errno()
        if number not in (errno.EAGAIN, errno.EINTR):
            raise OSError(number, os.strerror(number))
    raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))


def open_by_parts(folder: int, path: str, flags: int) -> int:
    """Open ``path`` below a folder's descriptor, part by part, following no link. Raises ``OSError``."""
    parts = path.split("/")
    if any(part in ("", "..") for part in parts):
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
    held = os.dup(folder)
    try:
        for part in parts[:-1]:
            below = os.open(part, _FOLDER_FLAGS, dir_fd=held)
            os.close(held)
            held = below
        return os.open(parts[-1], flags, dir_fd=held)
    finally:
        os.close(held)


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


@cache
def best_opener() -> Opener:
    """`open_beneath` where the kernel has ``openat2``, else `open_by_parts`."""
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64", "riscv64", "armv7l", "ppc64le"):
        return open_by_parts
    probe = os.open("/", _FOLDER_FLAGS)
    try:
        os.close(open_beneath(probe, ".", _FOLDER_FLAGS))
    except OSError:  # an old kernel, or a container that forbids the call
        return open_by_parts
    finally:
        os.close(probe)
    return open_beneath


def checked_path(text: str) -> str:
    """A path as it is opened: relative, NFC, without a part that means or hides something. Raises `PathRefused`."""
    path = unicodedata.normalize("NFC", text.removesuffix("/"))
    try:
        size = len(path.encode("utf-8"))
    except UnicodeEncodeError:
        raise PathRefused("a path holds half characters", param="path") from None
    if size > PATH_BYTES_MAX or path.count("/") >= DEPTH_MAX:
        raise PathRefused("a path is too long or too deep", param="path")
    if path == "":
        return ""
    if "\\" in path or any(unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp") for character in path):
        raise PathRefused("a path holds characters that no file of a source may have", param="path")
    for part in path.split("/"):
        if part in ("", ".", "..") or part.startswith(".") or part.endswith((".", " ")):
            raise PathRefused("a path may not leave the folder, nor name what is hidden", param="path")
    return path


class FileRoot:
    """The files of one source below ``folder``, as its globs take them. ``passed_over`` folders do not exist for it."""

    def __init__(
        self,
        name: str,
        folder: Path,
        *,
        include: Sequence[str] = ("**/*",),
        exclude: Sequence[str] = (),
        passed_over: Sequence[Path] = (),
        opener: Opener | None = None,
    ) -> None:
        self._name = name
        self._folder = folder
        self._globs = Globs(include, exclude)
        self._passed_over = tuple(passed_over)
        self._open_file = opener or best_opener()
        self._held: tuple[int, tuple[int, int], frozenset[str]] | None = None
        self._lock = threading.Lock()
        self._close: weakref.finalize[[int], FileRoot] | None = None

    def entries(self, path: str = "") -> list[FolderEntry]:
        """Files and folders directly in a folder, by name. `FileGone`, `PathRefused`, `SourceUnavailable`."""
        checked = checked_path(path)
        with self._root() as (root, hidden), self._explained(checked or "the folder"):
            self._check_shown(checked, hidden)
            folder = self._open_file(root, checked or ".", _FOLDER_FLAGS)
            try:
                return sorted(self._below(folder, checked, hidden), key=lambda entry: entry.path)
            finally:
                os.close(folder)

    def read(self, path: str, offset: int, bytes_max: int, size_max: int) -> FilePart:
        """Bytes of a file that is at most ``size_max`` large. As `entries`, and `FileTooLarge`."""
        checked = checked_path(path)
        if not checked or not self._globs.match(checked):
            raise FileGone(f"{self._name} has no file {path[:200]!r}")
        with self._root() as (root, hidden), self._explained(checked):
            self._check_shown(checked, hidden)
            file = self._open_file(root, checked, _FILE_FLAGS)
            try:
                status = os.fstat(file)
                _check_plain(status, checked, size_max)
                return FilePart(
                    _pread(file, offset, bytes_max), offset, status.st_size, version_of(status), status.st_mtime
                )
            finally:
                os.close(file)

    def _below(self, folder: int, prefix: str, hidden: frozenset[str]) -> Iterator[FolderEntry]:
        with os.scandir(folder) as scan:
            for number, entry in enumerate(scan):
                if number >= FOLDER_ENTRIES_MAX:
                    raise FileTooLarge(f"a folder of {self._name} has more than {FOLDER_ENTRIES_MAX} entries")
                path = f"{prefix}/{entry.name}" if prefix else entry.name
                try:
                    if checked_path(path) != path or path in hidden:
                        continue  # what cannot be asked for is not shown
                    status = entry.stat(follow_symlinks=False)
                except (PathRefused, OSError):
                    continue
                if stat.S_ISDIR(status.st_mode):
                    yield FolderEntry(path, True, 0, status.st_mtime)
                elif stat.S_ISREG(status.st_mode) and status.st_nlink == 1 and self._globs.match(path):
                    yield FolderEntry(path, False, status.st_size, status.st_mtime)

    @contextmanager
    def _root(self) -> Iterator[tuple[int, frozenset[str]]]:
        """A descriptor of the folder, and what in it is not shown.

        Each caller has its own copy, since the one held is closed when another folder took the place of this one.
        """
        try:
            with self._lock:
                status = os.stat(self._folder)
                if self._held is None or self._held[1] != (status.st_dev, status.st_ino):
                    held = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                    opened = os.fstat(held)
                    if self._close is not None:
                        self._close()
                    self._close = weakref.finalize(self, os.close, held)
                    self._held = (held, (opened.st_dev, opened.st_ino), self._hidden())
                root, hidden = os.dup(self._held[0]), self._held[2]
        except OSError as error:
            raise SourceUnavailable(f"the folder of {self._name} cannot be opened: {error.strerror}") from None
        try:
            yield root, hidden
        finally:
            os.close(root)

    def _hidden(self) -> frozenset[str]:
        root = os.path.realpath(self._folder)
        found = (os.path.relpath(os.path.realpath(path), root) for path in self._passed_over)
        return frozenset(path for path in found if not path.startswith(".."))

    def _check_shown(self, path: str, hidden: frozenset[str]) -> None:
        if any(path == other or path.startswith(f"{other}/") for other in hidden):
            raise FileGone(f"{self._name} has no file {path[:200]!r}")

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ESTALE):
                raise FileGone(f"{self._name} has no {what[:200]!r}") from None
            if error.errno in (errno.ELOOP, errno.EXDEV, errno.EMLINK, errno.ENXIO, errno.ENAMETOOLONG):
                raise PathRefused(f"{what[:200]!r} is a link or no plain file", param="path") from None
            if error.errno in (errno.EACCES, errno.EPERM):
                raise PathRefused(f"{what[:200]!r} of {self._name} may not be read by the server") from None
            raise SourceUnavailable(f"{self._name} cannot be read: {error.strerror}") from None


def version_of(status: os.stat_result) -> str:
    """A sign of a file's content that changes when the file does."""
    return f"{status.st_mtime_ns}:{status.st_ctime_ns}:{status.st_size}"


def _check_plain(status: os.stat_result, path: str, size_max: int) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise PathRefused(f"{path[:200]!r} is not a plain file", param="path")
    if status.st_nlink != 1:  # a hard link may show a file of elsewhere; a removed file has none
        raise PathRefused(f"{path[:200]!r} has more than one name, or was removed", param="path")
    if status.st_size > size_max:
        raise FileTooLarge(f"{path[:200]!r} is over {size_max} bytes", param="path")


def _pread(file: int, offset: int, bytes_max: int) -> bytes:
    pieces = []
    left = bytes_max
    while left > 0 and (piece := os.pread(file, min(left, 1 << 20), offset)):
        pieces.append(piece)
        offset += len(piece)
        left -= len(piece)
    return b"".join(pieces)
