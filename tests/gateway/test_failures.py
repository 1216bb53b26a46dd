"""The failure class of a provider's response, and the wait that it asks for."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from roadbed.gateway.dialects.failures import WAIT_S_MAX, failure_from_response, go_duration_s, wait_asked_for
from roadbed.gateway.errors import FAILURE_CLASSES

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


def error(message: str = "no", **fields: str) -> bytes:
    return json.dumps({"error": {"message": message, **fields}}).encode()


@pytest.mark.parametrize(
    ("status", "body", "failure"),
    [
        (400, error(type="invalid_request_error"), "client"),
        (400, error(code="context_length_exceeded"), "context"),
        (400, error("prompt is too long: 210000 tokens > 200000 maximum"), "context"),
        (400, error("the request exceeds the available context size", type="exceed_context_size_error"), "context"),
        (400, error("Your credit balance is too low to access the API"), "quota"),
        (401, error(code="invalid_api_key"), "auth"),
        (402, b"", "quota"),
        (403, b"", "auth"),
        (404, error(code="model_not_found"), "fault"),
        (408, b"", "timeout"),
        (413, b"", "client"),
        (422, b"", "client"),
        (424, b"", "fault"),
        (429, error(code="insufficient_quota"), "quota"),
        (429, error("slow down"), "rate"),
        (500, b"<html>", "fault"),
        (502, b"", "fault"),
        (503, b'{"error": "loading model"}', "overload"),
        (504, b"", "timeout"),
        (529, b'{"type":"error","error":{"type":"overloaded_error","message":"x"}}', "overload"),
        (302, b"", "fault"),
        (418, b"\xff\xfe", "fault"),
    ],
)
def test_classes(status: int, body: bytes, failure: str) -> None:
    assert failure_from_response(status, {}, body, NOW).failure == failure


def test_a_providers_words_are_not_kept_but_its_code_and_field_are() -> None:
    body = error("Invalid: 'my secret prompt'", code="bad_value", param="messages[0].content")
    failure = failure_from_response(400, {}, body, NOW)
    assert (failure.provider_code, failure.param) == ("bad_value", "messages[0].content")
    assert "secret" not in str(failure)
    odd = failure_from_response(400, {}, error(code="my secret prompt!", param="a b"), NOW)
    assert (odd.provider_code, odd.param) == ("", "")


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "7"}, 0.25),
        ({"retry-after": "Thu, 01 Jan 2026 12:00:30 GMT"}, 30.0),
        ({"retry-after": "Thu, 01 Jan 2026 11:00:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "99999999"}, WAIT_S_MAX),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "6m0s"}, 360.0),
        ({"x-ratelimit-remaining-tokens": "9", "x-ratelimit-reset-tokens": "6m0s"}, None),
        (
            {
                "anthropic-ratelimit-input-tokens-remaining": "0",
                "anthropic-ratelimit-input-tokens-reset": "2026-01-01T12:00:09Z",
            },
            9.0,
        ),
    ],
)
def test_waits(headers: dict[str, str], seconds: float | None) -> None:
    assert wait_asked_for(headers, NOW) == seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1s", 1.0), ("6m0s", 360.0), ("12ms", 0.012), ("1h2m", 3720.0), ("", None), ("1", None), ("1s?", None)],
)
def test_go_durations(text: str, seconds: float | None) -> None:
    assert go_duration_s(text) == seconds


HEADERS = st.dictionaries(
    st.sampled_from(["retry-after", "retry-after-ms", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"]),
    st.text(max_size=20) | st.just("0"),
)


def google(code: int, status: str, *details: Any, message: str = "You exceeded your current quota") -> bytes:
    return json.dumps({"error": {"code": code, "message": message, "status": status, "details": details}}).encode()


def spent(quota: str) -> dict[str, Any]:
    return {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": quota}]}


RETRY = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "22.5s"}


@pytest.mark.parametrize(
    ("body", "failure", "wait_s"),
    [
        (google(429, "RESOURCE_EXHAUSTED", spent("RequestsPerMinutePerProject"), RETRY), "rate", 22.5),
        (google(429, "RESOURCE_EXHAUSTED", RETRY, spent("RequestsPerDayPerProject-FreeTier")), "quota", 22.5),
        (google(429, "RESOURCE_EXHAUSTED"), "rate", None),
        (google(400, "INVALID_ARGUMENT", {"reason": "API_KEY_INVALID"}, message="API key not valid."), "auth", None),
        (google(400, "INVALID_ARGUMENT", {"reason": ["API_KEY_INVALID"]}, message="x"), "client", None),
        (google(400, "INVALID_ARGUMENT", 7, {"violations": 7}, {"retryDelay": "soon"}, message="x"), "client", None),
        (google(400, "FAILED_PRECONDITION", message="User location is not supported"), "auth", None),
        (google(403, "PERMISSION_DENIED", message="x"), "auth", None),
        (google(404, "NOT_FOUND", message="models/x is not found"), "fault", None),
        (google(500, "INTERNAL", message="x"), "fault", None),
        (google(503, "UNAVAILABLE", message="The model is overloaded."), "overload", None),
        (google(504, "DEADLINE_EXCEEDED", message="x"), "timeout", None),
        (
            google(
                400,
                "INVALID_ARGUMENT",
                message="The input token count (1196265) exceeds the maximum number of tokens allowed (1048575).",
            ),
            "context",
            None,
        ),
    ],
)
def test_errors_of_google(body: bytes, failure: str, wait_s: float | None) -> None:
    status = json.loads(body)["error"]["code"]
    found = failure_from_response(status, {}, body, NOW)
    assert (found.failure, found.retry_after_s) == (failure, wait_s)
    assert failure_from_response(status, {"retry-after": "3"}, body, NOW).retry_after_s == 3.0


@given(st.integers(100, 999), HEADERS, st.binary(max_size=50))
@settings(max_examples=150, deadline=None)
def test_any_response_has_a_class_and_a_bounded_wait(status: int, headers: dict[str, str], body: bytes) -> None:
    failure = failure_from_response(status, headers, body, NOW)
    assert failure.failure in FAILURE_CLASSES
    assert failure.retry_after_s is None or 0 <= failure.retry_after_s <= WAIT_S_MAX
