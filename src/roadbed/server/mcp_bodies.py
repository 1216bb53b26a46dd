"""Bodies of MCP requests: what they say about how to answer them, and what is wrong with those that are no request.

Pure. The SDK behind would answer a malformed body with its validator's text, which names its own types and quotes the
body; here each fault is said in words of ours, with the field that it is about and never its value (JSON-RPC 2.0,
section 5.1). The invariant: what passes is one JSON object with a version, a method and an id of the allowed types.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from roadbed.server.mcp_types import INVALID_PARAMS, INVALID_REQUEST

PARSE_ERROR = -32700
BATCH = "a batch is not taken: send one message in each request"
LEVELS = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")
LEGACY_ALONE = frozenset({"initialize", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"})
MODERN_ALONE = frozenset({"subscriptions/listen"})


class Params(msgspec.Struct):
    """What is looked at of a request's parameters before it is answered; ``arguments`` are not opened."""

    name: Any = None
    uri: Any = None
    cursor: Any = None
    arguments: msgspec.Raw = msgspec.field(default_factory=msgspec.Raw)
    ref: Any = None
    argument: Any = None
    level: Any = None
    notifications: Any = None
    request_id: Any = msgspec.field(name="requestId", default=None)
    protocol: Any = msgspec.field(name="protocolVersion", default=None)
    capabilities: Any = None
    client: Any = msgspec.field(name="clientInfo", default=None)
    meta: dict[str, msgspec.Raw] = msgspec.field(name="_meta", default_factory=dict)


class Head(msgspec.Struct):
    """What a body says about how to answer it."""

    jsonrpc: Any = None
    method: Any = None
    id: Any = msgspec.UNSET
    params: Params | None = None
    result: Any = None
    error: Any = None

    @property
    def is_answer(self) -> bool:
        """Whether it answers a request of ours."""
        return self.method is None and isinstance(self.id, str) and (self.result is not None or self.error is not None)

    @property
    def request_id(self) -> str | int | None:
        """The id with which it is answered."""
        return self.id if isinstance(self.id, str | int) and not isinstance(self.id, bool) else None


@dataclass(frozen=True, slots=True)
class BodyFault:
    """Why a body is not answered. ``is_params`` says that it is a request, with wrong parameters."""

    number: int
    message: str
    id: str | int | None = None
    is_params: bool = False


_decoder = msgspec.json.Decoder(Head)


def read_body(body: bytes, *, is_legacy: bool) -> Head | BodyFault:
    """What a body says, or what is wrong with it. Methods of the other era are let through, to be not found."""
    try:
        try:
            head = _decoder.decode(body)
        except msgspec.ValidationError:
            return _misshapen(msgspec.json.decode(body))
    except RecursionError:
        return BodyFault(PARSE_ERROR, "the body is nested too deeply")
    except (msgspec.DecodeError, UnicodeDecodeError):
        return BodyFault(PARSE_ERROR, "the body is not JSON" if body else "the body is empty")
    wrong = _of_head(head)
    if wrong:
        return BodyFault(INVALID_REQUEST, wrong, head.request_id)
    is_request = head.method is not None and head.id is not msgspec.UNSET
    if is_request and head.method not in (MODERN_ALONE if is_legacy else LEGACY_ALONE):
        wrong = next(_of_params(head.method, head.params), "")
        if wrong:
            return BodyFault(INVALID_PARAMS, wrong, head.request_id, is_params=True)
    return head


def _misshapen(found: Any) -> BodyFault:
    """Of what is JSON and whose types are not those of a request."""
    if isinstance(found, list):
        return BodyFault(INVALID_REQUEST, BATCH)
    if not isinstance(found, dict):
        return BodyFault(INVALID_REQUEST, "the body is no JSON object")
    given = found.get("id")
    known = given if isinstance(given, str | int) and not isinstance(given, bool) else None
    if not isinstance(found.get("params"), dict):
        return BodyFault(INVALID_REQUEST, "params must be an object", known)
    return BodyFault(INVALID_PARAMS, "params._meta must be an object", known, is_params=True)


def _of_head(head: Head) -> str:
    if head.jsonrpc != "2.0":
        return 'jsonrpc must be "2.0"'
    if head.method is None:
        if head.result is None and head.error is None:
            return "method is missing"
        return "" if head.is_answer else "id must be the one of a question that was asked here"
    if not isinstance(head.method, str):
        return "method must be a string"
    if head.id is not msgspec.UNSET and head.request_id is None:
        return "id must be a string or an integer; leave it out of a notification"
    return ""


def _of_params(method: str, params: Params | None) -> Iterator[str]:
    """What is wrong with the parameters of a request, the first thing first."""
    given = params or Params()
    match method:
        case "tools/call":
            yield from _text("name", given.name)
            yield from _object("arguments", given.arguments)
        case "prompts/get":
            yield from _text("name", given.name)
            yield from _object("arguments", given.arguments, has_texts=True)
        case "resources/read" | "resources/subscribe" | "resources/unsubscribe":
            yield from _text("uri", given.uri)
        case "tools/list" | "prompts/list" | "resources/list" | "resources/templates/list":
            if given.cursor is not None:
                yield from _text("cursor", given.cursor)
        case "completion/complete":
            yield from _completion(given)
        case "logging/setLevel":
            if given.level not in LEVELS:
                yield "params.level must be one of " + ", ".join(LEVELS)
        case "subscriptions/listen":
            yield from _mapping("notifications", given.notifications)
        case "initialize":
            yield from _text("protocolVersion", given.protocol)
            yield from _mapping("capabilities", given.capabilities)
            yield from _mapping("clientInfo", given.client)
            yield from _text("clientInfo.name", given.client.get("name"))
            yield from _text("clientInfo.version", given.client.get("version"))


def _completion(given: Params) -> Iterator[str]:
    yield from _mapping("ref", given.ref)
    kinds = {"ref/prompt": "name", "ref/resource": "uri"}
    kind = given.ref.get("type")
    if not isinstance(kind, str) or kind not in kinds:
        yield "params.ref.type must be one of " + ", ".join(kinds)
        return
    yield from _text(f"ref.{kinds[kind]}", given.ref.get(kinds[kind]))
    yield from _mapping("argument", given.argument)
    yield from _text("argument.name", given.argument.get("name"))
    yield from _text("argument.value", given.argument.get("value"))


def _text(name: str, value: Any) -> Iterator[str]:
    if value is None:
        yield f"params.{name} is missing"
    if not isinstance(value, str):
        yield f"params.{name} must be a string"


def _mapping(name: str, value: Any) -> Iterator[str]:
    if value is None:
        yield f"params.{name} is missing"
    if not isinstance(value, dict):
        yield f"params.{name} must be an object"


def _object(name: str, raw: msgspec.Raw, *, has_texts: bool = False) -> Iterator[str]:
    text = bytes(raw)
    if text in (b"", b"null"):
        return
    if not text.startswith(b"{"):
        yield f"params.{name} must be an object"
        return
    if has_texts:
        for key, value in msgspec.json.decode(text).items():
            if not isinstance(value, str):
                yield f"params.{name}.{key[:64]} must be a string"
