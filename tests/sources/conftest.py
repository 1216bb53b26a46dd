"""Fixtures of the room: a relay that plays a server that refuses or hangs, and the check that no socket is left."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

import pytest

from roadbed.kernel import breaker as breakers
from roadbed.sources.pool import PoolSettings

# As shipped, but with rests of which a test can wait for several.
QUICK = PoolSettings(
    connect_s=20.0,
    probe_s=20.0,
    breaker=breakers.BreakerSettings(failures_in_a_row_max=3, open_s=0.05, open_s_max=0.05, recovery=()),
)


class Relay:
    """A TCP address before the embedded server. ``mode`` says what happens to those who connect."""

    def __init__(self, dsn: str) -> None:
        parts = urlsplit(dsn)
        query = parse_qs(parts.query)
        self._socket = f"{query['host'][0]}/.s.PGSQL.{query.get('port', ['5432'])[0]}"
        self._credentials = parts.netloc.rpartition("@")[0]
        self._database = parts.path
        self._server: asyncio.Server | None = None
        self._port = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self.mode: Literal["forward", "silent"] = "forward"
        self.connections = 0

    @property
    def dsn(self) -> str:
        return f"postgresql://{self._credentials}@127.0.0.1:{self._port}{self._database}?sslmode=disable"

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Refuse new connections and cut those that there are."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        opened = [writer]
        try:
            if self.mode == "silent":
                while await reader.read(65536):
                    pass
                return
            from_server, to_server = await asyncio.open_unix_connection(self._socket)
            opened.append(to_server)
            await asyncio.gather(_copy(reader, to_server), _copy(from_server, writer))
        except asyncio.CancelledError:
            pass
        finally:
            for stream in opened:
                stream.transport.abort()
            self._tasks.discard(task)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@pytest.fixture
async def relay(empty_dsn: str) -> AsyncIterator[Relay]:
    relay = Relay(empty_dsn)
    await relay.start()
    yield relay
    await relay.stop()


@pytest.fixture(autouse=True)
async def no_leaked_sockets() -> AsyncIterator[None]:
    """Fail when a socket of the test is still open at its end."""
    before = _sockets()
    yield
    for _ in range(2000):
        if not _sockets() - before:
            return
        await asyncio.sleep(0.01)
    pytest.fail(f"leaked sockets: {sorted(_sockets() - before)}")


def _sockets() -> set[str]:
    found = set()
    for path in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            target = os.readlink(path)
            if target.startswith("socket:"):
                found.add(target)
    return found


async def until(condition: Any) -> None:
    """Return when an async condition holds."""
    async with asyncio.timeout(60):
        while not await condition():  # noqa: ASYNC110 - what is waited for happens in another process
            await asyncio.sleep(0.01)
