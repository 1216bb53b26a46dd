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
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

START_S = 60.0
STOP_S = 30.0


@dataclass(frozen=True)
class MariadbServer:
    """A server that runs. ``folder`` is its own."""

    folder: Path

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


@contextmanager
def mariadb_server(*options: str) -> Iterator[MariadbServer]:
    """Start a server, stop it afterwards."""
    daemon = shutil.which("mariadbd") or "/usr/sbin/mariadbd"
    folder = Path(tempfile.mkdtemp(prefix="rb-maria-"))
    data = folder / "data"
    user = ["--user=root"] if os.geteuid() == 0 else []
    try:
        subprocess.run(
            ["mariadb-install-db", "--no-defaults", *user, f"--datadir={data}", "--skip-test-db",
             "--auth-root-authentication-method=normal"],
            check=True, capture_output=True, timeout=START_S,
        )  # fmt: skip
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(
                [
                    *(daemon, "--no-defaults", *user, f"--datadir={data}", f"--socket={folder / 's.sock'}"),
                    *("--skip-networking", f"--pid-file={folder / 'pid'}", "--innodb-buffer-pool-size=16M"),
                    *("--skip-log-bin", "--performance-schema=OFF", *options),
                ],
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )
        try:
            _wait(server, folder)
            yield MariadbServer(folder)
        finally:
            server.send_signal(signal.SIGTERM)
            try:
                server.wait(STOP_S)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait(server: subprocess.Popen[bytes], folder: Path) -> None:
    until = time.monotonic() + START_S
    while not _answers(folder):
        if server.poll() is not None or time.monotonic() > until:
            raise RuntimeError((folder / "log").read_text(errors="replace")[-2000:])
        time.sleep(0.05)


def _answers(folder: Path) -> bool:
    async def ask() -> bool:
        try:
            await MariadbServer(folder).ask("SELECT 1")
        except Exception:  # whatever a server that starts says
            return False
        return True

    return (folder / "s.sock").exists() and asyncio.run(ask())
