from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadbed.server.app import MEANT_PATHS
from roadbed.server.near_address import near_address


@pytest.mark.parametrize(
    ("called", "meant"),
    [
        ("/chat/completions", "/v1/chat/completions"),
        ("/v1/v1/chat/completions", "/v1/chat/completions"),
        ("/api/v1/chat/completions", "/v1/chat/completions"),
        ("/v1/chat/completions/", "/v1/chat/completions"),
        ("/v1/completions", "/v1/chat/completions"),
        ("/models", "/v1/models"),
        ("/messages", "/v1/messages"),
        ("/v1/nothing", None),
        ("/", None),
    ],
)
def test_a_base_url_that_is_a_little_wrong_is_told(called: str, meant: str | None) -> None:
    assert near_address(called, MEANT_PATHS) == meant


@given(st.lists(st.sampled_from(["v1", "chat", "completions", "models", "x", ""])).map("/".join))
def test_only_what_exists_is_named(path: str) -> None:
    assert near_address(path, MEANT_PATHS) in (None, *MEANT_PATHS)
