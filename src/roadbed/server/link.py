"""The connection between the process that owns a deployment and one that serves: what is said, and how it travels.

One end of a socket pair each, inherited; frames of a length and msgpack. The owner says how to serve and what changed,
a serving process says that it is ready and hands its metrics over. Secrets travel here and nowhere else. The invariant:
when one side is gone, the other learns it by the end of the stream.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import TypeAlias

import msgspec

from roadbed.gateway.local_engines import FoundEngine
from roadbed.gateway.orders import EndpointOrder
from roadbed.kernel.errors import RoadbedError
from roadbed.releases.manifest import Manifest
from roadbed.sources.registry import SourceHealth

FRAME_BYTES_MAX = 32 * 1024 * 1024
UNSENT_BYTES_MAX = 64 * 1024 * 1024
_LENGTH = struct.Struct(">I")


class WorkerLost(RoadbedError):
    """A serving process ended or could not be reached."""

    code = "server.worker_lost"
    hint = "the log of `roadbed up` says why it ended"


class Deployment(msgspec.Struct, frozen=True, tag=True):
    """What the owner knows and all serving processes have to agree on."""

    manifest: Manifest
    engines: tuple[FoundEngine, ...] = ()
    watched: frozenset[str] = frozenset()
    problem: str | None = None
    running: int = 0
    orders: tuple[EndpointOrder, ...] = ()
    policies: dict[str, str] = {}
    canary: str = ""
    waits_for_disk: bool = False


class Start(msgspec.Struct, frozen=True, tag=True):
    """How to serve. ``dsn`` holds a password."""

    number: int
    workers: int
    workspace: str
    state: str
    dsn: str
    schema: str
    host: str
    url: str
    tls_cert: str | None
    tls_key: str | None
    tls_client_ca: str | None
    tls_client_crl: str | None
    tls_client_required: bool
    behind_proxy: bool
    deployment: Deployment


class Drain(msgspec.Struct, frozen=True, tag=True):
    """Finish what is under way and end; with ``is_forced``, at once."""

    is_forced: bool = False


class GiveMetrics(msgspec.Struct, frozen=True, tag=True):
    """Say your metrics; answered by `Metrics` with the same number."""

    number: int


class MetricsText(msgspec.Struct, frozen=True, tag=True):
    """Metrics as Prometheus text: one process's to the owner, the sum of all to a process that asked."""

    number: int
    text: str


class SourcesSeen(msgspec.Struct, frozen=True, tag=True):
    """How the owner's connections to the declared data systems are."""

    states: tuple[SourceHealth, ...]


class GiveOrder(msgspec.Struct, frozen=True, tag=True):
    """What an operator told an endpoint, for the owner to tell all."""

    order: EndpointOrder


class Ready(msgspec.Struct, frozen=True, tag=True):
    """Requests are served from now on."""


class Failed(msgspec.Struct, frozen=True, tag=True):
    """A serving process cannot start, and ends."""

    message: str


Message: TypeAlias = Start | Deployment | SourcesSeen | GiveOrder | Drain | GiveMetrics | MetricsText | Ready | Failed
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)
_encoder = msgspec.msgpack.Encoder()


class Link:
    """One end. Reading is one task's business; `send` may be called from anywhere on the loop."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, end: socket.socket) -> Link:
        """Take over one end of a socket pair."""
        return cls(*await asyncio.open_unix_connection(sock=end))

    def send(self, message: Message) -> None:
        """Send without waiting. To a side that is gone nothing is sent; one that does not read is given up."""
        if self._writer.is_closing():
            return
        body = _encoder.encode(message)
        self._writer.write(_LENGTH.pack(len(body)) + body)
        if self._writer.transport.get_write_buffer_size() > UNSENT_BYTES_MAX:
            self._writer.transport.abort()

    async def receive(self) -> Message | None:
        """The next message; None when the other side is gone."""
        try:
            (length,) = _LENGTH.unpack(await self._reader.readexactly(_LENGTH.size))
            if length > FRAME_BYTES_MAX:
                return None
            return _decoder.decode(await self._reader.readexactly(length))
        except (asyncio.IncompleteReadError, OSError):
            return None

    async def flush(self) -> None:
        """Wait until what was sent is with the system, or the other side is gone."""
        try:
            await self._writer.drain()
        except OSError:
            return

    def close(self) -> None:
        """End it; the other side sees the end of the stream."""
        self._writer.close()
