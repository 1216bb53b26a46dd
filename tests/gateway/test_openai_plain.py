"""Plain chat requests: what the one-step decoder takes is what the ordinary one reads, and nothing that it refuses."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from roadbed.gateway.dialects.openai_plain import PlainChat, PlainTurn, decode_plain
from roadbed.gateway.dialects.openai_server import chat_from_object, decode_chat
from roadbed.guard.detect import Detector
from roadbed.guard.gate import Guard, _without_escapes
from roadbed.kernel.errors import RoadbedError

NUMBERS = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 3), st.sampled_from([10**9, 10**9 + 1, 2**70]), st.floats(-1, 3)
)
TURNS = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "user", "assistant", "tool", "developer", "x"]), "content": st.text()},
        optional={"name": st.text(max_size=3)},
    ),
    max_size=3,
)
BODIES = st.fixed_dictionaries(
    {"model": st.text(max_size=5), "messages": TURNS},
    optional={
        "stream": st.sampled_from([True, False, None, "yes"]),
        "max_tokens": NUMBERS,
        "temperature": NUMBERS,
        "top_p": NUMBERS,
        "n": NUMBERS,
        "seed": NUMBERS,
    },
)


@given(BODIES)
def test_it_reads_what_the_ordinary_decoder_reads(body: dict[str, Any]) -> None:
    plain = decode_plain(json.dumps(body).encode())
    if plain is None:
        return
    ordinary = chat_from_object(body)
    assert ordinary.is_plain
    assert plain.request == ordinary.request
    for name in ("model", "stream", "include_usage", "is_plain", "limit_field"):
        assert getattr(plain, name) == getattr(ordinary, name)
    assert plain.question() == ordinary.question()


def test_the_usual_request_is_plain() -> None:
    body = {"model": "fast", "messages": [{"role": "user", "content": "Hi"}], "temperature": 1, "max_tokens": 5}
    assert type(decode_chat(json.dumps(body | {"stream": True}).encode())) is PlainChat


@pytest.mark.parametrize("messages", [[], [{"role": "user", "content": "a"}] * 4097])
def test_bounds_are_left_to_the_ordinary_decoder(messages: list[dict[str, str]]) -> None:
    body = msgspec.json.encode({"model": "fast", "messages": messages})
    assert decode_plain(body) is None
    with pytest.raises(RoadbedError):
        decode_chat(body)


GUARD = Guard(Detector())
PLANTED = ("bob@example.com", "+47 22 33 44 55", "4111 1111 1111 1111", "8.8.8.8", "AKIAIOSFODNN7ABCDEFG")
BESIDE = (
    "\\",
    "\\u0040",
    '"',
    "\n",
    "\x1f",
    "\0",
    "{",
    "}",
    ":",
    ",",
    "\u2028",
    "\U0001f600",
    "order no. ",
    "password=",
)
CONTENTS = st.lists(st.sampled_from(PLANTED) | st.sampled_from(BESIDE) | st.text(max_size=6), max_size=6).map("".join)
ROLES = st.sampled_from(["system", "user", "assistant"])


@given(st.lists(st.builds(PlainTurn, ROLES, CONTENTS), min_size=1, max_size=3), st.booleans(), st.booleans())
@example([PlainTurn("user", "password=hunter2hunter2\x1f" + "x" * 40)], False, False)
def test_the_guard_looks_at_all_texts_that_are_sent(turns: list[PlainTurn], stream: bool, with_usage: bool) -> None:
    incoming = PlainChat("m", turns, stream, 5, 0.25, 1.0)
    body, texts = incoming.encoded(b'"them"', stream=stream, with_usage=with_usage)
    sent = msgspec.json.decode(body)
    given = msgspec.json.encode(turns)
    assert given in body
    assert texts == (_without_escapes(given.decode()) if b"\\" in given else given.decode())
    assert msgspec.json.decode(given) == sent.pop("messages")
    numbers = {name: sent.pop(name) for name in ("max_tokens", "temperature", "top_p")}
    assert numbers == {"max_tokens": 5, "temperature": 0.25, "top_p": 1.0}
    options = {"stream_options": {"include_usage": True}} if with_usage else {}
    assert sent == {"model": "them"} | ({"stream": True} | options if stream else {})
    if any(GUARD.scan(turn.content) for turn in turns):
        assert GUARD.scan_sent(texts)
    assert GUARD.scan_sent(texts) == GUARD.scan_bytes(given)


@given(st.lists(st.builds(PlainTurn, ROLES, CONTENTS), min_size=1, max_size=3), st.booleans())
@example([PlainTurn("user", "caf\xe9 \u2028 \x7f \U0001f600")], False)
def test_a_body_without_a_backslash_is_written_as_any_other(turns: list[PlainTurn], stream: bool) -> None:
    incoming = PlainChat("m", turns, stream, 5)
    body = json.dumps({"model": "m", "messages": msgspec.to_builtins(turns)}, ensure_ascii=False).encode()
    if b"\\" not in body:
        written = [
            incoming.encoded(b'"m"', stream=stream, with_usage=True, is_literal=is_it) for is_it in (True, False)
        ]
        assert written[0] == written[1]


@pytest.mark.parametrize("code", range(32))
def test_no_text_holds_what_must_be_escaped_where_the_body_has_no_backslash(code: int) -> None:
    body = b'{"model":"m","messages":[{"role":"user","content":"a%cb"}]}' % code
    assert decode_plain(body) is None
