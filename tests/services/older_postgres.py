"""A PostgreSQL of another version for the tests: a temporary cluster, a socket in it, no network; gone afterwards.

It offers what tests use of the embedded server, with the same roles and databases. Its programs lie in one folder
(`ROADBED_TEST_POSTGRES`), which `tests/services/install_postgres15.sh` fills.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import asyncpg

from roadbed.store import embedded_roles as roles
from roadbed.store import postgres_process as processes
from roadbed.store.embedded import EmbeddedDatabase

START_S = 60.0
STOP_S = 30.0
LONG_S = 120.0
PASSWORD = "older"
NEWER_SETTINGS = ("io_method", "scram_iterations")


class OlderPostgres:
    """A server that `start` starts. ``install`` holds its programs in ``bin``; ``folder`` is its own."""

    def __init__(self, install: Path, folder: Path, settings: Mapping[str, str]) -> None:
        self.folder = folder
        self._account = processes.choose_account(folder / "data")
        self._user = self._account.uid if self._account else None
        self._bin = processes.reachable_install(install, self._account, folder) / "bin"
        self._settings = {**roles.SETTINGS, **settings, "unix_socket_directories": str(folder)}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The server's process id."""
        assert self._process is not None
        return self._process.pid

    @property
    def dsn(self) -> str:
        """The connection string of the application's role."""
        return self._dsn(roles.APPLICATION_ROLE, roles.APPLICATION_DATABASE)

    def make(self) -> None:
        """A new cluster, with the application's role and database."""
        secret = self.folder / "initial-password"
        secret.write_text(PASSWORD)
        for path in (self.folder, secret):
            processes.give_to(self._account, path)
        subprocess.run(
            [self._bin / "initdb", "-D", self.folder / "data", f"--username={roles.SUPERUSER}", f"--pwfile={secret}",
             "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-instructions"],
            check=True, capture_output=True, timeout=LONG_S, user=self._user, cwd=self.folder,
        )  # fmt: skip
        self.start()
        asyncio.run(roles.prepare_application(self.superuser, PASSWORD))

    def start(self) -> None:
        """Run on what the folder holds; returns when it answers."""
        chosen = [f"-c{name}={value}" for name, value in self._settings.items() if name not in NEWER_SETTINGS]
        with (self.folder / "log").open("ab") as log:
            ids = (self._account.uid, self._account.gid) if self._account else (-1, -1)
            self._process = subprocess.Popen(
                # It ends with this process, even with one that is killed.
                [sys.executable, "-I", "-S", processes.LAUNCHER, *map(str, (os.getpid(), *ids)), self.folder,
                 self._bin / "postgres", "-D", self.folder / "data", *chosen],
                stdout=log, stderr=log,
            )  # fmt: skip
        until = time.monotonic() + START_S
        while not asyncio.run(self._answers()):
            if self._process.poll() is not None or time.monotonic() > until:
                raise RuntimeError((self.folder / "log").read_text(errors="replace")[-2000:])
            time.sleep(0.05)

    def kill(self) -> None:
        """End it as a crash would; its other processes leave by themselves."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(STOP_S)

    def stop(self) -> None:
        """End it in good order."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()

    async def create_database(self, name: str) -> EmbeddedDatabase:
        """As `EmbeddedPostgres.create_database`."""
        await roles.prepare_database(self.superuser, name, roles.RolePasswords(PASSWORD, PASSWORD))
        owner, reader = (self._dsn(role(name), name) for role in (roles.owner_role, roles.reader_role))
        return EmbeddedDatabase(name, owner, reader)

    @asynccontextmanager
    async def superuser(self, database: str) -> AsyncIterator[Any]:
        """A connection as superuser."""
        connection = await asyncpg.connect(self._dsn(roles.SUPERUSER, database), timeout=10, command_timeout=60)
        try:
            yield connection
        finally:
            await connection.close(timeout=5)

    def _dsn(self, role: str, database: str) -> str:
        return f"postgresql://{role}:{PASSWORD}@/{database}?host={self.folder}"

    async def _answers(self) -> bool:
        try:
            async with self.superuser("postgres"):
                return True
        except (OSError, asyncpg.PostgresError):
            return False


@contextmanager
def older_postgres(install: Path, settings: Mapping[str, str]) -> Iterator[OlderPostgres]:
    """Make a server, stop it afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="rb-pg-"))
    server = OlderPostgres(install, folder, settings)
    try:
        server.make()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
