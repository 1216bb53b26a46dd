"""A MariaDB server of the tests' own: a temporary data folder, a socket in it, no network; gone afterwards."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

START_S = 60.0
STOP_S = 30.0
USER = ["--user=root"] if os.geteuid() == 0 else []


class MariadbServer:
    """A server that runs. ``folder`` is its own."""

    def __init__(self, folder: Path, options: Sequence[str] = ()) -> None:
        self.folder = folder
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> str:
        return str(self.folder / "s.sock")

    def dsn(self, user: str, password: str = "pw", database: str = "shop") -> str:
        return f"mysql://{user}:{password}@localhost/{database}?socket={self.socket}"

    async def ask(self, sql: str, args: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """As the administrator, in a connection of its own."""
        import asyncmy

        connection = await asyncmy.connect(unix_socket=self.socket, user="root", autocommit=True)
        try:
            cursor = connection.cursor()
            await cursor.execute(sql, args or None)
            return list(await cursor.fetchall()) if cursor.description else []
        finally:
            await connection.ensure_closed()

    def start(self) -> None:
        """Run on what the folder holds; returns when it answers."""
        daemon = shutil.which("mariadbd") or "/usr/sbin/mariadbd"
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *(daemon, "--no-defaults", *USER, f"--datadir={self.folder / 'data'}", f"--socket={self.socket}"),
                    *("--skip-networking", f"--pid-file={self.folder / 'pid'}", "--innodb-buffer-pool-size=16M"),
                    *("--skip-log-bin", "--performance-schema=OFF", *self._options),
                ],
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )
        until = time.monotonic() + START_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > until:
                raise RuntimeError((self.folder / "log").read_text(errors="replace")[-2000:])
            time.sleep(0.05)

    def signal(self, number: int) -> None:
        """Send the process a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it as a crash would."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """End it in good order."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def _answers(self) -> bool:
        async def ask() -> bool:
            try:
                await self.ask("SELECT 1")
            except Exception:  # whatever a server that starts says
                return False
            return True

        # A thread, as a test that starts a server may run in a loop of its own.
        with ThreadPoolExecutor(1) as thread:
            return (self.folder / "s.sock").exists() and thread.submit(asyncio.run, ask()).result()


@contextmanager
def mariadb_server(*options: str) -> Iterator[MariadbServer]:
    """Start a server, stop it afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="rb-maria-"))
    server = MariadbServer(folder, options)
    try:
        subprocess.run(
            ["mariadb-install-db", "--no-defaults", *USER, f"--datadir={folder / 'data'}", "--skip-test-db",
             "--auth-root-authentication-method=normal"],
            check=True, capture_output=True, timeout=START_S,
        )  # fmt: skip
        try:
            server.start()
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
