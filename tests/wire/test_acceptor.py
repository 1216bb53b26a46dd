"""Several servers on one socket: fair parts, and no connection that waits for one that does not come."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadbed.wire.acceptor import AWAY, Acceptor, Seat, Seats, is_our_turn
from roadbed.wire.server import bind

from .conftest import PATIENCE_S

CONNECTIONS = 40
counts = st.lists(st.integers(AWAY, 50), min_size=1, max_size=8)


class Kept(asyncio.Protocol):
    """A connection that is counted while it lasts."""

    def __init__(self, kept: set[asyncio.BaseTransport]) -> None:
        self.kept = kept

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.kept.add(transport)
        assert isinstance(transport, asyncio.WriteTransport)
        transport.write(b"!")

    def connection_lost(self, exc: Exception | None) -> None:
        self.kept.discard(self.transport)


class Server:
    """One of several that accept from the same socket."""

    def __init__(self, listener: socket.socket, seats: Seats, index: int) -> None:
        self.kept: set[asyncio.BaseTransport] = set()
        self.acceptor = Acceptor(listener.dup(), lambda: Kept(self.kept), lambda: len(self.kept), Seat(seats, index))


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with bind("127.0.0.1", 0) as bound:
        yield bound


@pytest.fixture
def seats() -> Iterator[Seats]:
    made = Seats.create(3)
    yield made
    made.close()


@asynccontextmanager
async def connected(listener: socket.socket, count: int) -> AsyncIterator[None]:
    """That many connections, each answered by somebody."""
    with ExitStack() as stack:
        async with asyncio.timeout(PATIENCE_S):
            address = listener.getsockname()
            pairs = await asyncio.gather(*(asyncio.open_connection(*address) for _ in range(count)))
            for _, writer in pairs:
                stack.callback(writer.close)
            for reader, _ in pairs:
                assert await reader.readexactly(1) == b"!"
        yield


@given(counts, st.data())
def test_somebody_who_accepts_always_has_the_turn(all_counts: list[int], data: st.DataObject) -> None:
    turns = [is_our_turn(count, all_counts) for count in all_counts if count != AWAY]
    assert any(turns) or not turns
    ours = data.draw(st.integers(0, 50))
    assert is_our_turn(ours, all_counts) == all(ours <= count for count in all_counts if count != AWAY)


def test_counts_are_shared_by_whoever_maps_the_memory(seats: Seats) -> None:
    assert seats.counts() == [AWAY] * 3
    other = Seats(seats.descriptor, 3)
    other.set(1, 7)
    assert seats.counts() == [AWAY, 7, AWAY]


async def test_connections_are_parted_evenly_and_those_away_get_none(listener: socket.socket, seats: Seats) -> None:
    servers = [Server(listener, seats, index) for index in range(2)]
    async with connected(listener, CONNECTIONS):
        assert sum(len(server.kept) for server in servers) == CONNECTIONS
        assert min(len(server.kept) for server in servers) > CONNECTIONS // 4
    for server in servers:
        await server.acceptor.close(PATIENCE_S)
    assert seats.counts() == [AWAY] * 3


async def test_one_with_fewer_connections_that_does_not_come_is_not_waited_for(
    listener: socket.socket, seats: Seats
) -> None:
    seats.set(2, 0)  # it says that it has none, and accepts nothing
    server = Server(listener, seats, 0)
    async with connected(listener, 5):
        assert len(server.kept) == 5
    await server.acceptor.close(PATIENCE_S)


async def test_one_that_starts_again_catches_up(listener: socket.socket, seats: Seats) -> None:
    first = Server(listener, seats, 0)
    async with connected(listener, CONNECTIONS):
        second = Server(listener, seats, 1)
        async with connected(listener, CONNECTIONS // 2):
            assert len(second.kept) > CONNECTIONS // 4, "most of the new ones went to the one that had more"
    for server in (first, second):
        await server.acceptor.close(PATIENCE_S)


async def test_what_waits_when_one_leaves_is_taken_by_the_others(listener: socket.socket, seats: Seats) -> None:
    first, second = (Server(listener, seats, index) for index in range(2))
    await first.acceptor.close(PATIENCE_S)
    async with connected(listener, 6):
        assert (len(first.kept), len(second.kept)) == (0, 6)
    await second.acceptor.close(PATIENCE_S)
