"""The embedded PostgreSQL: one private server per state folder, started, supervised and stopped by `roadbed up`.

It makes the cluster, its roles and its databases, and hands out connection strings; `store/postgres_process.py` knows
the processes. No TCP, a socket in a private folder, every role by password, the application's role no superuser.
The invariant: whoever holds STATE's lock owns the server; a server without a living owner is stopped by the kernel or
by the next start, and one that dies under a living owner is back within two seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import shutil
import signal
import stat
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

import asyncpg
import msgspec

from roadbed.kernel.errors import RoadbedError
from roadbed.store import embedded_roles as roles
from roadbed.store import errors
from roadbed.store import postgres_process as processes
from roadbed.store.embedded_roles import APPLICATION_DATABASE, APPLICATION_ROLE, SUPERUSER
from roadbed.store.state import StateLock, explain_os_error, make_private_folder, write_private_file

SOCKET_PATH_BYTES_MAX = 107
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 15.0
RESTART_DELAY_S_MAX = 5.0
LEFTOVERS_WAIT_S = 2.0
LOG_BYTES_MAX = 1024 * 1024

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EmbeddedDatabase:
    """A database made by `create_database`: the owner may change it, the reader may only read it."""

    name: str
    owner_dsn: str
    reader_dsn: str

    def __repr__(self) -> str:
        return f"EmbeddedDatabase({self.name!r})"


class EmbeddedPostgres:
    """The PostgreSQL of one state folder; an async context manager that starts and stops it.

    ``lock`` is STATE's lock when the caller holds it already; else `start` takes it. ``install`` is the folder of
    PostgreSQL's programs, by default the wheel's. ``settings`` override `embedded_roles.SETTINGS` (tests: no fsync).
    """

    def __init__(
        self,
        state: Path,
        *,
        lock: StateLock | None = None,
        install: Path | None = None,
        settings: dict[str, str] | None = None,
    ) -> None:
        self.state = state.absolute()
        self.folder = self.state / "postgres"
        self.data = self.folder / "data"
        self.log = self.folder / "server.log"
        self.restarts = 0
        self._lock = lock
        self._owns_lock = lock is None
        self._install = install
        self._settings = {**roles.SETTINGS, **(settings or {})}
        self._account: processes.Account | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._socket_folder: Path | None = None
        self._passwords: roles.Passwords | None = None

    @property
    def is_running(self) -> bool:
        """Whether the server process lives just now."""
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int | None:
        """The server's process id, for `roadbed doctor` and drills."""
        return self._process.pid if self._process is not None and self.is_running else None

    @property
    def dsn(self) -> str:
        """The connection string of the application's role. It holds a password: never log it."""
        return self._dsn(APPLICATION_ROLE, self._known_passwords().application, APPLICATION_DATABASE)

    @property
    def socket_folder(self) -> Path | None:
        """The private folder of the server's socket, while there is one."""
        return self._socket_folder

    async def start(self) -> None:
        """Start the server, making the cluster first where there is none. A typed error leaves nothing running."""
        if self._process is not None:
            raise RuntimeError("this EmbeddedPostgres was started already")
        if self._lock is None:
            self._lock = StateLock.acquire(self.state)
        self._stopping.clear()
        async with contextlib.AsyncExitStack() as on_failure:
            on_failure.push_async_callback(self.stop)
            await self._prepare()
            await self._launch()
            await self._prepare_roles()
            on_failure.pop_all()
        self._supervisor = asyncio.create_task(self._supervise(), name="embedded-postgres-supervisor")

    async def stop(self) -> None:
        """Fast shutdown, then whatever it takes; releases the lock that `start` took. Safe to call twice."""
        self._stopping.set()
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.gather(self._supervisor, return_exceptions=True)
            self._supervisor = None
        await self._stop_process()
        if self._socket_folder is not None:
            shutil.rmtree(self._socket_folder, ignore_errors=True)
            self._socket_folder = None
        if self._owns_lock and self._lock is not None:
            self._lock.release()
            self._lock = None

    async def __aenter__(self) -> EmbeddedPostgres:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def create_database(self, name: str) -> EmbeddedDatabase:
        """The database ``name`` with its owner and its read-only role, made where missing (``dsn: embedded:NAME``).

        Neither role can enter another database; the reader sees every table that the owner makes in ``public``.
        """
        roles.check_database_name(name)
        passwords = self._known_passwords()
        if name not in passwords.databases:
            passwords.databases[name] = roles.RolePasswords(roles.new_password(), roles.new_password())
            self._write_passwords(passwords)
        passwords_of = passwords.databases[name]
        await roles.prepare_database(self.superuser, name, passwords_of)
        owner_dsn = self._dsn(roles.owner_role(name), passwords_of.owner, name)
        reader_dsn = self._dsn(roles.reader_role(name), passwords_of.reader, name)
        return EmbeddedDatabase(name, owner_dsn, reader_dsn)

    # -- preparing ----------------------------------------------------------------------------------------------------

    async def _prepare(self) -> None:
        make_private_folder(self.folder)
        self._account = processes.choose_account(self.data)
        await processes.stop_orphan(self.data)
        self._socket_folder = self._make_socket_folder()
        install = self._install or processes.find_install()
        self._install = processes.reachable_install(install, self._account, self._socket_folder)
        try:
            self._rotate_log()
        except OSError as error:
            raise explain_os_error(error, self.folder) from None
        if self.data.exists():
            self._check_data()
            try:
                processes.take_back(self._account, self.data)
            except OSError as error:
                raise explain_os_error(error, self.folder) from None
            self._passwords = self._read_passwords()
        else:
            await self._initialize()

    def _check_data(self) -> None:
        try:
            version = (self.data / "PG_VERSION").read_text("ascii").strip()
        except (OSError, UnicodeDecodeError):
            raise errors.StateDamaged(f"{self.data} is not a whole PostgreSQL data folder (PG_VERSION)") from None
        if not version.isdigit() or not (self.data / "global" / "pg_control").is_file():
            raise errors.StateDamaged(f"{self.data} is not a whole PostgreSQL data folder")
        if int(version) != processes.POSTGRES_MAJOR:
            raise errors.PostgresVersionMismatch(
                f"{self.data} was written by PostgreSQL {version}, this build brings {processes.POSTGRES_MAJOR}"
            )

    async def _initialize(self) -> None:
        """A new cluster, made beside its place and moved there when it is whole: a killed start leaves no half one."""
        assert self._socket_folder is not None
        assert self._install is not None
        passwords = roles.Passwords(roles.new_password(), roles.new_password())
        self._write_passwords(passwords)
        fresh = self.folder / "data.new"
        password_file = self._socket_folder / "initial-password"
        try:
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir(mode=0o700)
            processes.give_to(self._account, fresh)
            write_private_file(password_file, passwords.superuser.encode())
            processes.give_to(self._account, password_file)
            await processes.run_initdb(self._install, fresh, self._account, password_file, SUPERUSER, self.log)
            hba = fresh / "pg_hba.conf"
            hba.write_text("local all all scram-sha-256\n", "ascii")
            fresh.rename(self.data)
        except OSError as error:
            raise explain_os_error(error, self.folder) from None
        finally:
            password_file.unlink(missing_ok=True)
        self._passwords = passwords

    async def _prepare_roles(self) -> None:
        """The application's role, database and vector extension; once per cluster, every step may be repeated."""
        done = self.folder / "prepared"
        if done.exists():
            return
        await roles.prepare_application(self.superuser, self._known_passwords().application)
        write_private_file(done, b"1\n")

    def _make_socket_folder(self) -> Path:
        """A folder for the socket that is ours alone, on a path short enough for a socket's address."""
        digest = hashlib.sha256(os.fsencode(self.state.resolve())).hexdigest()[:12]
        name = f"rb-{os.geteuid()}-{digest}"
        runtime = os.environ.get("XDG_RUNTIME_DIR", "")
        for base in (Path(runtime) if runtime else None, Path("/tmp")):  # noqa: S108 - owner and mode are checked
            if base is None or (self._account is not None and not self._account.may_enter(base)):
                continue
            folder = base / name
            if len(os.fsencode(folder / f".s.PGSQL.{processes.PORT}")) > SOCKET_PATH_BYTES_MAX:
                continue
            try:
                if folder.is_symlink() or (folder.exists() and not self._is_own(folder)):
                    folder = Path(tempfile.mkdtemp(prefix="rb-", dir=base))  # someone squats on the name
                elif folder.exists():
                    shutil.rmtree(folder)
                folder.mkdir(mode=0o700, exist_ok=True)
                processes.give_to(self._account, folder)
            except OSError:
                continue
            return folder
        raise errors.SocketUnusable("neither $XDG_RUNTIME_DIR nor /tmp takes a private folder for PostgreSQL's socket")

    def _is_own(self, folder: Path) -> bool:
        status = folder.lstat()
        owners = {os.geteuid(), self._account.uid if self._account else os.geteuid()}
        return stat.S_ISDIR(status.st_mode) and status.st_uid in owners and stat.S_IMODE(status.st_mode) == 0o700

    def _rotate_log(self) -> None:
        if self.log.exists() and self.log.stat().st_size > LOG_BYTES_MAX:
            self.log.replace(self.log.with_suffix(".log.1"))

    # -- the process --------------------------------------------------------------------------------------------------

    async def _launch(self) -> None:
        """Start the server and wait until it takes connections. A typed error when it ends instead."""
        deadline_s = asyncio.get_running_loop().time() + LEFTOVERS_WAIT_S
        while True:
            try:
                await self._launch_once()
                return
            except errors.StateInUse:
                # Backends of a killed server leave by themselves within moments.
                if asyncio.get_running_loop().time() > deadline_s:
                    raise
                await processes.stop_orphan(self.data)

    async def _launch_once(self) -> None:
        assert self._install is not None
        assert self._socket_folder is not None
        settings = {**self._settings, "unix_socket_directories": str(self._socket_folder), "port": str(processes.PORT)}
        arguments = ["-D", processes.data_argument(self.data, self._account)]
        for name, value in settings.items():
            arguments += ["-c", f"{name}={value}"]
        begin = self.log.stat().st_size if self.log.exists() else 0
        program = self._install / "bin" / "postgres"
        try:
            self._process = await processes.launch(program, arguments, self.data, self._account, self.log)
        except OSError as error:
            raise explain_os_error(error, self.folder) from None
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                while processes.read_postmaster(self.data) != (self._process.pid, True):
                    if self._process.returncode is not None:
                        raise processes.explain_failure(processes.read_tail(self.log, begin), self.data)
                    await asyncio.sleep(processes.POLL_S)
        except TimeoutError:
            await self._stop_process()
            message = f"PostgreSQL did not get ready within {START_TIMEOUT_S:.0f} s"
            raise errors.PostgresStartFailed(message) from None

    async def _supervise(self) -> None:
        """Start the server again whenever it ends by itself; the first time at once, then with a growing pause."""
        delay_s = 0.0
        while True:
            assert self._process is not None
            started_s = asyncio.get_running_loop().time()
            await self._process.wait()
            if asyncio.get_running_loop().time() - started_s > 2 * RESTART_DELAY_S_MAX:
                delay_s = 0.0
            while True:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), delay_s)
                if self._stopping.is_set():
                    return
                delay_s = min(max(0.1, delay_s * 2), RESTART_DELAY_S_MAX)
                logger.warning("the embedded PostgreSQL ended by itself; starting it again")
                try:
                    await processes.stop_orphan(self.data)
                    await self._launch()
                except (RoadbedError, OSError) as error:
                    logger.error("the embedded PostgreSQL could not be started again: %s", error)
                    continue
                self.restarts += 1
                break

    async def _stop_process(self) -> None:
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        for number, limit_s in ((signal.SIGINT, STOP_TIMEOUT_S), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0)):
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(limit_s):
                    await process.wait()
                return

    # -- passwords and connections ------------------------------------------------------------------------------------

    def _known_passwords(self) -> roles.Passwords:
        if self._passwords is None:
            raise RuntimeError("the embedded PostgreSQL was not started")
        return self._passwords

    def _write_passwords(self, passwords: roles.Passwords) -> None:
        write_private_file(self.folder / "passwords.json", msgspec.json.encode(passwords))

    def _read_passwords(self) -> roles.Passwords:
        try:
            return msgspec.json.decode((self.folder / "passwords.json").read_bytes(), type=roles.Passwords)
        except (OSError, msgspec.MsgspecError):
            raise errors.StateDamaged(f"{self.folder / 'passwords.json'} is missing or damaged") from None

    def _dsn(self, role: str, password: str, database: str) -> str:
        if self._socket_folder is None:
            raise RuntimeError("the embedded PostgreSQL is not running")
        return f"postgresql://{role}:{password}@/{database}?host={quote(str(self._socket_folder), safe='/')}"

    @contextlib.asynccontextmanager
    async def superuser(self, database: str) -> AsyncIterator[Any]:
        """A connection as superuser, to make roles and databases (here, in `roadbed doctor`, in tests); never else."""
        dsn = self._dsn(SUPERUSER, self._known_passwords().superuser, database)
        try:
            connection = await asyncpg.connect(dsn, timeout=10, command_timeout=60)
        except (OSError, TimeoutError, asyncpg.PostgresError) as error:
            raise errors.StoreUnavailable(f"the embedded PostgreSQL refuses: {type(error).__name__}") from None
        try:
            yield connection
        finally:
            await connection.close(timeout=5)
