"""The state folder: where one workspace keeps what is not in git, and the lock that gives it to one `roadbed up`.

`roadbed up` opens it first, with the embedded database and without. It is owned by the calling user, mode 0700, and
nothing outside it is ever changed. The invariant: whoever writes into the folder holds its lock; the lock is a kernel
`flock`, so that it ends with its process and is never stale.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from pathlib import Path
from types import TracebackType

from roadbed.store.errors import StateInUse, StateUnusable, StoreDiskFull

LOCK_FILE = "run/lock"
FOLDER_MODE = 0o700
FILE_MODE = 0o600


def explain_os_error(error: OSError, path: Path) -> StateUnusable | StoreDiskFull:
    """The typed error for a failed file operation at ``path``."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreDiskFull(f"no room left on the disk of {path}")
    return StateUnusable(f"the state folder {path} cannot be used: {error.strerror or type(error).__name__}")


def make_private_folder(path: Path) -> None:
    """Create ``path`` with mode 0700 (parents too), or take an own folder and narrow its mode. `StateUnusable` else."""
    try:
        path.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        status = path.lstat()
        if not stat.S_ISDIR(status.st_mode):
            raise StateUnusable(f"{path} is not a folder")
        if status.st_uid != os.geteuid():
            raise StateUnusable(f"the state folder {path} belongs to another user (uid {status.st_uid})")
        if stat.S_IMODE(status.st_mode) != FOLDER_MODE:
            path.chmod(FOLDER_MODE)
        if not os.access(path, os.W_OK | os.X_OK):
            raise StateUnusable(f"the state folder {path} is not writable")
    except OSError as error:
        raise explain_os_error(error, path) from None


def write_private_file(path: Path, content: bytes) -> None:
    """Replace ``path`` atomically and durably by a file of mode 0600."""
    temporary = path.with_name(path.name + ".new")
    try:
        # A file that somebody laid there before would stay theirs, and with it what is written.
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, FILE_MODE)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise explain_os_error(error, path) from None


def require_free(state: Path) -> None:
    """`StateInUse` where another process holds the folder. A folder that is not there is not made."""
    if (state / LOCK_FILE).exists():
        StateLock.acquire(state).release()


class StateLock:
    """The exclusive right to a state folder, held until `release` or the end of the process."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self._descriptor: int | None = None

    @classmethod
    def acquire(cls, state: Path) -> StateLock:
        """Make the folder where it is missing and lock it. `StateInUse` names the process that holds it."""
        make_private_folder(state)
        make_private_folder(state / "run")
        lock = cls(state)
        path = state / LOCK_FILE
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, FILE_MODE)
        except OSError as error:
            raise explain_os_error(error, path) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        except BlockingIOError:
            holder = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
            os.close(descriptor)
            raise StateInUse(f"the state folder {state} is in use by process {holder or '(unknown)'}") from None
        except OSError as error:
            os.close(descriptor)
            raise explain_os_error(error, path) from None
        lock._descriptor = descriptor
        return lock

    @property
    def is_held(self) -> bool:
        """Whether this object still holds the lock."""
        return self._descriptor is not None

    def release(self) -> None:
        """Give the folder back; harmless when it was given back already."""
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> StateLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
