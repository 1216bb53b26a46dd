"""Accepting connections from a listening socket, which several processes may share, so that each gets its part.

Every process that waits on a shared socket is woken by a connection, and whoever wakes first would take a whole burst.
So a process that has a `Seat` takes one connection at a time, and leaves it to those who have fewer for `PATIENCE_S`;
one that is alone takes up to `BURST_MAX`. How many each has stands in a page of memory that all of them map
(`Seats`). No connection is bound to a process before it is accepted, so one that dies loses only what it had taken.
The invariant: a connection that waits is taken by somebody within about `PATIENCE_S`, whatever the others do.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import mmap
import os
import socket
import ssl
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from roadbed.wire.direct import DirectLoop, DirectTransport

SEATS_MAX = 256
PATIENCE_S = 0.002
BURST_MAX = 64
EXHAUSTED_PAUSE_S = 1.0
AWAY = -1
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

log = logging.getLogger("roadbed.wire")


def is_our_turn(ours: int, all_counts: Iterable[int]) -> bool:
    """Whether nobody who accepts has fewer connections than ``ours``. Those who do not accept count as `AWAY`."""
    return all(count == AWAY or ours <= count for count in all_counts)


class Seats:
    """How many connections each process has. One 32-bit cell for each, written by its process alone (and cleared by
    the process that started it, once it has ended).
    """

    def __init__(self, descriptor: int, size: int) -> None:
        self.descriptor = descriptor
        self._memory = mmap.mmap(descriptor, mmap.PAGESIZE)
        self._cells = memoryview(self._memory).cast("i")
        self._size = size

    @classmethod
    def create(cls, size: int) -> Seats:
        """Shared memory for ``size`` processes, all away; hand its descriptor on by inheritance."""
        if not 0 < size <= SEATS_MAX:
            raise ValueError(f"1 to {SEATS_MAX} processes share a socket")
        with tempfile.TemporaryFile() as file:
            file.truncate(mmap.PAGESIZE)
            seats = cls(os.dup(file.fileno()), size)
        for index in range(size):
            seats.set(index, AWAY)
        return seats

    def set(self, index: int, count: int) -> None:
        """Say how many connections a process has, or that it is `AWAY`."""
        self._cells[index] = count

    def counts(self) -> list[int]:
        """What each process has said."""
        return self._cells[: self._size].tolist()

    def close(self) -> None:
        """Let go of the memory and its descriptor."""
        self._cells.release()
        self._memory.close()
        os.close(self.descriptor)


@dataclass(frozen=True, slots=True)
class Seat:
    """One process's place among those that share a listening socket."""

    seats: Seats
    index: int


class Acceptor:
    """Accepts from a socket for one process."""

    def __init__(
        self,
        listener: socket.socket,
        make_protocol: Callable[[], asyncio.Protocol],
        count: Callable[[], int],
        seat: Seat | None = None,
        *,
        tls: ssl.SSLContext | None = None,
        tls_handshake_s: float | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._listener = listener
        self._make_protocol = make_protocol
        self._count = count
        self._seat = seat
        self._tls = tls
        self._tls_handshake_s = tls_handshake_s if tls is not None else None
        self._opening: set[asyncio.Task[None]] = set()
        self._pause: asyncio.TimerHandle | None = None
        self._is_closed = False
        listener.setblocking(False)
        self.publish()
        self._loop.add_reader(listener, self._on_readable)

    def publish(self) -> None:
        """Say how many connections this process has; call it now and then, for connections end without a word."""
        if self._seat is not None and not self._is_closed:
            self._seat.seats.set(self._seat.index, self._count() + len(self._opening))

    def take_tls(self, context: ssl.SSLContext) -> None:
        """Open connections by this context from now on."""
        self._tls = context

    async def close(self, wait_s: float) -> None:
        """Accept no more here; other processes go on. What is being opened gets ``wait_s`` to become a connection."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._seat is not None:
            self._seat.seats.set(self._seat.index, AWAY)
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._listener)
        self._listener.close()
        if self._opening:
            await asyncio.wait(self._opening, timeout=wait_s)

    def _on_readable(self) -> None:
        seat = self._seat
        if seat is None:
            for _ in range(BURST_MAX):
                if not self._accept():
                    return
            return
        self.publish()
        if is_our_turn(self._count() + len(self._opening), seat.seats.counts()):
            self._accept()
        else:
            self._wait(PATIENCE_S)

    def _wait(self, seconds: float) -> None:
        # The socket stays readable until somebody accepts: without this, the loop would spin.
        self._loop.remove_reader(self._listener)
        self._pause = self._loop.call_later(seconds, self._resume)

    def _resume(self) -> None:
        self._pause = None
        self._loop.add_reader(self._listener, self._on_readable)
        self._accept()

    def _accept(self) -> bool:
        """Take one connection; false where there is none to be had."""
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return False
        except OSError as error:
            if error.errno not in _EXHAUSTED:
                raise
            log.error("connections wait: %s", error.strerror)
            self._wait(EXHAUSTED_PAUSE_S)
            return False
        connection.setblocking(False)
        if self._tls is None and isinstance(self._loop, DirectLoop):
            DirectTransport(self._loop, connection, self._make_protocol())
        else:
            task = self._loop.create_task(self._open(connection))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)
        self.publish()
        return True

    async def _open(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(
                self._make_protocol, connection, ssl=self._tls, ssl_handshake_timeout=self._tls_handshake_s
            )
        except OSError:  # the client left, or does not speak TLS: nobody is there to be told
            connection.close()
