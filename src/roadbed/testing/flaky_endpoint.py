"""A TCP endpoint with the faults of networks and not of models: refuses, swallows, resets, cuts.

Stands alone or in front of another server on loopback, whose bytes it forwards until the fault. The fault can be
changed while it runs. Tests of the gateway and of the wire client use it; model faults (429, silence after the head,
garbage) are the scripted model's.
"""

from __future__ import annotations

import asyncio
import atexit
import functools
import socket
import struct
from types import TracebackType
from typing import Literal

Fault = Literal["none", "black_hole", "reset", "close", "drip"]
CutBy = Literal["reset", "close"]
READ_BYTES = 64 * 1024


def refused_port() -> int:
    """A loopback port on which nothing listens, nor will as long as this process lives."""
    return int(_kept().getsockname()[1])


@functools.cache
def _kept() -> socket.socket:
    """A socket that is bound and listens never: a port that is given back is soon somebody else's."""
    kept = socket.socket()
    atexit.register(kept.close)
    kept.bind(("127.0.0.1", 0))
    return kept


class FlakyEndpoint:
    """``fault`` holds for new connections; ``cut_after_bytes`` ends a forwarded response after so many bytes, with a
    reset or, by ``cut_by``, an orderly close. ``drip`` forwards a response byte by byte.
    """

    def __init__(
        self,
        target_port: int = 0,
        *,
        fault: Fault = "none",
        cut_after_bytes: int | None = None,
        cut_by: CutBy = "reset",
    ) -> None:
        self.fault: Fault = fault
        self.cut_after_bytes = cut_after_bytes
        self.cut_by: CutBy = cut_by
        self.connections = 0
        self.port = 0
        self._target_port = target_port
        self._server: asyncio.Server | None = None
        self._has_cut_orderly = False
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def root(self) -> str:
        """``http://127.0.0.1:PORT``."""
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> FlakyEndpoint:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        server, self._server = self._server, None
        server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await server.wait_closed()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            match self.fault:
                case "reset":
                    _reset(writer)
                case "black_hole":
                    while await reader.read(READ_BYTES):
                        pass
                case "none" | "drip":
                    await self._forward(reader, writer)
        except ConnectionError:
            pass
        except asyncio.CancelledError:
            if self._server is not None:
                raise
        finally:
            self._tasks.discard(task)
            writer.close() if self.fault == "close" or self._has_cut_orderly else writer.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        out = asyncio.ensure_future(_pump(reader, upstream_writer))
        try:
            left = self.cut_after_bytes
            while data := await upstream_reader.read(READ_BYTES):
                if left is not None and len(data) >= left:
                    writer.write(data[:left])
                    await writer.drain()
                    self._has_cut_orderly = self.cut_by == "close"
                    return
                left = None if left is None else left - len(data)
                for piece in [data[at : at + 1] for at in range(len(data))] if self.fault == "drip" else [data]:
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0)
        finally:
            out.cancel()
            upstream_writer.transport.abort()
            await asyncio.gather(out, return_exceptions=True)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(READ_BYTES):
        writer.write(data)
        await writer.drain()
    writer.transport.abort()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with a reset instead of an orderly end."""
    raw = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
