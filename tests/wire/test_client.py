"""The upstream client against a raw scripted server: framing, reuse, races, time limits and typed errors."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeAlias

import pytest

from roadbed.wire import errors
from roadbed.wire.address import parse_url
from roadbed.wire.client import UpstreamClient
from roadbed.wire.exchange import ResponseHead, UpstreamRequest
from roadbed.wire.pool import PoolLimits
from roadbed.wire.proxy import ProxySettings
from roadbed.wire.resolver import Resolver

from .conftest import PATIENCE_S, OpenUpstream, Upstream

Reader: TypeAlias = asyncio.StreamReader
Writer: TypeAlias = asyncio.StreamWriter
CHUNKED_HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


@pytest.fixture
async def client() -> AsyncIterator[UpstreamClient]:
    made = UpstreamClient(proxies=ProxySettings())
    yield made
    await made.close()


def answering(*replies: bytes, then_close: bool = False) -> Any:
    """A script that gives the replies in turn, over all connections, and then holds its connections open."""
    left = list(replies)

    async def script(upstream: Upstream, reader: Reader, writer: Writer, number: int) -> None:
        while True:
            await upstream.request(reader)
            writer.write(left.pop(0) if left else OK)
            if then_close:
                return

    return script


def get(upstream: Upstream, path: str = "/", **more: Any) -> UpstreamRequest:
    return UpstreamRequest(b"GET", parse_url(f"http://127.0.0.1:{upstream.port}{path}"), **more)


class Watcher:
    """A response handler that keeps what it is told."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.ended = asyncio.Event()

    def on_head(self, head: ResponseHead) -> None:
        self.calls.append(head.status)

    def on_data(self, data: bytes) -> None:
        self.calls.append(data)

    def on_complete(self) -> None:
        self.calls.append("complete")
        self.ended.set()

    def on_error(self, error: errors.UpstreamFailed) -> None:
        self.calls.append(error)
        self.ended.set()


async def test_a_request_goes_out_as_it_should(client: UpstreamClient, open_upstream: OpenUpstream) -> None:
    upstream = await open_upstream(answering())
    url = parse_url(f"http://127.0.0.1:{upstream.port}/v1").join("/items?x=1")
    response = await client.request(UpstreamRequest(b"POST", url, [(b"x-a", b"1")], b"body"))
    assert (response.status, response.get(b"content-length")) == (200, b"2")
    assert await response.read() == b"ok"
    host = b"host: 127.0.0.1:%d\r\n" % upstream.port
    fixed = b"accept-encoding: identity\r\nx-a: 1\r\ncontent-length: 4\r\n\r\nbody"
    assert upstream.requests == [b"POST /v1/items?x=1 HTTP/1.1\r\n" + host + fixed]
    await (await client.request(get(upstream))).read()
    assert b"content-length" not in upstream.requests[1]
    with pytest.raises(ValueError):
        await client.request(get(upstream, headers=[(b"x", b"1\r\ny: 2")]))


