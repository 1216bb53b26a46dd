"""Our transports against asyncio's: each test runs on both loops and must see the same."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import selectors
import socket
import struct
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from roadbed.wire.direct import (
    LATE_BYTES_MAX,
    LATE_PIECE_BYTES_MAX,
    READ_BYTES_MAX,
    ROUNDS_MAX,
    UNSENT_MAX,
    DirectLoop,
    DirectSelector,
    DirectTransport,
)

PATIENCE_S = 20.0
MUCH = b"x" * (8 * 1024 * 1024)


class Kept(asyncio.Protocol):
    """Keeps what it is told, and lets a test wait for it."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.data = bytearray()
        self.calls: list[str] = []
        self.changed = asyncio.Event()
        self.keeps_open = False
        self.lost_with: Exception | None = None
        self.fails = False

    def _note(self, call: str) -> None:
        self.calls.append(call)
        self.changed.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._note("made")

    def data_received(self, data: bytes) -> None:
        assert len(data) <= max(READ_BYTES_MAX, 256 * 1024)
        self.data += data
        if self.fails:
            raise LookupError("a fault of the protocol")
        self._note("data")

    def eof_received(self) -> bool:
        self._note("eof")
        return self.keeps_open

    def pause_writing(self) -> None:
        self._note("pause")

    def resume_writing(self) -> None:
        self._note("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost_with = exc
        self._note("lost")

    async def until(self, call: str) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while call not in self.calls:
                self.changed.clear()
                await self.changed.wait()


class Pair:
    """A transport and the socket at its other end."""

    def __init__(self, kept: Kept, transport: asyncio.Transport, peer: socket.socket) -> None:
        self.kept = kept
        self.transport = transport
        self.peer = peer

    async def read(self, count: int) -> bytes:
        """``count`` bytes of the other end, or all until its end."""
        loop, data = asyncio.get_running_loop(), bytearray()
        async with asyncio.timeout(PATIENCE_S):
            while len(data) < count and (piece := await loop.sock_recv(self.peer, 1024 * 1024)):
                data += piece
        return bytes(data)


def connected() -> tuple[socket.socket, socket.socket]:
    """The two ends of a TCP connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        peer = socket.create_connection(listener.getsockname())
        return listener.accept()[0], peer


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    loop = asyncio.get_running_loop()
    accepted, peer = connected()
    peer.setblocking(False)
    kept = Kept()
    if isinstance(loop, DirectLoop):
        transport: asyncio.Transport = DirectTransport(loop, accepted, kept)
    else:
        accepted.setblocking(False)
        transport, _ = await loop.connect_accepted_socket(lambda: kept, accepted)
    yield Pair(kept, transport, peer)
    if "lost" not in kept.calls:
        transport.abort()
    peer.close()
    await kept.until("lost")


async def test_what_comes_is_given_and_what_is_written_arrives(pair: Pair) -> None:
    pair.peer.send(b"hello")
    await pair.kept.until("data")
    assert pair.kept.data == b"hello"
    pair.transport.write(b"one")
    pair.transport.writelines([b" two", b" three"])
    assert await pair.read(13) == b"one two three"


async def test_what_the_kernel_does_not_take_is_held_told_and_sent_in_order(pair: Pair) -> None:
    pair.transport.write(MUCH)
    pair.transport.write(b"end")
    assert pair.transport.get_write_buffer_size() > 0
    assert pair.kept.calls == ["made", "pause"]
    got = await pair.read(len(MUCH) + 3)
    assert got == MUCH + b"end"
    await pair.kept.until("resume")
    assert pair.transport.get_write_buffer_size() == 0
    pair.transport.write(b"after")
    assert await pair.read(5) == b"after"


async def test_reading_goes_on_while_writing_is_held(pair: Pair) -> None:
    pair.transport.write(MUCH)
    pair.peer.send(b"meanwhile")
    await pair.kept.until("data")
    assert pair.kept.data == b"meanwhile"
    assert pair.transport.get_write_buffer_size() > 0


async def test_a_pause_leaves_what_comes_until_it_ends(pair: Pair) -> None:
    pair.transport.pause_reading()
    assert not pair.transport.is_reading()
    pair.peer.send(b"waits")
    await asyncio.get_running_loop().run_in_executor(
        None, select.select, [pair.transport.get_extra_info("socket")], [], []
    )
    for _ in range(5):
        await asyncio.sleep(0)
    assert pair.kept.data == b""
    pair.transport.resume_reading()
    await pair.kept.until("data")
    assert pair.kept.data == b"waits"


async def test_a_close_sends_what_is_held_first(pair: Pair) -> None:
    pair.transport.write(MUCH)
    pair.transport.close()
    assert pair.transport.is_closing()
    assert "lost" not in pair.kept.calls
    assert await pair.read(len(MUCH) + 1) == MUCH
    await pair.kept.until("lost")


async def test_an_abort_drops_what_is_held(pair: Pair) -> None:
    pair.transport.write(MUCH)
    pair.transport.abort()
    assert pair.transport.get_write_buffer_size() == 0
    await pair.kept.until("lost")
    pair.transport.write(b"to nobody")
    with contextlib.suppress(ConnectionResetError):
        assert len(await pair.read(len(MUCH))) < len(MUCH)


@pytest.mark.parametrize("keeps_open", [False, True])
async def test_the_end_of_input_closes_unless_the_protocol_keeps_it_open(pair: Pair, keeps_open: bool) -> None:
    pair.kept.keeps_open = keeps_open
    pair.peer.shutdown(socket.SHUT_WR)
    await pair.kept.until("eof")
    if keeps_open:
        pair.transport.write(b"still here")
        assert await pair.read(10) == b"still here"
        assert not pair.transport.is_closing()
        assert pair.kept.calls.count("eof") == 1
    else:
        await pair.kept.until("lost")
        assert pair.kept.lost_with is None


async def test_a_half_close_comes_after_what_is_held(pair: Pair) -> None:
    pair.transport.write(MUCH)
    pair.transport.write_eof()
    assert await pair.read(len(MUCH) + 1) == MUCH
    assert not pair.transport.is_closing()
    with pytest.raises(RuntimeError):
        pair.transport.write(b"more")


async def test_a_reset_is_told_even_while_reading_is_paused(pair: Pair) -> None:
    pair.transport.write(MUCH)
    pair.transport.pause_reading()
    pair.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    pair.peer.close()
    await pair.kept.until("lost")
    assert isinstance(pair.kept.lost_with, OSError)


async def test_a_fault_of_the_protocol_ends_its_connection_alone(pair: Pair) -> None:
    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context["exception"]))
    pair.kept.fails = True
    pair.peer.send(b"boom")
    await pair.kept.until("lost")
    assert [type(error) for error in told] == [LookupError]
    assert pair.kept.lost_with is told[0]


async def test_it_says_who_is_connected(pair: Pair) -> None:
    assert pair.transport.get_extra_info("peername") == pair.peer.getsockname()
    assert pair.transport.get_extra_info("sockname") == pair.peer.getpeername()
    assert pair.transport.get_extra_info("sslcontext") is None
    assert pair.transport.get_protocol() is pair.kept


async def test_another_protocol_gets_what_comes_after_it_was_set(pair: Pair) -> None:
    other = Kept()
    pair.transport.set_protocol(other)
    pair.peer.send(b"yours")
    await other.until("data")
    assert other.data == b"yours"
    assert pair.kept.data == b""
    pair.transport.set_protocol(pair.kept)


async def test_one_that_is_lost_in_the_same_step_is_not_called(pair: Pair) -> None:
    """Two are ready at once, and the first to be called aborts the other."""
    loop = asyncio.get_running_loop()
    if not isinstance(loop, DirectLoop):
        pytest.skip("asyncio queues its calls")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        peers = [socket.create_connection(listener.getsockname()) for _ in range(2)]
        protocols = [Kept(), Kept()]
        transports = [DirectTransport(loop, listener.accept()[0], kept) for kept in protocols]
    for here, there in ((0, 1), (1, 0)):
        protocols[here]._note = lambda call, there=there: transports[there].abort()  # type: ignore[method-assign,misc]
    for peer in peers:
        peer.send(b"both")
    while not any(kept.data for kept in protocols):  # noqa: ASYNC110
        await asyncio.sleep(0)
    assert sorted(len(kept.data) for kept in protocols) == [0, 4]
    for transport, peer in zip(transports, peers, strict=True):
        transport.abort()
        peer.close()
    await asyncio.sleep(0)


class Counted:
    """Counts a transport's sends, which go through to its socket."""

    def __init__(self, transport: DirectTransport, log: list[str], name: str) -> None:
        self._send, self._log, self._name = transport._send, log, name
        transport._send = self  # type: ignore[assignment]

    def __call__(self, data: Any) -> int:
        self._log.append(self._name)
        return self._send(data)


async def test_what_is_written_in_one_step_is_sent_once_at_its_end(pair: Pair) -> None:
    if not isinstance(pair.transport, DirectTransport):
        pytest.skip("asyncio's own transports send at once")
    sends: list[str] = []
    Counted(pair.transport, sends, "a")
    for piece in (b"one ", bytearray(b"two "), memoryview(b"three")):
        pair.transport.write(piece)
    assert not sends
    assert pair.transport.get_write_buffer_size() == 13
    assert await pair.read(13) == b"one two three"
    assert sends == ["a"]
    assert pair.transport.get_write_buffer_size() == 0


async def test_an_answer_that_is_alone_in_its_step_goes_before_what_else_is_done_for_it(pair: Pair) -> None:
    """Its peer works while it is booked; a second piece, and what is written outside of events, waits for the end."""
    if not isinstance(pair.transport, DirectTransport):
        pytest.skip("asyncio's own transports send at once")
    sends: list[str] = []
    Counted(pair.transport, sends, "a")
    seen: list[list[str]] = []

    class Answering(Kept):
        def data_received(self, data: bytes) -> None:
            for piece in (b"an answer", b" and more"):
                pair.transport.write(piece)
                seen.append(list(sends))
            super().data_received(data)

    pair.transport.set_protocol(Answering())
    pair.peer.send(b"question")
    assert await pair.read(18) == b"an answer and more"
    pair.transport.set_protocol(pair.kept)
    assert seen == [["a"], ["a"]]
    assert sends == ["a", "a"]


async def test_much_is_sent_at_once_after_what_was_written_before(pair: Pair) -> None:
    if not isinstance(pair.transport, DirectTransport):
        pytest.skip("asyncio's own transports send at once")
    sends: list[str] = []
    Counted(pair.transport, sends, "a")
    pair.transport.write(b"first ")
    pair.transport.write(b"x" * (LATE_PIECE_BYTES_MAX + 1))
    assert sends == ["a"]
    pieces = LATE_BYTES_MAX // LATE_PIECE_BYTES_MAX + 1
    for _ in range(pieces):
        pair.transport.write(b"y" * LATE_PIECE_BYTES_MAX)
    assert sends == ["a", "a"]
    size = LATE_PIECE_BYTES_MAX + 1
    expected = b"first " + b"x" * size + b"y" * (pieces * LATE_PIECE_BYTES_MAX)
    assert await pair.read(len(expected)) == expected


@pytest.mark.parametrize("end", ["close", "write_eof", "abort"])
async def test_what_was_written_goes_out_before_an_end(pair: Pair, end: str) -> None:
    pair.transport.write(b"last words")
    getattr(pair.transport, end)()
    assert await pair.read(10) == b"last words"
    assert await pair.read(1) == b""


async def test_a_peer_that_is_gone_is_told_when_it_is_sent_to(pair: Pair) -> None:
    pair.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    pair.transport.pause_reading()
    pair.peer.close()
    pair.transport.write(b"too late")
    await pair.kept.until("lost")


def test_those_who_came_first_do_not_wait_for_all_others() -> None:
    selector, order = DirectSelector(), list[str]()

    class Transport:
        def send_late(self) -> bool:
            order.append("sent")
            return True

    pairs = [socket.socketpair() for _ in range(UNSENT_MAX + 8)]
    for ours, theirs in pairs:

        def on_ready(event: int, ours: socket.socket = ours) -> None:
            order.append("read")
            ours.recv(10)
            selector.unsent.append(Transport())  # type: ignore[arg-type]

        selector.watch(ours.fileno(), on_ready)
        theirs.send(b"x")
    assert selector.select(1.0) == []
    assert order.index("sent") == UNSENT_MAX
    assert order.count("sent") == len(pairs)
    assert order[-8:] == ["sent"] * 8
    selector.close()
    for ours, theirs in pairs:
        ours.close()
        theirs.close()


def test_the_selector_keeps_asyncios_contract() -> None:
    chosen, (reading, writing) = DirectSelector(), os.pipe()
    key = chosen.register(reading, selectors.EVENT_READ, "data")
    assert chosen.get_key(reading) == key
    assert dict(chosen.get_map()) == {reading: key}
    with pytest.raises(KeyError):
        chosen.register(reading, selectors.EVENT_READ)
    assert chosen.select(0) == []
    os.write(writing, b"x")
    assert chosen.select(None) == [(key, selectors.EVENT_READ)]
    changed = chosen.modify(reading, selectors.EVENT_READ, "other")
    assert chosen.select(1) == [(changed, selectors.EVENT_READ)]
    chosen.unregister(reading)
    assert chosen.select(0) == []
    with pytest.raises(KeyError):
        chosen.unregister(reading)
    with pytest.raises(ValueError, match="invalid file descriptor"):
        chosen.register(-1, selectors.EVENT_READ)
    chosen.close()
    os.close(reading)
    os.close(writing)


class Doing(asyncio.Protocol):
    """Does ``what`` once something comes."""

    def __init__(self, what: Callable[[], object]) -> None:
        self.data_received = lambda data: what()  # type: ignore[method-assign, assignment]


@pytest.mark.parametrize("kind", ["a timer", "a call soon", "a call from a thread", "a task", "the end of the loop"])
def test_what_a_connection_sets_off_is_done_though_nothing_more_comes(kind: str) -> None:
    """The selector waits again by itself, and so must see what the loop was given meanwhile."""
    loop, order = DirectLoop(), list[str]()
    watchdog = threading.Timer(PATIENCE_S, lambda: loop.call_soon_threadsafe(done, "the watchdog"))
    watchdog.start()

    def done(what: str) -> None:
        order.append(what)
        loop.stop()

    async def task() -> None:
        await asyncio.sleep(0)
        done(kind)

    ways: dict[str, Callable[[], object]] = {
        "a timer": lambda: loop.call_later(0.02, done, kind),
        "a call soon": lambda: loop.call_soon(done, kind),
        "a call from a thread": lambda: threading.Thread(target=loop.call_soon_threadsafe, args=(done, kind)).start(),
        "a task": lambda: tasks.append(loop.create_task(task())),
        "the end of the loop": lambda: done(kind),
    }
    tasks: list[asyncio.Task[None]] = []
    ours, theirs = connected()
    with contextlib.closing(loop), ours, theirs:
        transport = DirectTransport(loop, ours, Doing(ways[kind]))
        loop.call_soon(theirs.send, b"x")
        loop.run_forever()
        watchdog.cancel()
        watchdog.join()
        transport.abort()
        loop.run_until_complete(asyncio.sleep(0))
    assert order == [kind]


def test_a_timer_comes_while_connections_keep_the_selector_busy() -> None:
    loop, turns = DirectLoop(), 0
    pairs = [connected() for _ in range(2)]

    class Echo(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            nonlocal turns
            turns += 1
            self.transport.write(data)  # type: ignore[attr-defined]

    with contextlib.closing(loop), contextlib.ExitStack() as stack:
        for ours, theirs in pairs:
            transports = [DirectTransport(loop, stack.enter_context(end), Echo()) for end in (ours, theirs)]
            transports[0].write(b"x")
        loop.call_later(0.1, loop.stop)
        began_s = time.monotonic()
        loop.run_forever()
        assert time.monotonic() - began_s < PATIENCE_S
        assert turns > ROUNDS_MAX
