"""An event loop that calls the connections it reads from by itself, and plain TCP transports for it.

asyncio makes a handle of every event, queues it and runs it in the next step: about 130 of the 200 bytecodes that it
spends on a read. Here the selector, which asyncio lets its caller choose, calls our transports while it looks for
events, and returns only those of others. What transports write in a step is sent at its end, together: one send after
the other finds the peer awake, where each alone would wake it up, which costs more than all the rest of sending. In a
step of one event there is nothing to send together, and what it writes first goes at once. Where the selector is
another one (macOS, tests with their own loops, TLS) asyncio's own transports are used.
The invariant: a transport is called once at most for each time that the kernel says it is ready, and never after its
socket was closed; what was written before the selector waits has been given to the kernel or is held by its transport.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import select
import selectors
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

READ_BYTES_MAX = 64 * 1024
HIGH_WATER_BYTES = 64 * 1024
LOW_WATER_BYTES = 16 * 1024
EVENTS_MAX = 1024
UNSENT_MAX = 32
ROUNDS_MAX = 64
SELECT_S_MAX = 24 * 3600.0
LATE_PIECE_BYTES_MAX = 8 * 1024
LATE_BYTES_MAX = 64 * 1024

OnReady = Callable[[int], None]


class DirectSelector(selectors.BaseSelector):
    """epoll for asyncio's loop, with a second table of descriptors whose callbacks it runs in place.

    ``unsent`` are the transports that have something to send before the selector waits again; ``is_alone`` while the
    only event of a step is looked after and nothing was written.
    """

    def __init__(self) -> None:
        self.loop: DirectLoop | None = None
        self._epoll = select.epoll()
        self._keys: dict[int, selectors.SelectorKey] = {}
        self._direct: dict[int, OnReady] = {}
        self.unsent: list[DirectTransport] = []
        self.is_alone = False

    # Ours.

    def send_all(self) -> bool:
        """Send what was written since the last time. False when that gave the loop something to do."""
        is_quiet = True
        while self.unsent:
            unsent, self.unsent = self.unsent, []
            for transport in unsent:
                is_quiet = transport.send_late() and is_quiet
        return is_quiet

    def watch(self, descriptor: int, on_ready: OnReady) -> None:
        """Call ``on_ready`` with epoll's event mask while ``descriptor`` is readable. It must not raise."""
        self._epoll.register(descriptor, select.EPOLLIN)
        self._direct[descriptor] = on_ready

    def change(self, descriptor: int, events: int, on_ready: OnReady) -> None:
        """Wait for other events (0: none but errors) of a watched descriptor."""
        self._epoll.modify(descriptor, events)
        self._direct[descriptor] = on_ready

    def unwatch(self, descriptor: int) -> None:
        """Forget a descriptor, before it is closed."""
        if self._direct.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    # asyncio's.

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """Wait for ``events`` of a file object. Raises ``KeyError`` when it is registered already."""
        key = selectors.SelectorKey(fileobj, _descriptor(fileobj), events, data)
        if key.fd in self._keys or key.fd in self._direct:
            raise KeyError(f"{fileobj!r} (descriptor {key.fd}) is already registered")
        self._epoll.register(key.fd, _mask(events))
        self._keys[key.fd] = key
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        """Forget a file object. Raises ``KeyError`` when it is not registered."""
        key = self._keys.pop(_descriptor(fileobj))
        with contextlib.suppress(OSError):  # it was closed before: epoll forgot it by itself
            self._epoll.unregister(key.fd)
        return key

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """Wait for other events of a registered file object."""
        before = self._keys[_descriptor(fileobj)]
        if events != before.events:
            self._epoll.modify(before.fd, _mask(events))
        key = self._keys[before.fd] = before._replace(events=events, data=data)
        return key

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Send what was written, wait, call those who are watched, and return the ready keys of others.

        While those who are watched give the loop nothing to do, it waits again by itself, `ROUNDS_MAX` times at most.
        """
        if self.unsent and not self.send_all():
            timeout = 0.0  # what a protocol was told may have scheduled something after the loop chose how long to wait
        ready: list[tuple[selectors.SelectorKey, int]] = []
        for _ in range(ROUNDS_MAX):
            found = self._epoll.poll(_wait_s(timeout), EVENTS_MAX)
            self._call(found, ready)
            if self.unsent:
                self.send_all()
            self.is_alone = False
            loop = self.loop
            if ready or not found or loop is None:
                break
            timeout = loop.idle_s()
            if timeout == 0.0:
                break
        return ready

    def _call(self, found: list[tuple[int, int]], ready: list[tuple[selectors.SelectorKey, int]]) -> None:
        """Call those who are watched, and note the keys of others."""
        direct = self._direct
        self.is_alone = len(found) == 1
        for descriptor, event in found:
            on_ready = direct.get(descriptor)
            if on_ready is not None:
                on_ready(event)
                if len(self.unsent) >= UNSENT_MAX:  # who came first shall not wait for all the others
                    self.send_all()
                continue
            key = self._keys.get(descriptor)
            if key is not None:
                events = (selectors.EVENT_WRITE if event & ~select.EPOLLIN else 0) | (
                    selectors.EVENT_READ if event & ~select.EPOLLOUT else 0
                )
                ready.append((key, events & key.events))

    def close(self) -> None:
        """Send what was written, and let go of epoll."""
        self.send_all()
        self._epoll.close()
        self._keys.clear()
        self._direct.clear()

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        """The key of a registered file object. Raises ``KeyError``."""
        return self._keys[_descriptor(fileobj)]

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        """The registered keys by descriptor."""
        return self._keys


def _descriptor(fileobj: Any) -> int:
    descriptor = fileobj if isinstance(fileobj, int) else fileobj.fileno()
    if descriptor < 0:
        raise ValueError(f"invalid file descriptor: {descriptor}")
    return int(descriptor)


def _wait_s(timeout: float | None) -> float:
    """A time to wait as epoll takes it: it counts milliseconds, and would round down to a busy loop."""
    if timeout is None:
        return -1.0
    return 0.0 if timeout <= 0 else math.ceil(timeout * 1e3) * 1e-3


def _mask(events: int) -> int:
    return (select.EPOLLIN if events & selectors.EVENT_READ else 0) | (
        select.EPOLLOUT if events & selectors.EVENT_WRITE else 0
    )


class DirectLoop(asyncio.SelectorEventLoop):
    """asyncio's loop on a `DirectSelector`."""

    def __init__(self) -> None:
        self.selector = DirectSelector()
        super().__init__(self.selector)
        self.time = time.monotonic  # type: ignore[method-assign]  # what asyncio's own does, without a frame
        if all(hasattr(self, name) for name in ("_ready", "_scheduled", "_stopping")):
            self.selector.loop = self

    def idle_s(self) -> float | None:
        """How long there is nothing to do but events; None until one comes. As asyncio says it of itself."""
        if self._ready or self._stopping:  # type: ignore[attr-defined]
            return 0.0
        scheduled = self._scheduled  # type: ignore[attr-defined]
        return max(0.0, min(scheduled[0].when() - self.time(), SELECT_S_MAX)) if scheduled else None


