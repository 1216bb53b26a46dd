"""What the Starlette side of the server shares: admission around an endpoint, bounded bodies, the shape of errors."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from roadbed.gateway.dialects.anthropic_server import AnthropicCallers
from roadbed.gateway.dialects.base import CallerDialect
from roadbed.gateway.dialects.openai_caller import ChatCallers
from roadbed.gateway.dialects.responses_server import ResponsesCaller
from roadbed.gateway.limits import RateExceeded
from roadbed.guard.networks import caller_address
from roadbed.kernel.config import nearest
from roadbed.kernel.errors import InvalidRequest, RoadbedError, TooLarge
from roadbed.kernel.principal import ADMIN, MEMBER
from roadbed.kernel.wording import types_in_words
from roadbed.server.acts import require_act
from roadbed.server.admission import (
    DEADLINE_HEADER,
    LABEL_HEADER,
    TAG_HEADER,
    Admission,
    admit,
    check_credentials,
)
from roadbed.server.audit import audited_action
from roadbed.server.client_certificates import certificate_shown
from roadbed.server.services import Services

JSON_BODY_BYTES_MAX = 4 * 1024 * 1024
INTEGER_DIGITS_MAX = 18
READING = ("GET", "HEAD")
VERSION_HEADER = "anthropic-version"
UNKNOWN_FIELD = "object contains unknown field "
CHAT_PATH = "/v1/chat/completions"
RESPONSES_PATH = "/v1/responses"
MESSAGES_PATH = "/v1/messages"
MODELS_PATH = "/v1/models"
CHAT: CallerDialect = ChatCallers()
RESPONSES: CallerDialect = ResponsesCaller()
MESSAGES: CallerDialect = AnthropicCallers()
T = TypeVar("T")
Handler = Callable[[Request, Admission], Awaitable[Any]]


def encode(value: Any) -> bytes:
    """JSON of dataclasses, datetimes and plain values."""
    return msgspec.json.encode(value, enc_hook=_encode_hook)


def _encode_hook(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no JSON form")


class Json(Response):
    """A JSON response."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """The encoded body."""
        return encode(content)


def dialect_of(path: str, version: str | None = None) -> CallerDialect | None:
    """Whose shape errors have at an address: a caller's dialect below ``/v1``, and problem details elsewhere.

    ``version`` is the header ``anthropic-version``, by which an address that both families of SDKs use tells them
    apart.
    """
    if not path.startswith("/v1"):
        return None
    if path.startswith(MESSAGES_PATH) or (version is not None and path.startswith(MODELS_PATH)):
        return MESSAGES
    return RESPONSES if path.startswith(RESPONSES_PATH) else CHAT


def is_anthropic(request: Request) -> bool:
    """Whether a caller of Anthropic's SDKs asks."""
    return VERSION_HEADER in request.headers


def endpoint(services: Services, handler: Handler, *, role: str = MEMBER) -> Any:
    """A Starlette endpoint that admits first and renders errors in the address's own shape."""

    async def call(request: Request) -> Response:
        try:
            check_credentials(request.headers.raw)
            admission = admit(
                services.identity,
                _header(request, "authorization"),
                _header(request, "x-api-key"),
                _header(request, DEADLINE_HEADER.decode()),
                address_of(request, behind_proxy=services.settings.behind_proxy),
                _header(request, TAG_HEADER.decode()),
                _header(request, LABEL_HEADER.decode()),
                certificate_shown(request),
            )
            require_act(services.teams, admission.principal, role, request.method, request.url.path)
            if role == ADMIN and request.method not in READING:
                name, resource = audited_action(request)
                act = partial(handler, request, admission)
                answer = await services.trail.doing(name, admission.principal.id, resource, act)
            else:
                if services.identity.glasses.id_of(admission.principal.id):
                    name, resource = audited_action(request)
                    services.trail.note("breakglass.use", admission.principal.id, resource, call=name)
                answer = await handler(request, admission)
        except RoadbedError as error:
            return error_response(error, request)
        except ClientDisconnect:
            return Response(status_code=400)
        return answer if isinstance(answer, Response) else Json(answer)

    return call


def address_of(request: Request, *, behind_proxy: bool) -> str:
    """Where a request comes from, as `caller_address`."""
    forwarded_for = request.headers.getlist("x-forwarded-for")
    return caller_address(
        request.client, forwarded_for[-1].encode("latin-1") if forwarded_for else None, behind_proxy=behind_proxy
    )


def error_response(error: RoadbedError, request: Request, *, meant: str | None = None) -> Response:
    """An error in the shape of the address that was asked, or of the one that was ``meant``."""
    headers: dict[str, str] = headers_of(error.headers) if isinstance(error, RateExceeded) else {}
    if error.retry_after_s is not None:
        headers["retry-after"] = str(max(1, round(error.retry_after_s)))
    if error.http_status == 401:
        headers["www-authenticate"] = "Bearer"
    dialect = dialect_of(meant or request.url.path, request.headers.get(VERSION_HEADER))
    if dialect is not None:
        return Response(dialect.error_body(error), error.http_status, headers, "application/json")
    return Response(encode(error.problem()), error.http_status, headers, "application/problem+json")


def headers_of(lines: bytes) -> dict[str, str]:
    """Header lines, as the hot paths write them, by name."""
    pairs = (line.partition(": ") for line in lines.decode("latin-1").splitlines())
    return {name: value for name, _, value in pairs}


def _header(request: Request, name: str) -> bytes | None:
    value = request.headers.get(name)
    return value.encode("latin-1") if value is not None else None


async def body_of(request: Request, bytes_max: int = JSON_BODY_BYTES_MAX) -> bytes:
    """The whole body. Raises `TooLarge`."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > bytes_max:
            raise TooLarge(f"the body is larger than {bytes_max} bytes")
    return bytes(body)


async def json_of(request: Request, type_: type[T], bytes_max: int = JSON_BODY_BYTES_MAX) -> T:
    """The body decoded into a struct. Raises `InvalidRequest` with the field's path, or `TooLarge`."""
    body = await body_of(request, bytes_max)
    try:
        return msgspec.json.decode(body or b"{}", type=type_)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$")
        message, path = types_in_words(message[:1].lower() + message[1:], is_json=True), path.strip("`.")
        hint = "" if path else _known_fields(message, type_)
        raise InvalidRequest(f"{path}: {message}" if path else message, hint=hint, param=path or None) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise InvalidRequest("the body is not valid JSON") from None


def _known_fields(message: str, type_: type[Any]) -> str:
    """What a body may hold, where a complaint is that it holds something else."""
    field = message.removeprefix(UNKNOWN_FIELD)
    if field == message or not issubclass(type_, msgspec.Struct):
        return ""
    known = type_.__struct_encode_fields__
    return nearest(field.strip("`"), known) or f"it may hold {', '.join(known)}"


def integer_of(request: Request, name: str, default: int, most: int) -> int:
    """A bounded whole number of the query string. Raises `InvalidRequest`."""
    text = request.query_params.get(name)
    if text is None:
        return default
    is_number = text.isascii() and text.isdigit() and len(text) <= INTEGER_DIGITS_MAX
    if not is_number or not 1 <= int(text) <= most:
        raise InvalidRequest(f"{name} must be a whole number from 1 to {most}", param=name)
    return int(text)