RESPONSES = {
    "length": (OK, b"ok", True),
    "chunked": (
        CHUNKED_HEAD + b"1\r\no\r\n1;x=y\r\nk\r\n0\r\nx-t: 1\r\n\r\n",
        b"ok",
        True,
    ),
    "interim": (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nlink: a\r\n\r\n" + OK, b"ok", True),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", b"", True),
    "close": (b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok", b"ok", False),
    "old": (b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", b"ok", False),
}


@pytest.mark.parametrize("name", RESPONSES)
async def test_every_framing_is_read_at_every_split(
    client: UpstreamClient, open_upstream: OpenUpstream, name: str
) -> None:
    raw, body, is_kept = RESPONSES[name]

    async def script(upstream: Upstream, reader: Reader, writer: Writer, number: int) -> None:
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            width = int((await upstream.request(reader)).split(b" ")[1][1:])
            for start in range(0, len(raw), width):
                writer.write(raw[start : start + width])
                await asyncio.sleep(0)

    upstream = await open_upstream(script)
    for width in (1, 3, 1000):
        response = await client.request(get(upstream, f"/{width}"))
        assert response.status in (200, 204)
        assert await response.read() == body
    assert upstream.connections == (1 if is_kept else 3)


async def test_a_body_without_framing_ends_with_the_connection(
    client: UpstreamClient, open_upstream: OpenUpstream
) -> None:
    upstream = await open_upstream(answering(b"HTTP/1.1 200 OK\r\n\r\nall of it", then_close=True))
    assert await (await client.request(get(upstream))).read() == b"all of it"
    assert client.pool(get(upstream)).open_count == 0


async def test_head_responses_end_with_their_head(client: UpstreamClient, open_upstream: OpenUpstream) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n"
    chunked = CHUNKED_HEAD
    upstream = await open_upstream(answering(head, chunked, OK))
    for _ in range(2):
        response = await client.request(UpstreamRequest(b"HEAD", get(upstream).url))
        assert await response.read() == b""
    assert await (await client.request(get(upstream))).read() == b"ok"
    assert upstream.connections == 1


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nok", errors.ResponseCut),
        (CHUNKED_HEAD + b"2\r\nok\r\n", errors.ResponseCut),
        (b"HTTP/1.1 200 OK\r\n", errors.ResponseCut),
        (b"", errors.ResponseCut),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nok", errors.ResponseMalformed),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n", errors.ResponseMalformed),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nok", errors.ResponseMalformed),
        (CHUNKED_HEAD + b"zz\r\n", errors.ResponseMalformed),
        (b"HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n", errors.ResponseMalformed),
        (b"SSH-2.0-OpenSSH\r\n", errors.ResponseMalformed),
        (b"HTTP/1.1 200 OK\r\nx: " + b"1" * 70_000 + b"\r\ncontent-length: 2\r\n\r\nok", errors.ResponseTooLarge),
        (b"HTTP/1.1 200 OK\r\nx: " + b"1" * 70_000, errors.ResponseTooLarge),
        (b"HTTP/1.1 103 Hints\r\n\r\n" * 4000, errors.ResponseTooLarge),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5000\r\n\r\n" + b"1" * 5000, errors.ResponseTooLarge),
        (
            CHUNKED_HEAD + b"1;" + b"x" * 200_000 + b"\r\na\r\n0\r\n\r\n",
            errors.ResponseMalformed,
        ),
    ],
)
async def test_bad_responses_are_typed_errors(
    client: UpstreamClient, open_upstream: OpenUpstream, raw: bytes, error: type[errors.UpstreamFailed]
) -> None:
    upstream = await open_upstream(answering(raw, then_close=True))
    request = get(upstream, response_bytes_max=4096)
    with pytest.raises(error) as caught:
        await (await client.request(request)).read()
    assert f"127.0.0.1:{upstream.port}" in caught.value.message
    assert caught.value.may_have_run
    assert (upstream.connections, client.pool(request).open_count) == (1, 0)


async def test_callbacks_come_in_order_and_not_from_inside_send(
    client: UpstreamClient, open_upstream: OpenUpstream
) -> None:
    upstream = await open_upstream(answering())
    now = client.loop.time()
    for _ in range(2):
        watcher = Watcher()
        exchange = client.send(get(upstream), watcher, now + 5, now + 5)
        assert watcher.calls == []
        await asyncio.wait_for(watcher.ended.wait(), PATIENCE_S)
        assert watcher.calls == [200, b"ok", "complete"]
        exchange.abort()
        assert client.pool(get(upstream)).idle_count == 1


