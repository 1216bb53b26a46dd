"""The SSE parser gives the same events at any split, and reads back what the encoder writes."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadbed.wire.errors import EventTooLarge
from roadbed.wire.sse import SseEvent, SseParser, encode_event


def parse(*reads: bytes, event_bytes_max: int = 1024) -> list[SseEvent]:
    parser = SseParser(event_bytes_max)
    events = [event for read in reads for event in parser.feed(read)]
    return events + parser.finish()


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"data: a\n\n", [SseEvent(b"a")]),
        (b"data:a\n\ndata: b\n\n", [SseEvent(b"a"), SseEvent(b"b")]),
        (b"data:  a\n\n", [SseEvent(b" a")]),
        (b"data: a\r\n\r\ndata: b\r\rdata: c\n\n", [SseEvent(b"a"), SseEvent(b"b"), SseEvent(b"c")]),
        (b"event: e\nid: 7\ndata: a\ndata: b\n\n", [SseEvent(b"a\nb", b"e", b"7")]),
        (b": ping\n\n\n\ndata: a\n\n", [SseEvent(b"a")]),
        (b"event: ping\n\ndata: a\n\n", [SseEvent(b"a")]),
        (b"data\n\n", [SseEvent(b"")]),
        (b"data: a", [SseEvent(b"a")]),
        (b"data: a\n", [SseEvent(b"a")]),
        (b"\xef\xbb\xbfdata: a\n\n", [SseEvent(b"a")]),
        (b'retry: 5\nother: x\ndata: {"a": 1}\n\n', [SseEvent(b'{"a": 1}')]),
        (b"id: a\0b\ndata: a\n\n", [SseEvent(b"a")]),
        ("data: é😀\n\n".encode(), [SseEvent("é😀".encode())]),
        (b"", []),
    ],
)
def test_events_are_read_at_every_split(stream: bytes, events: list[SseEvent]) -> None:
    assert parse(stream) == events
    for cut in range(len(stream) + 1):
        assert parse(stream[:cut], stream[cut:]) == events
    assert parse(*[stream[n : n + 1] for n in range(len(stream))]) == events


PIECES = st.sampled_from(
    b"data: |data:|data|event: e|id: 1|: c|\n|\r|\r\n|\n\n|a|{1}|\xef\xbb\xbf|\xc3\xa9".split(b"|")
)


@given(st.lists(PIECES, max_size=30), st.data())
def test_any_split_gives_the_same_events(pieces: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(pieces)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    bounds = [0, *cuts, len(stream)]
    reads = [stream[start:end] for start, end in pairwise(bounds)]
    assert parse(*reads) == parse(stream)


@given(st.lists(st.binary(max_size=40), max_size=8), st.data())
def test_the_limit_holds_at_any_split(bodies: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(encode_event(body.replace(b"\n", b"").replace(b"\r", b"")) for body in bodies)
    cut = data.draw(st.integers(0, len(stream)))

    def outcome(*reads: bytes) -> tuple[list[SseEvent], bool]:
        parser = SseParser(24)
        events: list[SseEvent] = []
        try:
            for read in reads:
                events += parser.feed(read)
            events += parser.finish()
        except EventTooLarge:
            return events, True
        return events, False

    assert outcome(stream[:cut], stream[cut:]) == outcome(stream)


def test_an_event_over_the_limit_is_refused() -> None:
    assert parse(b"data: 5678\n\n", event_bytes_max=10) == [SseEvent(b"5678")]
    with pytest.raises(EventTooLarge):
        parse(b"data: 56789\n\n", event_bytes_max=10)
    parser = SseParser(10)
    assert parser.feed(b"x" * 10) == []
    with pytest.raises(EventTooLarge):
        parser.feed(b"x")


@given(st.binary(max_size=60), st.sampled_from([b"", b"delta"]), st.sampled_from([None, b"", b"7"]))
def test_what_is_written_is_read_back(data: bytes, event: bytes, identifier: bytes | None) -> None:
    written = b": x\n\n" + encode_event(data, event, identifier)
    normal = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    assert parse(written) == [SseEvent(normal, event, identifier)]


def test_line_breaks_cannot_be_smuggled_into_single_lines() -> None:
    with pytest.raises(ValueError):
        encode_event(b"", b"a\nb")
    with pytest.raises(ValueError):
        encode_event(b"", b"", b"a\rb")
