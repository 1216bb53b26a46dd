"""A head that a connection has sent before is answered as a fresh connection would answer it, whatever is sent next."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadbed.wire.hot import Limits
from roadbed.wire.known_head import KnownHead, remember
from roadbed.wire.request import HotRequest

from .conftest import OpenSite, Recorder, Site

START = b"POST /hot?a=1 HTTP/1.1\r\nhost: a\r\nauthorization: Bearer one\r\n"
REST = b"\r\nx-one: 1\r\n\r\n"
FIRST = START + b"Content-Length: 5" + REST + b"hello"
LATER = Limits(linger_s=0.05, sweep_s=0.02)


def head(length: bytes) -> bytes:
    return START + b"Content-Length: " + length + REST


def known() -> KnownHead:
    fields = [(b"host", b"a"), (b"authorization", b"Bearer one"), (b"content-length", b"5"), (b"x-one", b"1")]
    made = remember(head(b"5"), b"POST", b"/hot", b"a=1", fields, dict(fields))
    assert made is not None
    return made


def fields_of(request: HotRequest) -> Any:
    return (request.method, request.path, request.query, request.headers, request.get(b"content-length"), request.body)


async def answers(site: Site, handler: Recorder, sent: bytes, *, first: bytes = b"") -> tuple[Any, bytes]:
    """What the handler saw and the client got for bytes that come in one read, after ``first`` on the connection."""
    client = await site.connect()
    if first:
        client.send(first)
        assert (await client.reply()).status == 200
    handler.requests.clear()
    client.send(sent)
    client.writer.write_eof()
    got = await client.closed()
    lines = [line for line in got.split(b"\r\n") if not line.lower().startswith(b"date:")]
    return [fields_of(request) for request in handler.requests], b"\r\n".join(lines)


SECOND = {
    "the same": FIRST,
    "another length": head(b"3") + b"abc",
    "leading zeros": head(b"0003") + b"abc",
    "ten digits with zeros": head(b"0000000003") + b"abc",
    "eleven digits with zeros": head(b"00000000003") + b"abc",
    "far too long": head(b"9999999999") + b"abc",
    "beyond every integer": head(b"99999999999999999999999") + b"abc",
    "just over the limit": head(b"4097") + b"abc",
    "no body": head(b"0"),
    "no digits": head(b"") + b"abc",
    "a sign": head(b"+3") + b"abc",
    "a minus": head(b"-3") + b"abc",
    "two lengths in one": head(b"3, 3") + b"abc",
    "a space after": head(b"3 ") + b"abc",
    "a tab before": head(b"\t3") + b"abc",
    "hexadecimal": head(b"0x3") + b"abc",
    "digits of another script": head("\u0663".encode()) + b"abc",
    "a superscript digit": head(b"\xb3") + b"abc",
    "a bare line feed": head(b"3\nx: 1") + b"abc",
    "a bare carriage return": head(b"3\rx: 1") + b"abc",
    "a second length": head(b"3\r\ncontent-length: 4") + b"abcd",
    "a second length that is the same": head(b"3\r\ncontent-length: 3") + b"abc",
    "a chunked body too": head(b"3\r\ntransfer-encoding: chunked") + b"3\r\nabc\r\n0\r\n\r\n",
    "a folded line": head(b"3\r\n x") + b"abc",
    "another case": START.replace(b"host", b"Host") + b"CONTENT-LENGTH: 3" + REST + b"abc",
    "an expectation": head(b"3\r\nexpect: 100-continue") + b"abc",
    "an upgrade": head(b"3\r\nconnection: upgrade\r\nupgrade: h2c") + b"abc",
    "a last request": head(b"3\r\nconnection: close") + b"abc" + FIRST,
    "an older version": head(b"3").replace(b"HTTP/1.1", b"HTTP/1.0") + b"abc" + FIRST,
    "a second host": head(b"3\r\nhost: b") + b"abc",
    "another key": head(b"3").replace(b"one\r", b"two\r") + b"abc",
    "pipelined": head(b"3") + b"abc" + FIRST + head(b"0") + head(b"2") + b"xy",
    "pipelined, then refused": head(b"3") + b"abc" + head(b"x") + FIRST,
    "a request hidden in a body": head(b"%d" % len(FIRST)) + FIRST + head(b"1") + b"z",
    "a body that goes on as a request": head(b"3") + FIRST,
    "half a body": head(b"9") + b"abc",
    "half a head": head(b"3")[:-3],
    "line breaks between": b"\r\n" + FIRST,
}


@pytest.mark.parametrize("kind", SECOND)
async def test_a_second_request_is_read_as_a_first_would_be(open_site: OpenSite, kind: str) -> None:
    handler = Recorder()
    site = await open_site({"POST /hot": handler}, limits=LATER)
    want = await answers(site, handler, SECOND[kind])
    assert await answers(site, handler, SECOND[kind], first=FIRST) == want


@pytest.mark.parametrize("width", [1, 2, 3, 7, 50, 93, 96, 97])
async def test_a_known_head_may_come_in_pieces(open_site: OpenSite, width: int) -> None:
    handler = Recorder()
    site = await open_site({"POST /hot": handler})
    client = await site.connect()
    client.send(FIRST)
    await client.reply()
    stream = head(b"3") + b"abc" + head(b"12") + b"hello, world" + head(b"0") + FIRST
    for start in range(0, len(stream), width):
        client.send(stream[start : start + width])
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert [(await client.reply()).body for _ in range(4)] == [b"hot:abc", b"hot:hello, world", b"hot:", b"hot:hello"]


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
async def test_a_method_without_a_body_gets_none_by_a_known_head(open_site: OpenSite, method: bytes) -> None:
    handler = Recorder()
    site = await open_site({"GET /hot": handler, "HEAD /hot": handler}, limits=LATER)
    first, second = (head(length).replace(b"POST", method) for length in (b"0", b"5"))
    client = await site.connect()
    client.send(first)
    assert (await client.reply(method.decode())).status == 200
    client.send(second + b"hello")
    assert (await client.reply(method.decode())).status == 400


async def test_a_refusal_after_another_method_still_has_its_body(open_site: OpenSite) -> None:
    """The parser saw a HEAD last, but the request that is refused is none."""
    handler = Recorder()
    limits = Limits(body_grace_s=0.05, linger_s=0.05, sweep_s=0.02)
    site = await open_site({"POST /hot": handler}, limits=limits)
    client = await site.connect()
    client.send(FIRST)
    await client.reply()
    client.send(b"HEAD /app HTTP/1.1\r\nhost: a\r\n\r\n")
    await client.reply("HEAD")
    client.send(head(b"9") + b"ab")
    reply = await client.reply()
    assert (reply.status, b"slow" in reply.body) == (408, True)


async def test_a_known_request_is_finished_when_a_drain_begins(open_site: OpenSite) -> None:
    held: list[HotRequest] = []
    site = await open_site({"POST /hot": Recorder(held.append)})
    client = await site.connect()
    for _ in range(2):
        client.send(FIRST)
        while not held:  # noqa: ASYNC110
            await asyncio.sleep(0)
        if held[0].known is not None:
            site.connection.shutdown()
        held.pop().send(200)
        reply = await client.reply()
    assert reply.headers["connection"] == "close"
    assert await client.closed() == b""


async def test_what_was_found_out_from_a_head_stays_with_that_head(open_site: OpenSite) -> None:
    memos: list[object] = []

    def answer(request: HotRequest) -> None:
        memos.append(request.known.memo if request.known is not None else None)
        if request.known is not None:
            request.known.memo = request.get(b"authorization")
        request.send(200)

    site = await open_site({"POST /hot": Recorder(answer)})
    client = await site.connect()
    other = FIRST.replace(b"Bearer one", b"Bearer two")
    for sent in (FIRST, FIRST, FIRST, other, other, FIRST, FIRST):
        client.send(sent)
        await client.reply()
    assert memos == [None, None, b"Bearer one", None, None, None, None]


@given(st.binary(max_size=14) | st.integers(0, 10**12).map(lambda number: b"%d" % number), st.binary(max_size=8))
def test_only_digits_match_in_the_place_of_the_length(digits: bytes, after: bytes) -> None:
    made = known()
    data = head(digits) + after
    found = made.match(data)
    if digits.isdigit() and len(digits) <= 10:
        assert found == (len(head(digits)), int(digits))
        assert made.index[b"content-length"] == dict(made.headers)[b"content-length"] == digits
    else:
        assert found is None


@given(st.integers(0, len(head(b"5")) - 1), st.integers(0, 255))
def test_a_head_with_another_byte_is_another_head(place: int, byte: int) -> None:
    data = bytearray(head(b"5"))
    data[place] = byte
    found = known().match(bytes(data))
    changed = bytes(data) != head(b"5") and not (
        data[place : place + 1].isdigit() and head(b"5")[place : place + 1] == b"5"
    )
    assert (found is None) == changed