async def test_what_came_before_a_cut_is_delivered(client: UpstreamClient, open_upstream: OpenUpstream) -> None:
    raw = CHUNKED_HEAD + b"2\r\nok\r\nnot a size"
    upstream = await open_upstream(answering(raw, then_close=True))
    watcher = Watcher()
    now = client.loop.time()
    client.send(get(upstream), watcher, now + 5, now + 5)
    await asyncio.wait_for(watcher.ended.wait(), PATIENCE_S)
    assert watcher.calls[:2] == [200, b"ok"]
    assert isinstance(watcher.calls[2], errors.ResponseMalformed)
    assert len(watcher.calls) == 3


@pytest.mark.parametrize("extra", [b"x", OK, b"HTTP/1.1 2", b"\r\n"])
async def test_extra_bytes_kill_the_connection_and_not_the_response(
    client: UpstreamClient, open_upstream: OpenUpstream, extra: bytes
) -> None:
    upstream = await open_upstream(answering(OK + extra))
    assert await (await client.request(get(upstream))).read() == b"ok"
    assert client.pool(get(upstream)).idle_count == 0
    assert await (await client.request(get(upstream))).read() == b"ok"
    assert upstream.connections == 2


async def test_a_byte_or_a_close_while_idle_kills_the_connection(
    client: UpstreamClient, open_upstream: OpenUpstream
) -> None:
    writers: list[Writer] = []

    async def script(upstream: Upstream, reader: Reader, writer: Writer, number: int) -> None:
        writers.append(writer)
        while True:
            await upstream.request(reader)
            writer.write(OK)

    upstream = await open_upstream(script)
    pool = client.pool(get(upstream))
    kills: list[Callable[[Writer], None]] = [lambda writer: writer.write(b"x"), lambda writer: writer.close()]
    for kill in kills:
        await (await client.request(get(upstream))).read()
        assert pool.idle_count == 1
        kill(writers[-1])
        async with asyncio.timeout(PATIENCE_S):
            while pool.open_count:  # noqa: ASYNC110
                await asyncio.sleep(0)
    assert pool.idle_count == 0


async def test_the_idle_close_race_is_pardoned_once(client: UpstreamClient, open_upstream: OpenUpstream) -> None:
    async def script(upstream: Upstream, reader: Reader, writer: Writer, number: int) -> None:
        await upstream.request(reader)
        writer.write(OK)
        await upstream.request(reader)

    upstream = await open_upstream(script)
    for n in range(4):
        response = await client.request(UpstreamRequest(b"POST", get(upstream).url, (), b"%d" % n))
        assert await response.read() == b"ok"
    assert upstream.connections == 4
    assert len(upstream.requests) == 7


async def test_a_fresh_connection_gets_no_pardon(client: UpstreamClient, open_upstream: OpenUpstream) -> None:
    async def script(upstream: Upstream, reader: Reader, writer: Writer, number: int) -> None:
        await upstream.request(reader)
        if number == 1:
            writer.write(OK)
            await upstream.request(reader)

    upstream = await open_upstream(script)
    assert await (await client.request(get(upstream))).read() == b"ok"
    with pytest.raises(errors.ResponseCut):
        await client.request(get(upstream))
    assert upstream.connections == 2


async def test_a_reused_connection_cut_inside_the_response_gets_no_pardon(
    client: UpstreamClient, open_upstream: OpenUpstream
) -> None:
    async def script(upstream: Upstream, reader: Reader, writer: Writer, number: int) -> None:
        await upstream.request(reader)
        writer.write(OK)
        await upstream.request(reader)
        writer.write(b"H")

    upstream = await open_upstream(script)
    await (await client.request(get(upstream))).read()
    with pytest.raises(errors.ResponseCut):
        await client.request(get(upstream))
    assert upstream.connections == 1


async def test_an_early_answer_is_read_and_its_connection_not_reused(
    client: UpstreamClient, open_upstream: OpenUpstream
) -> None:
    async def script(upstream: Upstream, reader: Reader, writer: Writer, number: int) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 No\r\ncontent-length: 2\r\n\r\nno")
        await writer.drain()
        await upstream.left.wait()

    upstream = await open_upstream(script)
    response = await client.request(UpstreamRequest(b"POST", get(upstream).url, (), b"x" * 20_000_000))
    assert (response.status, await response.read()) == (413, b"no")
    assert client.pool(get(upstream)).open_count == 0
    upstream.left.set()


