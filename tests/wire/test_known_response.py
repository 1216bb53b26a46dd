"""A response whose head came before is handed over as the parser would hand it over, whatever comes next."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadbed.wire.address import parse_url
from roadbed.wire.client import UpstreamClient
from roadbed.wire.connection import GUESSES_MAX, GUESSES_REST, HEAD_BYTES_MAX, UpstreamConnection
from roadbed.wire.exchange import Exchange, ResponseHead, UpstreamRequest
from roadbed.wire.known_head import KnownResponse, remember_response
from roadbed.wire.sweep import Sweep

URL = parse_url("http://models.test/v1")
LINES = b"HTTP/1.1 200 OK\r\ndate: today\r\n"


def response(body: bytes, length: bytes = b"", lines: bytes = LINES, name: bytes = b"Content-Length: ") -> bytes:
    return lines + name + (length or b"%d" % len(body)) + b"\r\nx-one: 1\r\n\r\n" + body


class Wire(asyncio.Transport):
    """A transport that keeps what is written."""

    is_closed = False

    def write(self, data: Any) -> None:
        pass

    def is_closing(self) -> bool:
        return self.is_closed

    def get_write_buffer_size(self) -> int:
        return 0

    def abort(self) -> None:
        self.is_closed = True


class Owner:
    """A pool of one connection, and a handler that notes all it is told."""

    name, target_prefix, fixed_lines = "models.test", b"", b"host: models.test\r\n"

    def __init__(self) -> None:
        self.known: KnownResponse | None = None
        self.guesses_left = GUESSES_MAX
        self.told: list[Any] = []
        self.connection = UpstreamConnection(self)
        self.connection.connection_made(Wire())

    def released(self, connection: UpstreamConnection) -> None:
        self.told.append("released")

    def lost(self, connection: UpstreamConnection) -> None:
        self.told.append("lost")

    def send_again(self, exchange: Exchange) -> None:
        self.told.append("again")

    def on_head(self, head: ResponseHead) -> None:
        self.told.append((head.status, head.headers))

    def on_data(self, data: bytes) -> None:
        self.told.append(data)

    def on_complete(self) -> None:
        self.told.append("complete")

    def on_error(self, error: Exception) -> None:
        self.told.append(type(error))

    def on_response(self, head: ResponseHead, body: bytes) -> None:
        self.told.append((head.status, head.headers, head.get(b"content-length"), body))

    def ask(self, *reads: bytes, method: bytes = b"POST") -> list[Any]:
        """What the handler is told of a response that comes in these reads."""
        self.told = []
        exchange = Exchange(UpstreamRequest(method, URL, body=b"{}"), self, 1.0, 1.0, None, Sweep(1.0))
        exchange.on_response = self.on_response
        self.connection.start(exchange)
        for data in reads:
            if not exchange.is_done:
                self.connection.data_received(data)
        return self.told


NEXT = {
    "the same": response(b"hello"),
    "another body": response(b"a"),
    "no body": response(b""),
    "leading zeros": response(b"abc", b"0003"),
    "a signed length": response(b"abc", b"+3"),
    "a length with a space": response(b"abc", b"3 "),
    "too long a length": response(b"abc", b"00000000003"),
    "no length": response(b"abc", b" "),
    "a byte too many": response(b"abc") + b"x",
    "a line break too many": response(b"abc") + b"\r\n",
    "another response behind": response(b"abc") + response(b"def"),
    "another status": response(b"abc", lines=b"HTTP/1.1 500 No\r\ndate: today\r\n"),
    "a closing one": response(b"abc", lines=b"HTTP/1.1 200 OK\r\nconnection: close\r\n"),
    "another date": response(b"abc", lines=b"HTTP/1.1 200 OK\r\ndate: tomorrow\r\n"),
    "another writing": response(b"abc", name=b"content-length: "),
    "chunks": LINES + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "an interim one before": b"HTTP/1.1 100 Continue\r\n\r\n" + response(b"abc"),
    "nonsense": b"HTTP/1.1 abc",
    "more than a head may hold": response(b"x" * (HEAD_BYTES_MAX + 1)),
}


@pytest.mark.parametrize("data", NEXT.values(), ids=NEXT.keys())
@pytest.mark.parametrize("method", [b"POST", b"HEAD"])
def test_what_comes_after_a_known_head_is_told_as_on_a_fresh_connection(data: bytes, method: bytes) -> None:
    warm = Owner()
    warm.ask(response(b"hello"))
    assert warm.known is not None
    assert warm.ask(data, method=method) == Owner().ask(data, method=method)


@given(st.binary(max_size=40), st.integers(1, 200), st.integers(0, 12))
def test_any_body_in_any_two_reads(body: bytes, cut: int, digits: int) -> None:
    warm, data = Owner(), response(body, b"%0*d" % (digits, len(body)))
    warm.ask(response(b"hello"))
    reads = [piece for piece in (data[:cut], data[cut:]) if piece]
    assert warm.ask(*reads) == Owner().ask(*reads)


def test_a_known_head_is_not_parsed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    owner = Owner()
    owner.ask(response(b"hello"))
    monkeypatch.setattr(owner.connection, "_parser", None)
    assert owner.ask(response(b"bye"))[1][3] == b"bye"


def test_heads_that_never_come_again_are_kept_only_now_and_then() -> None:
    owner, kept = Owner(), 0
    for number in range(2 * GUESSES_REST):
        owner.ask(response(b"a", lines=b"HTTP/1.1 200 OK\r\nx-request-id: %d\r\n" % number))
        kept += owner.known is not None
    assert GUESSES_MAX < kept < 3 * GUESSES_MAX


@pytest.mark.parametrize(
    "data",
    [
        response(b"abc", lines=b"HTTP/1.0 200 OK\r\n"),
        response(b"abc", lines=LINES + b"content-length: 3\r\n"),
        response(b"abc", b"3 "),
        LINES + b"\r\nabc",
        b"",
    ],
)
def test_a_head_that_does_not_show_its_length_plainly_is_not_kept(data: bytes) -> None:
    headers = [(b"content-length", b"3")] * data.lower().count(b"content-length")
    assert remember_response(data, 200, headers) is None


async def test_two_requests_through_the_real_client(open_upstream: Any) -> None:
    async def script(server: Any, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        while True:
            await server.request(reader)
            writer.write(response(b"answer %d" % len(server.requests)))

    server = await open_upstream(script)
    client = UpstreamClient()
    bodies = []
    try:
        for _ in range(3):
            told = asyncio.get_running_loop().create_future()
            request = UpstreamRequest(b"POST", parse_url(f"http://127.0.0.1:{server.port}/"), body=b"{}")
            now = client.loop.time()
            exchange = client.send(request, Owner(), now + 5, now + 5, now + 5)
            exchange.on_response = lambda head, body, told=told: told.set_result(body)
            bodies.append(await told)
    finally:
        await client.close()
    assert bodies == [b"answer 1", b"answer 2", b"answer 3"]
    assert server.connections == 1
