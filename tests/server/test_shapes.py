"""What an error looks like at each address, and headers that hold a caller's words. Pure."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest

from roadbed.gateway.dialects.base import CallerDialect
from roadbed.kernel.errors import RoadbedError
from roadbed.server.app import build_hot_table
from roadbed.server.http import CHAT, MESSAGES, RESPONSES, dialect_of
from roadbed.server.reply import DROPPED_CHARACTERS_MAX, dropped_value
from roadbed.server.services import Services
from roadbed.wire.request import HotRequest


class Anything:
    """Stands in for every part of `Services`."""

    def __getattr__(self, name: str) -> Any:
        return self


class Ended:
    """A request of which only the address and the end matter."""

    is_ended = False

    def __init__(self, path: str, *, is_started: bool) -> None:
        self.path = path.encode()
        self.is_started = is_started
        self.said = b""

    def send(self, status: int, headers: Any, body: bytes) -> None:
        assert status == 500
        self.said = body

    def end(self, last: bytes) -> None:
        self.said = last


@pytest.mark.parametrize(
    ("path", "version", "dialect"),
    [
        ("/v1/chat/completions", None, CHAT),
        ("/v1/chat/completions", "2023-06-01", CHAT),
        ("/v1/embeddings", None, CHAT),
        ("/v1/responses", None, RESPONSES),
        ("/v1/messages", None, MESSAGES),
        ("/v1/messages/count_tokens", None, MESSAGES),
        ("/v1/models", None, CHAT),
        ("/v1/models/smart", "2023-06-01", MESSAGES),
        ("/api/status", "2023-06-01", None),
    ],
)
def test_whose_shape_errors_have(path: str, version: str | None, dialect: CallerDialect | None) -> None:
    assert dialect_of(path, version) is dialect


def failed(path: str, *, is_started: bool) -> bytes:
    request = Ended(path, is_started=is_started)
    table = build_hot_table(cast(Services, Anything()))
    table.fail(cast(HotRequest, request), ValueError("a bug"))
    return request.said


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/v1/messages"])
def test_a_crash_is_said_in_the_addresss_own_shape(path: str) -> None:
    whole = json.loads(failed(path, is_started=False))
    assert whole["error"]["code"] == RoadbedError.code
    assert ("type" in whole) == (path == "/v1/messages")
    *names, data = failed(path, is_started=True).decode().strip().splitlines()
    event = json.loads(data.removeprefix("data: "))
    assert names == ([] if path == "/v1/chat/completions" else ["event: error"])
    if path == "/v1/responses":
        assert (event["type"], event["code"]) == ("error", RoadbedError.code)
    else:
        assert event == whole


def test_names_of_dropped_fields_cannot_break_a_head() -> None:
    assert dropped_value(["seed", "a\r\nb: c", "é", "\0", "\ud800"]) == "seed, a\\r\\nb: c, \\xe9, \\x00, \\ud800"
    assert len(dropped_value(["x" * 5000])) == DROPPED_CHARACTERS_MAX
