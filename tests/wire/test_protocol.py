"""The server's protocol against raw bytes: framing, pipelining, refusals, time limits, disconnects and drain."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from roadbed.kernel.errors import NotFound
from roadbed.wire.hot import Limits
from roadbed.wire.request import HotRequest

from .conftest import PATIENCE_S, EchoApp, OpenSite, Recorder

HOST = b"host: a\r\n"
POST = b"POST /hot HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello"
GET = b"GET /hot HTTP/1.1\r\nhost: a\r\n\r\n"
CHUNKED_HEAD = b"POST /hot HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
CHUNKED = CHUNKED_HEAD + b"3\r\nhel\r\n2;x=1\r\nlo\r\n0\r\nx-t: 1\r\n\r\n"
POST_HEAD = b"POST /hot HTTP/1.1\r\nhost: a\r\n"
FAST = Limits(head_s=0.05, body_grace_s=0.05, keep_alive_s=0.05, stalled_reader_s=0.05, linger_s=0.05, sweep_s=0.02)


def routes(handler: Any) -> dict[str, Any]:
    return {"POST /hot": handler, "GET /hot": handler, "HEAD /hot": handler}


async def test_a_hot_request_is_handed_over_complete(open_site: OpenSite) -> None:
    handler = Recorder()
    site = await open_site(routes(handler))
    client = await site.connect()
    client.send(b"POST /hot?a=%20b HTTP/1.1\r\nHost: a:80\r\nX-One: 1 \r\nContent-Length: 5\r\n\r\nhe")
    client.send(b"llo")
    reply = await client.reply()
    assert (reply.status, reply.body) == (200, b"hot:hello")
    (request,) = handler.requests
    assert (request.method, request.path, request.query) == (b"POST", b"/hot", b"a=%20b")
    assert request.headers[1] == (b"x-one", b"1")
    assert request.get(b"x-one") == b"1"
    assert request.get(b"x-two") is None
    assert request.peer is not None
    assert request.peer[0] == "127.0.0.1"
    assert request.scheme == "http"
    assert request.is_ended
    assert site.state.total_requests == 1


async def test_everything_else_goes_to_the_application_on_the_same_connection(open_site: OpenSite) -> None:
    handler, app = Recorder(), EchoApp()
    site = await open_site(routes(handler), app=app)
    client = await site.connect()
    for request, body in [
        (POST, b"hot:hello"),
        (POST.replace(b"/hot", b"/app"), b"asgi:hello"),
        (b"PUT" + POST[4:], b"asgi:hello"),
        (CHUNKED.replace(b"/hot", b"/app"), b"asgi:hello"),
        (GET.replace(b"/hot", b"http://a/app?x"), b"asgi:"),
        (CHUNKED, b"hot:hello"),
        (GET, b"hot:"),
    ]:
        client.send(request)
        assert (await client.reply()).body == body
    assert (len(handler.requests), app.calls) == (3, 4)


async def test_pipelined_requests_are_answered_in_order_one_at_a_time(open_site: OpenSite) -> None:
    open_now = 0

    def answer(request: HotRequest) -> None:
        async def work() -> None:
            nonlocal open_now
            open_now += 1
            assert open_now == 1
            await asyncio.sleep(0)
            open_now -= 1
            request.send(200, (), request.query + request.body)

        request.create_task(work())

    site = await open_site(routes(Recorder(answer)))
    client = await site.connect()
    numbered = [part.replace(b"/hot", b"/hot?%d" % n) for n, part in enumerate([POST, CHUNKED, GET] * 40)]
    client.send(b"".join(numbered))
    for n in range(len(numbered)):
        reply = await client.reply()
        assert reply.body == b"%d" % n + (b"" if n % 3 == 2 else b"hello")


async def test_any_split_gives_the_same_answers(open_site: OpenSite) -> None:
    handler, app = Recorder(), EchoApp()
    site = await open_site(routes(handler), app=app)
    stream = POST + CHUNKED + GET + POST.replace(b"/hot", b"/app") + CHUNKED.replace(b"/hot", b"/app") + CHUNKED + GET
    want = [b"hot:hello", b"hot:hello", b"hot:", b"asgi:hello", b"asgi:hello", b"hot:hello", b"hot:"]
    for width in [1, 2, 3, 5, 7, 11, 64]:
        client = await site.connect()
        for start in range(0, len(stream), width):
            client.send(stream[start : start + width])
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        assert [(await client.reply()).body for _ in want] == want
        client.abort()


async def test_many_pipelined_requests_do_not_grow_the_stack(open_site: OpenSite) -> None:
    site = await open_site(routes(Recorder()))
    client = await site.connect()
    client.send(GET * 3000)
    for _ in range(3000):
        assert (await client.reply()).status == 200


async def test_what_is_pipelined_too_far_is_not_read(open_site: OpenSite) -> None:
    waiting: list[HotRequest] = []
    site = await open_site(routes(Recorder(waiting.append)))
    client = await site.connect()
    client.send(GET)
    client.send(GET * 40_000)
    async with asyncio.timeout(PATIENCE_S):
        while not (site.state.connections and site.connection.flow.read_paused):  # noqa: ASYNC110
            await asyncio.sleep(0)
    assert len(waiting) == 1
    waiting[0].send(204)
    assert (await client.reply()).status == 204


@pytest.mark.parametrize("kind", ["hot", "app"])
async def test_connection_close_and_http_1_0_close(open_site: OpenSite, kind: str) -> None:
    site = await open_site(routes(Recorder()))
    path = kind.encode()
    for request in [
        b"GET /%b HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n" % path + GET,
        b"GET /%b HTTP/1.0\r\n\r\n" % path + GET,
        b"GET /%b HTTP/1.0\r\nconnection: keep-alive\r\n\r\n" % path,
    ]:
        client = await site.connect()
        client.send(request)
        reply = await client.reply()
        assert reply.status == 200
        assert reply.headers["connection"] == "close"
        assert await client.closed() == b""


async def test_head_has_no_body(open_site: OpenSite) -> None:
    site = await open_site(routes(Recorder(lambda request: request.send(200, (), b"12345"))))
    client = await site.connect()
    client.send(b"HEAD" + GET[3:] + GET)
    reply = await client.reply("HEAD")
    assert reply.headers["content-length"] == "5"
    assert (await client.reply()).body == b"12345"


async def test_streams_are_chunked_and_close_delimited_for_http_1_0(open_site: OpenSite) -> None:
    def answer(request: HotRequest) -> None:
        request.start_stream(200, [(b"content-type", b"text/plain")], b"a")
        request.write(b"")
        request.write(b"bc")
        request.end(b"d")

    site = await open_site(routes(Recorder(answer)))
    client = await site.connect()
    client.send(GET + b"HEAD" + GET[3:] + GET)
    assert (await client.reply()).body == b"abcd"
    assert (await client.reply("HEAD")).body == b""
    assert (await client.reply()).body == b"abcd"
    old = await site.connect()
    old.send(b"GET /hot HTTP/1.0\r\n\r\n")
    reply = await old.reply()
    assert "transfer-encoding" not in reply.headers
    assert reply.body == b"abcd"


REFUSALS = {
    "no host": (b"GET /hot HTTP/1.1\r\n\r\n", 400),
    "two hosts": (b"GET /hot HTTP/1.1\r\nhost: a\r\nHost: a\r\n\r\n", 400),
    "bad host": (b"GET /hot HTTP/1.1\r\nhost: a b\r\n\r\n", 400),
    "host with user": (b"GET /hot HTTP/1.1\r\nhost: u@a\r\n\r\n", 400),
    "empty host": (b"GET /hot HTTP/1.1\r\nhost:\r\n\r\n", 400),
    "length and coding": (POST_HEAD + b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "coding and length": (POST_HEAD + b"transfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n0\r\n\r\n", 400),
    "two lengths": (POST_HEAD + b"content-length: 3\r\ncontent-length: 3\r\n\r\nabc", 400),
    "signed length": (POST_HEAD + b"content-length: +3\r\n\r\nabc", 400),
    "listed length": (POST_HEAD + b"content-length: 3, 3\r\n\r\nabc", 400),
    "gzip, chunked": (POST_HEAD + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400),
    "identity": (POST_HEAD + b"transfer-encoding: identity\r\n\r\n", 400),
    "two codings": (POST_HEAD + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "coding in 1.0": (b"POST /hot HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "folded header": (b"GET /hot HTTP/1.1\r\nhost: a\r\nx: 1\r\n 2\r\n\r\n", 400),
    "space before colon": (b"GET /hot HTTP/1.1\r\nhost : a\r\n\r\n", 400),
    "control byte": (b"GET /hot HTTP/1.1\r\nhost: a\r\nx: \x01\r\n\r\n", 400),
    "byte outside ascii": (b"GET /hot HTTP/1.1\r\nhost: a\r\nx: \xc3\xa9\r\n\r\n", 400),
    "bare lf": (b"GET /hot HTTP/1.1\nhost: a\n\n", 400),
    "leading blank line": (b"\r\nGET /hot HTTP/1.1\r\nhost: a\r\n\r\n", 400),
    "unknown method": (b"FETCH /hot HTTP/1.1\r\nhost: a\r\n\r\n", 400),
    "lower-case method": (b"get /hot HTTP/1.1\r\nhost: a\r\n\r\n", 400),
    "utf-8 target": (b"GET /h\xc3\xa9 HTTP/1.1\r\nhost: a\r\n\r\n", 400),
    "fragment": (b"GET /hot#x HTTP/1.1\r\nhost: a\r\n\r\n", 400),
    "asterisk": (b"OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n", 400),
    "other scheme": (b"GET ftp://a/hot HTTP/1.1\r\nhost: a\r\n\r\n", 400),
    "tunnel": (b"CONNECT a:80 HTTP/1.1\r\nhost: a\r\n\r\n", 405),
    "body on get": (b"GET /hot HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc", 400),
    "chunked get": (b"GET /hot HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "version 2.0": (b"GET /hot HTTP/2.0\r\nhost: a\r\n\r\n", 505),
    "version 1.2": (b"GET /hot HTTP/1.2\r\nhost: a\r\n\r\n", 400),
    "http 2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "tls hello": (b"\x16\x03\x01\x02\x00\x01\x00", 400),
    "65 headers": (b"GET /hot HTTP/1.1\r\nhost: a\r\n" + b"x: 1\r\n" * 64 + b"\r\n", 431),
    "large header": (b"GET /hot HTTP/1.1\r\nhost: a\r\nx: " + b"1" * 33_000 + b"\r\n\r\n", 431),
    "endless header": (b"GET /hot HTTP/1.1\r\nhost: a\r\nx: " + b"1" * 50_000, 431),
    "long target": (b"GET /hot?" + b"1" * 8_200 + b" HTTP/1.1\r\nhost: a\r\n\r\n", 414),
    "endless target": (b"GET /hot?" + b"1" * 50_000, 414),
    "expects cake": (POST_HEAD + b"content-length: 3\r\nexpect: cake\r\n\r\n", 417),
    "too long": (POST_HEAD + b"content-length: 4097\r\n\r\n", 413),
    "too long, expected": (POST_HEAD + b"content-length: 4097\r\nexpect: 100-continue\r\n\r\n", 413),
    "chunks too long": (CHUNKED_HEAD + b"1002\r\n" + b"a" * 4098, 413),
    "bad chunk": (CHUNKED_HEAD + b"xyz\r\n", 400),
    "negative chunk": (CHUNKED_HEAD + b"-3\r\n", 400),
    "chunk without end": (CHUNKED_HEAD + b"3\r\nabcd\r\n", 400),
    "long extension": (CHUNKED_HEAD + b"3;" + b"x" * 5_000, 400),
    "chunked upgrade": (
        POST_HEAD + b"connection: upgrade\r\nupgrade: h2c\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
}


@pytest.mark.parametrize("kind", ["hot", "app"])
@pytest.mark.parametrize("name", REFUSALS)
async def test_a_refused_request_is_answered_once_and_nothing_after_it_is_read(
    open_site: OpenSite, name: str, kind: str
) -> None:
    handler, app = Recorder(), EchoApp()
    site = await open_site(routes(handler), app=app)
    site.table.limit_body("/app", 4096)
    raw, status = REFUSALS[name]
    client = await site.connect()
    client.send(raw.replace(b"/hot", b"/" + kind.encode()))
    reply = await client.reply()
    assert reply.status == status
    assert reply.headers["connection"] == "close"
    assert reply.headers["content-type"] == "application/problem+json"
    assert b'"code":"wire.' in reply.body
    client.send(GET)
    assert await client.closed() == b""
    assert handler.requests == []
    assert app.bodies == []


async def test_limits_that_are_just_met_are_no_refusal(open_site: OpenSite) -> None:
    site = await open_site(routes(Recorder()))
    client = await site.connect()
    target = b"/hot?" + b"1" * (8 * 1024 - 5)
    client.send(b"GET %b HTTP/1.1\r\nhost: a\r\n" % target + b"x: 1\r\n" * 63 + b"\r\n")
    assert (await client.reply()).status == 200
    client.send(POST_HEAD + b"content-length: 4096\r\n\r\n" + b"a" * 4096)
    assert (await client.reply()).status == 200
    client.send(b"POST /hot HTTP/1.1\r\nhost: [::1]:8400\r\ncontent-length: 2 \r\n\r\nok")
    assert (await client.reply()).body == b"hot:ok"


async def test_a_refusal_takes_the_shape_that_the_table_gives(open_site: OpenSite) -> None:
    site = await open_site(routes(Recorder()))
    site.table.refuse = lambda error, path: (((b"x-shape", b"own"),), error.code.encode())
    client = await site.connect()
    client.send(b"GET / HTTP/1.1\r\n\r\n")
    reply = await client.reply()
    assert (reply.headers["x-shape"], reply.body) == ("own", b"wire.malformed_request")


async def test_an_application_that_runs_when_its_body_turns_out_too_long_sees_a_disconnect(open_site: OpenSite) -> None:
    app = EchoApp()
    site = await open_site(app=app)
    site.table.limit_body("/app", 10)
    client = await site.connect()
    client.send(b"POST /app HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n")
    async with asyncio.timeout(PATIENCE_S):
        while not app.calls:  # noqa: ASYNC110
            await asyncio.sleep(0)
    client.send(b"20\r\n" + b"a" * 32 + b"\r\n")
    assert (await client.reply()).status == 413
    await asyncio.wait_for(app.disconnected.wait(), PATIENCE_S)


async def test_expected_bodies_are_asked_for(open_site: OpenSite) -> None:
    site = await open_site(routes(Recorder()))
    client = await site.connect()
    for path, body in [(b"/hot", b"hot:abc"), (b"/app", b"asgi:abc")]:
        client.send(b"POST %b HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\nexpect: 100-Continue\r\n\r\n" % path)
        assert (await client.reply()).status == 100
        client.send(b"abc")
        assert (await client.reply()).body == body
    client.send(b"POST /early HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\nexpect: 100-continue\r\n\r\n")
    assert (await client.reply()).body == b"early"
    assert await client.closed() == b""


async def test_an_early_answer_keeps_the_connection_if_the_rest_is_small(open_site: OpenSite) -> None:
    site = await open_site(routes(Recorder()))
    client = await site.connect()
    client.send(b"POST /early HTTP/1.1\r\nhost: a\r\ncontent-length: 8\r\n\r\nabc")
    assert (await client.reply()).body == b"early"
    client.send(b"defgh" + POST)
    assert (await client.reply()).body == b"hot:hello"
    client.send(b"POST /early HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\nabc")
    assert (await client.reply()).body == b"early"
    client.send(b"a" * 100_000)
    assert await client.closed() == b""


async def test_an_upgrade_that_is_not_taken_is_an_ordinary_request(open_site: OpenSite) -> None:
    site = await open_site(routes(Recorder()))
    client = await site.connect()
    upgrade = b"connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAM\r\n"
    client.send(POST.replace(HOST, HOST + upgrade) + GET.replace(HOST, HOST + upgrade) + POST)
    assert (await client.reply()).body == b"hot:hello"
    assert (await client.reply()).body == b"hot:"
    assert (await client.reply()).body == b"hot:hello"
    client.send(POST.replace(HOST, HOST + upgrade).replace(b"/hot", b"/app") + POST)
    assert (await client.reply()).body == b"asgi:hello"
    assert (await client.reply()).body == b"hot:hello"


@pytest.mark.parametrize("start", [b"GET /hot HT", b"POST /hot HTTP/1.1\r\nhost: a\r\ncontent-length: 4000\r\n\r\nab"])
async def test_slow_requests_are_refused(open_site: OpenSite, start: bytes) -> None:
    site = await open_site(routes(Recorder()), limits=FAST)
    client = await site.connect()
    client.send(start)
    assert (await client.reply()).status == 408
    assert await client.closed() == b""


async def test_slow_bodies_of_applications_are_refused(open_site: OpenSite) -> None:
    app = EchoApp()
    site = await open_site(app=app, limits=FAST)
    client = await site.connect()
    client.send(b"POST /app HTTP/1.1\r\nhost: a\r\ncontent-length: 4000\r\n\r\nab")
    assert (await client.reply()).status == 408
    await asyncio.wait_for(app.disconnected.wait(), PATIENCE_S)


async def test_idle_connections_are_closed(open_site: OpenSite) -> None:
    site = await open_site(routes(Recorder()), limits=replace(FAST, keep_alive_s=0.3))
    fresh, used = await site.connect(), await site.connect()
    used.send(GET)
    assert (await used.reply()).status == 200
    assert await fresh.closed() == b""
    assert await used.closed() == b""


async def test_a_waiting_request_is_not_idle(open_site: OpenSite) -> None:
    waiting: asyncio.Queue[HotRequest] = asyncio.Queue()
    site = await open_site(routes(Recorder(waiting.put_nowait)), limits=FAST)
    client = await site.connect()
    client.send(GET)
    request = await asyncio.wait_for(waiting.get(), PATIENCE_S)
    site.connection.check(asyncio.get_running_loop().time() + 1000)
    request.send(200)
    assert (await client.reply()).status == 200


async def test_a_leaving_client_is_told_promptly_and_its_task_is_cancelled(open_site: OpenSite) -> None:
    left, cancelled, started = asyncio.Event(), asyncio.Event(), asyncio.Event()

    def answer(request: HotRequest) -> None:
        async def work() -> None:
            started.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.set()
                raise

        request.on_disconnect(left.set)
        request.create_task(work())

    handler = Recorder(answer)
    site = await open_site(routes(handler))
    for leave in ["abort", "half-close"]:
        for event in (left, cancelled, started):
            event.clear()
        client = await site.connect()
        client.send(GET)
        await asyncio.wait_for(started.wait(), PATIENCE_S)
        if leave == "abort":
            client.abort()
        else:
            client.writer.write_eof()
        await asyncio.wait_for(left.wait(), PATIENCE_S)
        await asyncio.wait_for(cancelled.wait(), PATIENCE_S)
        request = handler.requests[-1]
        assert request.is_disconnected
        request.send(200, (), b"dropped in silence")
        request.write(b"too")
        late = asyncio.Event()
        request.on_disconnect(late.set)
        await asyncio.wait_for(late.wait(), PATIENCE_S)


async def test_no_disconnect_is_told_after_the_response(open_site: OpenSite) -> None:
    told: list[int] = []

    def answer(request: HotRequest) -> None:
        request.on_disconnect(lambda: told.append(1))
        request.send(200)

    site = await open_site(routes(Recorder(answer)))
    client = await site.connect()
    client.send(GET)
    await client.reply()
    client.abort()
    while site.state.connections:  # noqa: ASYNC110
        await asyncio.sleep(0)
    assert told == []


async def test_a_stream_knows_when_its_reader_is_slow(open_site: OpenSite) -> None:
    drained = asyncio.Event()
    requests: list[HotRequest] = []
    size = 0

    def answer(request: HotRequest) -> None:
        nonlocal size
        requests.append(request)
        request.start_stream(200)
        while request.is_writable:
            request.write(b"x" * 65536)
            size += 65536
        request.on_drain(drained.set)

    site = await open_site(routes(Recorder(answer)))
    client = await site.connect()
    client.send(GET)
    await client.reader.readuntil(b"\r\n\r\n")
    assert [request.is_writable for request in requests] == [False]
    while not drained.is_set():
        assert await client.reader.read(65536)
    assert requests[0].is_writable
    requests[0].end()
    assert size > 65536


async def test_a_stalled_reader_is_cut(open_site: OpenSite) -> None:
    left = asyncio.Event()

    def answer(request: HotRequest) -> None:
        request.on_disconnect(left.set)
        request.start_stream(200)

        def fill() -> None:
            while request.is_writable:
                request.write(b"x" * 65536)
            request.on_drain(fill)  # the kernel's buffers grow

        fill()

    site = await open_site(routes(Recorder(answer)), limits=FAST)
    client = await site.connect()
    client.send(GET)
    await asyncio.wait_for(left.wait(), PATIENCE_S)


async def test_failures_become_500_or_a_broken_stream(open_site: OpenSite) -> None:
    def in_handler(request: HotRequest) -> None:
        raise KeyError("a secret")

    def in_task(request: HotRequest) -> None:
        async def work() -> None:
            raise NotFound("no such thing")

        request.create_task(work())

    def in_stream(request: HotRequest) -> None:
        request.start_stream(200, (), b"abc")
        raise KeyError

    site = await open_site({"GET /a": Recorder(in_handler), "GET /b": Recorder(in_task), "GET /c": Recorder(in_stream)})
    client = await site.connect()
    client.send(GET.replace(b"/hot", b"/a") + GET.replace(b"/hot", b"/b") + GET.replace(b"/hot", b"/c"))
    reply = await client.reply()
    assert reply.status == 500
    assert b"secret" not in reply.body
    reply = await client.reply()
    assert reply.status == 404
    assert b"request.not_found" in reply.body
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await client.reply()


async def test_responses_cannot_be_split_by_header_values(open_site: OpenSite) -> None:
    def answer(request: HotRequest) -> None:
        request.send(200, [(b"x", b"1\r\nset-cookie: a=b")])

    site = await open_site(routes(Recorder(answer)))
    client = await site.connect()
    client.send(GET)
    reply = await client.reply()
    assert reply.status == 500
    assert "set-cookie" not in reply.headers


async def test_misuse_of_a_request_is_an_error(open_site: OpenSite) -> None:
    def answer(request: HotRequest) -> None:
        with pytest.raises(RuntimeError):
            request.write(b"before the head")
        request.send(200)
        with pytest.raises(RuntimeError):
            request.send(200)
        with pytest.raises(RuntimeError):
            request.start_stream(200)
        with pytest.raises(RuntimeError):
            request.end()

    site = await open_site(routes(Recorder(answer)))
    client = await site.connect()
    client.send(GET)
    assert (await client.reply()).status == 200


async def test_websockets_are_handed_to_the_application(open_site: OpenSite) -> None:
    pytest.importorskip("wsproto", reason="no WebSocket library is installed for uvicorn")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "websocket"
        assert scope["path"] == "/socket"
        assert (await receive())["type"] == "websocket.connect"
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": "hi"})
        await send({"type": "websocket.close"})

    site = await open_site(routes(Recorder()), app=app)
    client = await site.connect()
    client.send(
        b"GET /socket HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
        b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    head = await asyncio.wait_for(client.reader.readuntil(b"\r\n\r\n"), PATIENCE_S)
    assert head.startswith(b"HTTP/1.1 101 ")
    assert await client.reader.readexactly(4) == b"\x81\x02hi"
    client.abort()
    while site.state.connections:  # noqa: ASYNC110
        await asyncio.sleep(0)
