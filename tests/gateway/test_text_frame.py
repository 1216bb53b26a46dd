"""What is cut out of a chunk is what the decoder would have read in it."""

from __future__ import annotations

import json
from typing import cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadbed.gateway.dialects.openai_chat import OpenAIDecoder
from roadbed.gateway.errors import UpstreamError
from roadbed.gateway.text_frame import learn_frame
from roadbed.gateway.types import TextDelta
from roadbed.wire.sse import SseEvent


def chunk(text: str, *, ascii_only: bool = True, space: str = "", **fields: object) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "logprobs": None, "finish_reason": None}
    body = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "choices": [choice], **fields}
    separators = (f",{space}", f":{space}")
    return b"data: %b\n\n" % json.dumps(body, separators=separators, ensure_ascii=ascii_only).encode()


def decoded(data: bytes) -> object:
    try:
        return OpenAIDecoder().feed(SseEvent(data[6:-2]))
    except UpstreamError:
        return None


@given(st.text(min_size=1), st.text(min_size=1), st.booleans(), st.sampled_from(["", " "]))
def test_a_text_in_a_known_frame_is_what_the_decoder_reads(
    first: str, next_: str, ascii_only: bool, space: str
) -> None:
    first, next_ = (text.encode("utf-8", "ignore").decode() for text in (first, next_))
    frame = learn_frame(chunk(first or "a", ascii_only=ascii_only, space=space))
    assert frame is not None
    data = chunk(next_, ascii_only=ascii_only, space=space)
    found = frame.text_in(data)
    if not next_:
        assert found is None
        return
    assert found is not None
    raw, text = found
    assert text == next_ == msgspec.json.decode(b'"%b"' % raw)
    assert decoded(data) == [TextDelta(text)]


@given(st.lists(st.text(), min_size=2, max_size=5), st.booleans())
def test_chunks_that_came_together_say_what_they_say_one_after_the_other(texts: list[str], ascii_only: bool) -> None:
    texts = [text.encode("utf-8", "ignore").decode() for text in texts]
    frame = learn_frame(chunk("x", choice=1) + chunk("a", ascii_only=ascii_only))
    assert frame is not None
    said = "".join(texts)
    found = frame.text_in(b"".join([chunk(text, ascii_only=ascii_only) for text in texts]))
    if not said:
        assert found is None
        return
    assert found is not None
    raw, text = found
    assert text == said == msgspec.json.decode(b'"%b"' % raw)


@given(st.lists(st.binary(max_size=20), min_size=2, max_size=3))
def test_chunks_that_came_together_are_read_as_the_decoder_reads_each(raws: list[bytes]) -> None:
    frame = learn_frame(chunk("a"))
    assert frame is not None
    chunks = [chunk("\N{SNOWMAN}").replace(b"\\u2603", raw) for raw in raws]
    found = frame.text_in(b"".join(chunks))
    if found is not None:
        events = [event for data in chunks for event in cast(list[TextDelta], decoded(data))]
        assert "".join([event.text for event in events]) == found[1]
        assert b"\n" not in found[0]


@given(st.binary(max_size=40))
def test_whatever_stands_in_the_place_of_the_text_is_read_as_the_decoder_reads_it(raw: bytes) -> None:
    frame = learn_frame(chunk("a"))
    assert frame is not None
    data = chunk("\N{SNOWMAN}").replace(b"\\u2603", raw)
    found = frame.text_in(data)
    if found is not None:
        assert decoded(data) == [TextDelta(found[1])]
        assert b"\n" not in found[0]


@pytest.mark.parametrize(
    "data",
    [
        chunk("a", usage={"prompt_tokens": 3, "completion_tokens": 1}),
        chunk("a")[:-1],
        chunk("a").replace(b'"finish_reason":null', b'"finish_reason":"stop"'),
        chunk("a").replace(b'"index":0', b'"index":1'),
        chunk("a").replace(b'"content"', b'"refusal"'),
        chunk("a").replace(b'"content":"a"', b'"content":"a","reasoning_content":"why"'),
        chunk("a").replace(b'"content":"a"', b'"content":"a","content":"b"'),
        chunk("a", note={"content": "a"}),
        b"data: [DONE]\n\n",
        b": a comment\n\n",
        b"event: x\n" + chunk("a"),
        b'data: {"error":{"message":"no","content":"a"}}\n\n',
    ],
)
def test_a_chunk_that_says_more_than_a_text_gives_no_frame(data: bytes) -> None:
    assert learn_frame(data) is None


def test_a_chunk_of_another_frame_is_not_taken() -> None:
    frame = learn_frame(chunk("a"))
    assert frame is not None
    assert frame.text_in(chunk("b")) == (b"b", "b")
    others = [
        chunk("b", created=2),
        chunk("b") + chunk("c", created=2),
        chunk("b") + chunk("c")[:-1],
        chunk("b") + b"\n" + chunk("c"),
        chunk("b") + chunk("c").replace(b'"c"', b'"c\\"'),
        chunk("b").replace(b'"finish_reason":null', b'"finish_reason":"stop"'),
        chunk("b")[:40],
        b"data: [DONE]\n\n",
        chunk("a").replace(b'"a"', b'"a","refusal":"b"'),
    ]
    assert [frame.text_in(data) for data in others] == [None] * len(others)
