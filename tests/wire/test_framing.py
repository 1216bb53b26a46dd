"""A read that is a whole chunk is handed over without the parser as the parser would do it, whatever comes next."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from roadbed.wire import connection
from roadbed.wire.framing import CHUNK_BYTES_MAX, SIZE_LINES, is_one_chunk, size_line

from .test_known_response import LINES, Owner

HEAD = LINES + b"transfer-encoding: chunked\r\n\r\n"
EDGES = (1, 2, 15, 16, 17, 100, 254, 255, 256, 257, 1014, 1015, 1016, 1017, 1024)


def chunk(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(body), body)


bodies = st.one_of(
    st.binary(min_size=1, max_size=40),
    st.sampled_from(EDGES).map(lambda size: b"x" * size),
    st.sampled_from([b"\r\n", b"\r\n\r\n", b"3\r\nabc\r\n", b"0\r\n\r\n", b"x" * 252 + b"\r\n"]),
)
pieces = st.one_of(
    bodies.map(chunk),
    bodies.map(lambda body: b"%X\r\n%b\r\n" % (len(body), body)),
    bodies.map(lambda body: b"0" + chunk(body)),
    bodies.map(lambda body: b"%x;a=b\r\n%b\r\n" % (len(body), body)),
    bodies.map(lambda body: b"%x\r\n%b" % (len(body), body)),
    st.sampled_from(
        [b"\r\n", b"0", b"0\r\n\r\n", b"-2\r\n", b"+3\r\nabc\r\n", b" 3\r\nabc\r\n", b"3\nabc\n", b"3\r\n"]
    ),
    st.binary(min_size=1, max_size=12),
)


def told(reads: list[bytes]) -> list[Any]:
    return Owner().ask(*reads)


@example(whole=[], others=[b"14\r\nab\r\n", chunk(b"abc")])  # the second one stands within the first
@given(whole=st.lists(bodies.map(chunk), max_size=3), others=st.lists(pieces, max_size=4))
def test_any_reads_are_told_as_the_parser_tells_them(whole: list[bytes], others: list[bytes]) -> None:
    reads = [HEAD, *whole, *others]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connection, "is_one_chunk", lambda data, size: False)
        expected = told(reads)
    assert told(reads) == expected


@given(st.lists(bodies.map(chunk), min_size=1, max_size=6), st.lists(st.integers(1, 2000), max_size=6))
def test_any_cuts_of_good_chunks_give_the_body(chunks: list[bytes], cuts: list[int]) -> None:
    data, reads, begin = b"".join([*chunks, b"0\r\n\r\n"]), [HEAD], 0
    for size in [len(chunks[0]), *cuts, len(data)]:
        if piece := data[begin : begin + size]:
            reads.append(piece)
        begin += size
    found = told(reads)
    assert found[-1] == "complete"
    body = b"".join([said for said in found if isinstance(said, bytes)])
    assert body == b"".join([one[one.index(b"\r\n") + 2 : -2] for one in chunks])


def test_whole_chunks_after_the_first_are_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    owner = Owner()
    owner.ask(HEAD, chunk(b"one"))
    monkeypatch.setattr(owner.connection, "_parser", None)
    for body in (b"two", b"x" * 300):
        owner.connection.data_received(chunk(body))
    assert owner.told[-3:] == [b"one", b"two", b"x" * 300]


def test_a_body_over_the_limit_is_refused_without_the_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    owner = Owner()
    owner.ask(HEAD, chunk(b"one"))
    exchange = owner.connection.exchange
    assert exchange is not None
    owner.connection._body_bytes = exchange.request.response_bytes_max - 1
    owner.connection.data_received(chunk(b"two"))
    assert exchange.is_done
    assert b"two" not in owner.told


def test_the_size_line_of_each_count() -> None:
    for size in range(1, CHUNK_BYTES_MAX):
        data = chunk(b"x" * size)
        assert data.startswith(size_line(len(data)))
        assert is_one_chunk(data, size) is (len(data) <= CHUNK_BYTES_MAX)
        assert not is_one_chunk(data, size - 1)
    found = {len(chunk(b"x" * size)) for size in range(1, CHUNK_BYTES_MAX)}
    for count, line in enumerate(SIZE_LINES):
        assert (count in found) is (len(line) <= count)