def new_loop() -> asyncio.AbstractEventLoop:
    """The loop to serve with: a `DirectLoop` where there is epoll."""
    return DirectLoop() if hasattr(select, "epoll") else asyncio.new_event_loop()


class DirectTransport(asyncio.Transport):
    """A connected TCP socket on a `DirectLoop`. It behaves as asyncio's own socket transport does."""

    def __init__(self, loop: DirectLoop, connection: socket.socket, protocol: asyncio.Protocol) -> None:
        super().__init__()
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._loop = loop
        self._selector = loop.selector
        self._socket = connection
        self._descriptor = connection.fileno()
        self._receive = connection.recv
        self._send = connection.send
        self._late = b""
        self._buffer = bytearray()
        self._high, self._low = HIGH_WATER_BYTES, LOW_WATER_BYTES
        self._is_direct = True
        self._is_closing = self._is_lost = self._is_paused = self._is_eof = self._is_held_back = False
        self._names: dict[str, Any] = {"socket": connection}
        for name, ask in (("sockname", connection.getsockname), ("peername", connection.getpeername)):
            try:
                self._names[name] = ask()
            except OSError:
                self._names[name] = None
        self.set_protocol(protocol)
        self._selector.watch(self._descriptor, self._read)
        protocol.connection_made(self)

    # Reading.

    def _read(self, event: int) -> None:
        try:
            data = self._receive(READ_BYTES_MAX)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._lose(error)
            return
        try:
            if data:
                self._data_received(data)
            else:
                self._end_of_input()
        except Exception as error:
            self._fail(error)

    def _ready(self, event: int) -> None:
        """What the selector calls while there is something to write, or nothing to read."""
        if event & (select.EPOLLOUT | select.EPOLLERR | select.EPOLLHUP) and self._buffer:
            self._flush()
        if event & ~select.EPOLLOUT and not self._is_lost:
            if not self._is_paused and not self._is_closing:
                self._read(event)
            elif event & (select.EPOLLERR | select.EPOLLHUP):
                number = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                self._lose(OSError(number, "the connection failed") if number else None)

    def _end_of_input(self) -> None:
        if self._protocol.eof_received():
            self._is_paused = True
            self._watch()
        else:
            self.close()

    def is_reading(self) -> bool:
        """Whether the protocol gets what comes."""
        return not self._is_paused and not self._is_closing

    def pause_reading(self) -> None:
        """Leave what comes in the kernel's buffer."""
        if not self._is_paused and not self._is_closing:
            self._is_paused = True
            self._watch()

    def resume_reading(self) -> None:
        """Read on."""
        if self._is_paused and not self._is_closing:
            self._is_paused = False
            self._watch()

    def _watch(self) -> None:
        """Tell the selector what this connection waits for."""
        if self._is_lost:
            return
        is_reading = not self._is_paused and not self._is_closing
        events = (select.EPOLLIN if is_reading else 0) | (select.EPOLLOUT if self._buffer else 0)
        self._selector.change(self._descriptor, events, self._read if events == select.EPOLLIN else self._ready)

    # Writing.

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send what the kernel takes at the end of this step, or at once what is much or alone; the rest when it takes
        more.
        """
        late = self._late
        if not self._is_direct:
            self._hold(data)
        elif late:
            self._late = late + data
            if len(data) > LATE_PIECE_BYTES_MAX or len(self._late) > LATE_BYTES_MAX:
                self.send_late()
        else:
            self._late = data if type(data) is bytes else bytes(data)
            selector = self._selector
            if selector.is_alone or len(data) > LATE_PIECE_BYTES_MAX:
                selector.is_alone = False
                self.send_late()
            else:
                selector.unsent.append(self)

    def send_late(self) -> bool:
        """Send what was written since the last time. False when it did not go as a whole."""
        data = self._late
        if not data:
            return True
        self._late = b""
        try:
            sent = self._send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as error:
            self._lose(error)
            return False
        if sent != len(data):
            self._hold(data[sent:])
            return False
        return True

    def _hold(self, data: bytes | bytearray | memoryview) -> None:
        if self._is_eof:
            raise RuntimeError("cannot write after write_eof()")
        if self._is_lost or not data:
            return
        self._buffer += data
        if self._is_direct:
            self._is_direct = False
            self._watch()
        if len(self._buffer) > self._high and not self._is_held_back:
            self._is_held_back = True
            self._tell(self._protocol.pause_writing)

    def _flush(self) -> None:
        try:
            sent = self._send(self._buffer)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._lose(error)
            return
        del self._buffer[:sent]
        if not self._buffer:
            if self._is_closing:
                self._lose(None)
                return
            self._is_direct = not self._is_eof
            if self._is_eof:
                self._shut_down()
            self._watch()
        if self._is_held_back and len(self._buffer) <= self._low:
            self._is_held_back = False
            self._tell(self._protocol.resume_writing)

    def _tell(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:
            self._report(error)

    def writelines(self, list_of_data: Any) -> None:
        """Write pieces as one."""
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        """TCP can."""
        return True

    def write_eof(self) -> None:
        """Close the writing side once all is out."""
        self.send_late()
        if not self._is_eof and not self._is_closing:
            self._is_eof, self._is_direct = True, False
            if not self._buffer:
                self._shut_down()

    def _shut_down(self) -> None:
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError as error:
            self._lose(error)

    def get_write_buffer_size(self) -> int:
        """Bytes that the kernel has not taken."""
        return len(self._buffer) + len(self._late)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Low and high mark, in bytes."""
        return self._low, self._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the marks at which the protocol is told to pause and to go on."""
        self._high = high if high is not None else 4 * low if low is not None else HIGH_WATER_BYTES
        self._low = low if low is not None else self._high // 4
        if not 0 <= self._low <= self._high:
            raise ValueError("the low mark must be between 0 and the high mark")

    # The end.

    def is_closing(self) -> bool:
        """Whether the connection is closing or closed."""
        return self._is_closing

    def close(self) -> None:
        """Send what is held, then close."""
        self.send_late()
        if self._is_closing:
            return
        self._is_closing, self._is_direct = True, False
        if self._buffer:
            self._watch()
        else:
            self._lose(None)

    def abort(self) -> None:
        """Close now; what the kernel does not take any more is lost."""
        self.send_late()
        self._lose(None)

    def _lose(self, error: OSError | Exception | None) -> None:
        if self._is_lost:
            return
        self._is_lost = self._is_closing = True
        self._is_direct = False
        self._late = b""
        self._buffer.clear()
        self._selector.unwatch(self._descriptor)
        self._loop.call_soon(self._finish, error)

    def _finish(self, error: Exception | None) -> None:
        try:
            self._protocol.connection_lost(error)
        finally:
            self._socket.close()

    def _fail(self, error: Exception) -> None:
        self._report(error)
        self._lose(error)

    def _report(self, error: Exception) -> None:
        self._loop.call_exception_handler(
            {
                "message": "a protocol's callback failed",
                "exception": error,
                "transport": self,
                "protocol": self._protocol,
            }
        )

    # Who is connected.

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Give what comes from now on to ``protocol``."""
        if not isinstance(protocol, asyncio.Protocol):
            raise TypeError("a direct transport needs a streaming protocol")
        self._protocol = protocol
        self._data_received = protocol.data_received

    def get_protocol(self) -> asyncio.Protocol:
        """Who gets what comes."""
        return self._protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """``socket``, ``sockname`` or ``peername``."""
        return self._names.get(name, default)