async def silent(upstream: Upstream, reader: Reader, writer: Writer, number: int) -> None:
    await upstream.request(reader)
    await upstream.request(reader)


async def stalling(upstream: Upstream, reader: Reader, writer: Writer, number: int) -> None:
    await upstream.request(reader)
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nok")
    await upstream.request(reader)


@pytest.mark.parametrize(("script", "error"), [(silent, errors.HeadTimeout), (stalling, errors.ResponseTimeout)])
async def test_time_limits_are_met_and_the_upstream_sees_the_close(
    client: UpstreamClient, open_upstream: OpenUpstream, script: Any, error: type[errors.UpstreamFailed]
) -> None:
    upstream = await open_upstream(script)
    with pytest.raises(error):
        await (await client.request(get(upstream), head_s=0.03, complete_s=0.05)).read()
    await asyncio.wait_for(upstream.left.wait(), PATIENCE_S)


async def test_abort_and_cancel_close_at_once(client: UpstreamClient, open_upstream: OpenUpstream) -> None:
    for end in ("abort", "cancel"):
        upstream = await open_upstream(silent)
        if end == "abort":
            watcher = Watcher()
            now = client.loop.time()
            exchange = client.send(get(upstream), watcher, now + 5, now + 5)
            while not upstream.requests:  # noqa: ASYNC110
                await asyncio.sleep(0)
            exchange.abort()
        else:
            task = asyncio.create_task(client.request(get(upstream)))
            while not upstream.requests:  # noqa: ASYNC110
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await asyncio.wait_for(upstream.left.wait(), PATIENCE_S)
        assert client.pool(get(upstream)).open_count == 0


async def test_a_slow_reader_slows_the_upstream(client: UpstreamClient, open_upstream: OpenUpstream) -> None:
    size = 30_000_000
    sent = 0

    async def script(upstream: Upstream, reader: Reader, writer: Writer, number: int) -> None:
        nonlocal sent
        await upstream.request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
        while sent < size:
            writer.write(b"x" * 100_000)
            await writer.drain()
            sent += 100_000

    upstream = await open_upstream(script)
    response = await client.request(get(upstream))
    for _ in range(2000):
        await asyncio.sleep(0)
    assert sent < size
    assert len(await response.read(size)) == size


async def test_reading_is_bounded_and_an_aborted_read_is_no_end(
    client: UpstreamClient, open_upstream: OpenUpstream
) -> None:
    upstream = await open_upstream(answering())
    with pytest.raises(errors.ResponseTooLarge):
        await (await client.request(get(upstream))).read(1)
    upstream = await open_upstream(stalling)
    async with await client.request(get(upstream)) as response:
        assert await anext(response) == b"ok"
    with pytest.raises(errors.ResponseCut):
        await anext(response)
    await asyncio.wait_for(upstream.left.wait(), PATIENCE_S)


