"""What a provider's error means: the failure class of a status and body, and how long it asks us to wait.

Pure functions for all dialects. A provider's message is read to tell a full window or an empty account from other
errors, and never kept: it may quote the prompt. Only its short code and field name survive, and only when they look
like ones.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

from roadbed.gateway.errors import FailureClass, UpstreamError

WAIT_S_MAX = 24 * 3600.0
ERROR_BODY_BYTES_MAX = 64 * 1024
DETAILS_MAX = 32

Headers = Mapping[str, str]

_CONTEXT_CODES = frozenset(
    {"context_length_exceeded", "exceed_context_size_error", "model_context_window_exceeded", "context_window_exceeded"}
)
_CONTEXT_WORDS = re.compile(
    r"maximum context length|(prompt|input) is too long|context (window|size|length) .{0,40}exceed"
    r"|exceed.{0,60}context|input token count.{0,40}exceeds the maximum",
    re.I,
)
_QUOTA_CODES = frozenset({"insufficient_quota", "billing_error", "billing_hard_limit_reached", "billing_not_active"})
_QUOTA_WORDS = re.compile(r"credit balance is too low|exceeded your current quota", re.I)
_BY_GOOGLE_STATUS: dict[str, FailureClass] = {
    "FAILED_PRECONDITION": "auth",  # the account's country or billing, which no other request would change
    "UNAUTHENTICATED": "auth",
    "PERMISSION_DENIED": "auth",
    "RESOURCE_EXHAUSTED": "rate",
    "UNAVAILABLE": "overload",
    "DEADLINE_EXCEEDED": "timeout",
    "INVALID_ARGUMENT": "client",
}
_BAD_KEY_REASONS = frozenset({"API_KEY_INVALID", "API_KEY_EXPIRED", "API_KEY_SERVICE_BLOCKED"})
_BY_TYPE: dict[str, FailureClass] = {
    "invalid_request_error": "client",
    "BadRequestError": "client",
    "not_found_error": "fault",
    "NotFoundError": "fault",
    "request_too_large": "client",
    "invalid_prompt": "client",
    "invalid_image": "client",
    "invalid_image_url": "client",
    "authentication_error": "auth",
    "permission_error": "auth",
    "rate_limit_error": "rate",
    "rate_limit_exceeded": "rate",
    "overloaded_error": "overload",
    "unavailable_error": "overload",
    "timeout_error": "timeout",
}
_BY_STATUS: dict[int, FailureClass] = {
    400: "client",
    401: "auth",
    402: "quota",
    403: "auth",
    408: "timeout",
    413: "client",
    422: "client",
    429: "rate",
    503: "overload",
    504: "timeout",
    529: "overload",
}
_BY_EXCEPTION: dict[str, FailureClass] = {
    "throttling": "rate",
    "modelnotready": "overload",
    "serviceunavailable": "overload",
    "servicequotaexceeded": "quota",
    "modeltimeout": "timeout",
    "validation": "client",
    "accessdenied": "auth",
    "unrecognizedclient": "auth",
    "expiredtoken": "auth",
    "invalidsignature": "auth",
}
"""AWS exceptions, in lower case and without their ending; some come with the status of another class."""

_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_.\[\]-]{0,79}")
_GO_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|us|µs|ns|h|m|s)")
_GO_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}


def failure_from_response(status: int, headers: Headers, body: bytes, now: datetime) -> UpstreamError:
    """The failure of a response whose status is not 200.

    ``headers`` have lower-case names; ``now`` is the time of day.
    """
    try:
        decoded = msgspec.json.decode(body[:ERROR_BODY_BYTES_MAX])
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        decoded = None
    exception = headers.get("x-amzn-errortype", "").partition(":")[0]
    if exception:
        error = failure_from_exception(exception, decoded, status=status)
    else:
        error = failure_from_object(decoded, status=status)
    wait_s = wait_asked_for(headers, now)
    error.retry_after_s = error.retry_after_s if wait_s is None else wait_s
    return error


def failure_from_object(body: Any, *, status: int = 0) -> UpstreamError:
    """The failure that an error object means, as a body or inside a stream (then ``status`` is 0)."""
    inner = body.get("error", body) if isinstance(body, dict) else body
    code = kind = param = message = ""
    if isinstance(inner, dict):
        code, kind, param = (_word(inner.get(name)) for name in ("code", "type", "param"))
        raw = inner.get("message")
        message = raw if isinstance(raw, str) else ""
        if not status and isinstance(inner.get("code"), int) and 400 <= inner["code"] < 600:
            status = inner["code"]
    elif isinstance(inner, str):
        message = inner
    failure = _classify(status, code, kind, message[:2000])
    wait_s = None
    if isinstance(inner, dict) and isinstance(inner.get("status"), str):
        kind = kind or _word(inner["status"])
        failure, wait_s = _judge_google(inner, failure)
    said = f"it answered with status {status}" if status else "it sent an error inside its answer"
    if code or kind:
        said += f" ({code or kind})"
    return UpstreamError(failure, said, status=status, retry_after_s=wait_s, provider_code=code or kind, param=param)


def failure_from_exception(name: str, body: Any, *, status: int = 0) -> UpstreamError:
    """The failure that an AWS exception means, by its name, as a response or inside a stream."""
    message = (body.get("message") or body.get("Message")) if isinstance(body, dict) else ""
    message = message[:2000] if isinstance(message, str) else ""
    failure = _BY_EXCEPTION.get(name.lower().removesuffix("exception")) or _BY_STATUS.get(status, "fault")
    if failure == "client" and _CONTEXT_WORDS.search(message):
        failure = "context"
    said = f"it answered with status {status}" if status else "it sent an exception inside its answer"
    word = _word(name)
    return UpstreamError(failure, f"{said} ({word})" if word else said, status=status, provider_code=word)


def _classify(status: int, code: str, kind: str, message: str) -> FailureClass:
    is_context = code in _CONTEXT_CODES or kind in _CONTEXT_CODES or _CONTEXT_WORDS.search(message)
    if is_context and status in (0, 400, 413, 422, 500):
        return "context"
    if code in _QUOTA_CODES or kind in _QUOTA_CODES or _QUOTA_WORDS.search(message):
        return "quota"
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if status == 0:
        return _BY_TYPE.get(code) or _BY_TYPE.get(kind) or "fault"
    return "fault"


def _judge_google(error: dict[str, Any], failure: FailureClass) -> tuple[FailureClass, float | None]:
    """What Google's status and details say beyond the HTTP status, and the wait that they ask for.

    A bad key comes as a 400; a limit per minute and a spent day both come as 429 with the same message, and only the
    name of the quota tells them apart.
    """
    if failure == "context":
        return failure, None
    failure = _BY_GOOGLE_STATUS.get(error["status"], failure)
    wait_s: float | None = None
    details = error.get("details")
    for detail in details[:DETAILS_MAX] if isinstance(details, list) else ():
        if not isinstance(detail, dict):
            continue
        if _word(detail.get("reason")) in _BAD_KEY_REASONS:
            failure = "auth"
        if isinstance(detail.get("retryDelay"), str):
            delay_s = go_duration_s(detail["retryDelay"])
            wait_s = None if delay_s is None else min(delay_s, WAIT_S_MAX)
        violations = detail.get("violations")
        for violation in violations[:DETAILS_MAX] if isinstance(violations, list) else ():
            if (
                failure == "rate"
                and isinstance(violation, dict)
                and "PerDay" in str(violation.get("quotaId", ""))[:200]
            ):
                failure = "quota"
    return failure, wait_s


def _word(value: Any) -> str:
    return value if isinstance(value, str) and _WORD.fullmatch(value) else ""


def wait_asked_for(headers: Headers, now: datetime) -> float | None:
    """Seconds that the response's headers ask us to wait; None when they ask for none."""
    wait = _number(headers.get("retry-after-ms"), 0.001)
    if wait is None:
        wait = _retry_after(headers.get("retry-after"), now)
    if wait is None:
        waits = [
            seconds
            for name in ("requests", "tokens")
            if headers.get(f"x-ratelimit-remaining-{name}", "").strip() == "0"
            and (seconds := go_duration_s(headers.get(f"x-ratelimit-reset-{name}", ""))) is not None
        ]
        waits += [
            seconds
            for name in ("requests", "tokens", "input-tokens", "output-tokens")
            if headers.get(f"anthropic-ratelimit-{name}-remaining", "").strip() == "0"
            and (seconds := _until(headers.get(f"anthropic-ratelimit-{name}-reset", ""), now)) is not None
        ]
        wait = max(waits, default=None)
    return None if wait is None else min(max(wait, 0.0), WAIT_S_MAX)


def _number(text: str | None, unit: float) -> float | None:
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    return value * unit if 0 <= value < 1e12 else None


def _retry_after(text: str | None, now: datetime) -> float | None:
    seconds = _number(text, 1.0)
    if seconds is not None or text is None:
        return seconds
    try:
        when = parsedate_to_datetime(text)
        return max(0.0, (when - now).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return None


def _until(text: str, now: datetime) -> float | None:
    try:
        return max(0.0, (datetime.fromisoformat(text) - now).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return None


def go_duration_s(text: str) -> float | None:
    """Seconds of a Go duration such as ``6m0s`` or ``12ms``; None when it is not one."""
    text = text.strip()
    total, end = 0.0, 0
    for match in _GO_DURATION.finditer(text):
        if match.start() != end:
            return None
        total += float(match[1]) * _GO_UNITS[match[2]]
        end = match.end()
    return total if text and end == len(text) else None
