"""What the log shows of an address whose request failed: words of our own, and nothing that a caller made."""

from __future__ import annotations

import pytest

from roadbed.server.app import shown_path


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/v1/chat/completions", "/v1/chat/completions"),
        ("/api/documents/bob@example.com", "/api/documents/*"),
        ("/api/keys/AKIAIOSFODNN7ABCDEFG/rotate", "/api/keys/*/rotate"),
        ("/console/Jane Doe", "/console/*"),
        ("/" + "x/" * 500, "/" + "x/" * 99 + "x"),
    ],
)
def test_only_words_of_our_own_are_shown(path: str, shown: str) -> None:
    assert shown_path(path) == shown
