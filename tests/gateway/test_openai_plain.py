"""Plain chat requests: what the one-step decoder takes is what the ordinary one reads, and nothing that it refuses."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadbed.gateway.dialects.openai_plain import PlainChat, decode_plain
from roadbed.gateway.dialects.openai_server import chat_from_object, decode_chat
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