async def test_a_full_pool_queues_bounded_and_in_order(open_upstream: OpenUpstream) -> None:
    gate = asyncio.Event()

    async def script(upstream: Upstream, reader: Reader, writer: Writer, number: int) -> None:
        while True:
            await upstream.request(reader)
            await gate.wait()
            writer.write(OK)

    upstream = await open_upstream(script)
    client = UpstreamClient(limits=PoolLimits(connections_max=2, waiting_max=3), proxies=ProxySettings())
    request = get(upstream)
    tasks = [asyncio.create_task(client.request(request)) for _ in range(2)]
    while len(upstream.requests) < 2:  # noqa: ASYNC110
        await asyncio.sleep(0)
    with pytest.raises(errors.PoolExhausted, match="busy"):
        await client.request(request, connect_s=0.02)
    tasks += [asyncio.create_task(client.request(request)) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(errors.PoolExhausted, match="too many"):
        await client.request(request)
    gate.set()
    for task in tasks:
        assert await (await task).read() == b"ok"
    assert upstream.connections == 2
    assert client.pool(request).open_count == 2
    await client.close()


async def test_idle_and_old_connections_are_not_reused(open_upstream: OpenUpstream) -> None:
    for limits in (PoolLimits(idle_s_max=0.0), PoolLimits(age_s_max=0.0)):
        upstream = await open_upstream(answering())
        client = UpstreamClient(limits=limits, proxies=ProxySettings())
        for _ in range(2):
            await (await client.request(get(upstream))).read()
        assert upstream.connections == 2
        client.pool(get(upstream)).check(client.loop.time())
        assert client.pool(get(upstream)).open_count == 0
        await client.close()


async def test_the_last_released_connection_is_used_first(client: UpstreamClient, open_upstream: OpenUpstream) -> None:
    async def script(upstream: Upstream, reader: Reader, writer: Writer, number: int) -> None:
        while True:
            await upstream.request(reader)
            await gates[number].wait()
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n%d" % number)

    gates = {1: asyncio.Event(), 2: asyncio.Event()}
    upstream = await open_upstream(script)
    for order in ((1, 2), (2, 1)):
        for gate in gates.values():
            gate.clear()
        tasks = {asyncio.create_task(client.request(get(upstream))) for _ in gates}
        for number in order:
            gates[number].set()
            done, tasks = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            assert await (await done.pop()).read() == b"%d" % number
        assert client.pool(get(upstream)).idle_count == 2
        assert await (await client.request(get(upstream))).read() == b"%d" % order[-1]


async def test_pools_are_kept_apart_by_credential_class(client: UpstreamClient, open_upstream: OpenUpstream) -> None:
    upstream = await open_upstream(answering())
    for name in ("a", "b"):
        await (await client.request(get(upstream, credential_class=name))).read()
    assert upstream.connections == 2


async def test_a_refused_connect_is_typed_and_has_not_run(client: UpstreamClient) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        request = UpstreamRequest(b"GET", parse_url(f"http://127.0.0.1:{port}/"))
        with pytest.raises(errors.ConnectRefused) as caught:
            await client.request(request)
    assert not caught.value.may_have_run
    assert caught.value.retryable
    assert client.pool(request).open_count == 0


async def test_a_connect_that_hangs_is_typed(open_upstream: OpenUpstream) -> None:
    async def hang(host: str, port: int) -> list[str]:
        await asyncio.Event().wait()
        return []

    client = UpstreamClient(proxies=ProxySettings(), resolver=Resolver(hang))
    with pytest.raises(errors.ConnectTimeout):
        await client.request(UpstreamRequest(b"GET", parse_url("http://slow.test/")), connect_s=0.02)
    await client.close()


async def test_closing_the_client_fails_what_is_under_way(open_upstream: OpenUpstream) -> None:
    upstream = await open_upstream(silent)
    client = UpstreamClient(proxies=ProxySettings())
    task = asyncio.create_task(client.request(get(upstream)))
    while not upstream.requests:  # noqa: ASYNC110
        await asyncio.sleep(0)
    await client.close()
    with pytest.raises(errors.ResponseCut):
        await task


async def test_ipv6_upstreams(client: UpstreamClient) -> None:
    async def accept(reader: Reader, writer: Writer) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(OK)
        await writer.drain()
        writer.close()

    seen: list[bytes] = []
    try:
        server = await asyncio.start_server(accept, "::1", 0)
    except OSError:
        pytest.skip("no IPv6 loopback on this machine")
    port = server.sockets[0].getsockname()[1]
    response = await client.request(UpstreamRequest(b"GET", parse_url(f"http://[::1]:{port}/")))
    assert await response.read() == b"ok"
    assert b"host: [::1]:%d\r\n" % port in seen[0]
    server.close()
    await server.wait_closed()
