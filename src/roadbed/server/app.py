"""The HTTP application: hot paths, the Starlette routes behind them, and how errors look on each address."""

from __future__ import annotations

import contextlib
import logging
import re
import traceback
from collections.abc import Sequence
from pathlib import Path

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from roadbed.gateway.dialects.openai_server import error_object
from roadbed.gateway.dialects.reading import REQUEST_BYTES_MAX
from roadbed.gateway.dialects.whole import BODY_BYTES_MAX
from roadbed.kernel.errors import InvalidRequest, NotFound, RoadbedError
from roadbed.knowledge.connectors.uploads import UPLOAD_BYTES_MAX
from roadbed.server.access_report import access_routes
from roadbed.server.admin import admin_routes
from roadbed.server.analytics_routes import analytics_routes
from roadbed.server.answers import CallerAnswers
from roadbed.server.audit_routes import audit_routes
from roadbed.server.break_glass_routes import break_glass_routes
from roadbed.server.chat import ChatCompletions
from roadbed.server.control_routes import control_routes
from roadbed.server.credential_routes import credential_routes
from roadbed.server.documents import document_routes
from roadbed.server.erasure_routes import erasure_routes
from roadbed.server.guard_scan import ENVELOPE_BYTES_MAX, guard_routes
from roadbed.server.health import health_routes
from roadbed.server.http import (
    CHAT,
    CHAT_PATH,
    MESSAGES,
    MESSAGES_PATH,
    RESPONSES,
    RESPONSES_PATH,
    dialect_of,
    error_response,
)
from roadbed.server.mcp_entry import KnownCallers, Origins, mcp_routes, metadata_routes
from roadbed.server.mcp_streams import add_mcp
from roadbed.server.messages import message_routes
from roadbed.server.near_address import address_hint, near_address
from roadbed.server.openai import openai_routes
from roadbed.server.openapi_document import openapi_json
from roadbed.server.scim import scim_routes
from roadbed.server.second_person_routes import second_person_routes
from roadbed.server.services import Services
from roadbed.server.tool_calls import tool_routes
from roadbed.server.usage import usage_routes
from roadbed.server.vectors import EMBEDDINGS_PATH, RERANK_PATH, vector_routes
from roadbed.wire.hot import PROBLEM_HEADERS, HotTable
from roadbed.wire.hot import Answer as RefusalAnswer
from roadbed.wire.request import HotRequest

log = logging.getLogger("roadbed.server")

TRACEBACK_FRAMES_MAX = 6
PATH_CHARACTERS_MAX = 200
_OWN_WORD = re.compile("[a-z_.-]{0,32}|v1")
JSON_HEADERS = ((b"content-type", b"application/json"),)
CALLER_PATHS = (CHAT_PATH, RESPONSES_PATH, MESSAGES_PATH)
MEANT_PATHS = (*CALLER_PATHS, "/v1/models", "/v1/embeddings")


class UnknownAddress(NotFound):
    """No page or call lives at this address."""

    code = "request.unknown_address"
    hint = "the API is described at /openapi.json, the console is at /console"


class WrongMethod(NotFound):
    """The address exists, but not for this method."""

    code = "request.wrong_method"
    http_status = 405


def build_app(services: Services, extra: Sequence[BaseRoute] = ()) -> Starlette:
    """The Starlette application of everything but the hot paths."""

    async def root(request: Request) -> Response:
        return RedirectResponse("/console")

    async def needs_post(request: Request) -> Response:
        return wrong_method("send a POST to this address", request)

    async def openapi(request: Request) -> Response:
        return Response(openapi_json(), media_type="application/json")

    async def not_found(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 404
        if status == 400:  # a form that cannot be read
            detail = str(error.detail) if isinstance(error, HTTPException) else "the request cannot be read"
            return error_response(InvalidRequest(detail[:200]), request)
        if status == 405:
            return wrong_method(f"{request.url.path} does not take {request.method}", request)
        meant = near_address(request.url.path, MEANT_PATHS)
        hint = address_hint(meant) if meant is not None else ""
        unknown = UnknownAddress(f"nothing lives at {request.url.path[:200]}", hint=hint)
        return error_response(unknown, request, meant=meant)

    async def failed(request: Request, error: Exception) -> Response:
        _log_failure(request.url.path, error)
        return error_response(RoadbedError("the server failed on this request"), request)

    routes: list[BaseRoute] = [
        Route("/", root),
        *[Route(path, needs_post, methods=["GET", "PUT", "DELETE", "PATCH"]) for path in CALLER_PATHS],
        Route("/openapi.json", openapi),
        *health_routes(services),
        *openai_routes(services),
        *message_routes(services),
        *vector_routes(services),
        *admin_routes(services),
        *document_routes(services),
        *usage_routes(services),
        *audit_routes(services),
        *access_routes(services),
        *second_person_routes(services),
        *break_glass_routes(services),
        *scim_routes(services),
        *erasure_routes(services),
        *control_routes(services),
        *mcp_routes(),
        *metadata_routes(services.mcp.tokens),
        *credential_routes(services),
        *tool_routes(services),
        *analytics_routes(services),
        *guard_routes(services),
        *extra,
    ]
    handlers = {400: not_found, 404: not_found, 405: not_found, 500: failed}
    app = Starlette(routes=routes, exception_handlers=handlers)
    # A redirect to the address without its slash would be made of the caller's Host header and of the scheme behind a
    # proxy, so that SDKs would send their key on in plain text.
    app.router.redirect_slashes = False
    return app


def wrong_method(message: str, request: Request) -> Response:
    """The refusal of a method, with the header that names those that the address takes (RFC 9110, 15.5.6)."""
    response = error_response(WrongMethod(message), request)
    found = [route for route in request.app.routes if isinstance(route, Route)]
    here = [route for route in found if route.matches(request.scope)[0] is not Match.NONE]
    methods = {method for route in here for method in route.methods or ()}
    response.headers["allow"] = "POST" if request.url.path in CALLER_PATHS else ", ".join(sorted(methods))
    return response


def contained(app: ASGIApp) -> ASGIApp:
    """An application whose failures, answered and logged by `build_app`'s handler, go no further.

    Starlette raises them again, and uvicorn would log them with their texts, which quote requests, and close the
    connection.
    """

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        # A response that was cut short stays short: uvicorn closes its connection.
        with contextlib.suppress(Exception):
            await app(scope, receive, send)

    return call


def build_hot_table(services: Services) -> HotTable:
    """The hot paths, and the shape of refusals and failures."""
    table = HotTable(refuse=_refusal, fail=_failure, check_target=services.exposed.check)
    table.requires_certificate = services.settings.tls_client_required
    entrance = services.money.entrance
    parts = services.identity, services.teams, services.registry, services.gateway, services.ledger
    behind_proxy = services.settings.behind_proxy
    running = services.running
    chat = ChatCompletions(*parts, behind_proxy=behind_proxy, entrance=entrance, running=running)
    table.add("POST", CHAT_PATH, chat, REQUEST_BYTES_MAX)
    for path, dialect in ((RESPONSES_PATH, RESPONSES), (MESSAGES_PATH, MESSAGES)):
        table.add("POST", path, CallerAnswers(*parts, dialect, behind_proxy, entrance, running), REQUEST_BYTES_MAX)
    tokens = services.mcp.tokens
    entry = KnownCallers(services.identity, tokens, entrance, behind_proxy=behind_proxy)
    add_mcp(table, services.mcp.mcp, entry, Origins(tokens), running)
    table.limit_body("/api/collections/", UPLOAD_BYTES_MAX + 1024 * 1024)
    table.limit_body("/api/guard/", ENVELOPE_BYTES_MAX)
    table.limit_body("/console/", UPLOAD_BYTES_MAX + 1024 * 1024)
    for path in (EMBEDDINGS_PATH, RERANK_PATH):
        table.limit_body(path, BODY_BYTES_MAX)
    table.limit_body(f"{MESSAGES_PATH}/", REQUEST_BYTES_MAX)
    table.limit_body("/", 8 * 1024 * 1024)
    return table


def _refusal(error: RoadbedError, path: bytes) -> RefusalAnswer:
    """In the shape of the address that was asked. A request whose target was not read, or is of another form, may have
    been for any: it gets problem details with OpenAI's error object beside them.
    """
    asked = path.decode("latin-1")
    dialect = dialect_of(asked)
    if dialect is not None:
        return JSON_HEADERS, dialect.error_body(error)
    if asked.startswith("/"):
        return PROBLEM_HEADERS, msgspec.json.encode(error.problem())
    return PROBLEM_HEADERS, msgspec.json.encode({**error.problem(), **error_object(error)})


def _failure(request: HotRequest, error: BaseException) -> None:
    _log_failure(request.path.decode("latin-1"), error)
    if request.is_ended:
        return
    said = RoadbedError("the server failed on this request")
    dialect = dialect_of(request.path.decode("latin-1")) or CHAT
    if request.is_started:
        request.end(dialect.broken(said))
    else:
        request.send(500, JSON_HEADERS, dialect.error_body(said))


def _log_failure(path: str, error: BaseException) -> None:
    """Say what failed and where in the code, without the error's own text, which could quote a request."""
    frames = traceback.extract_tb(error.__traceback__)[-TRACEBACK_FRAMES_MAX:]
    where = " < ".join(f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in reversed(frames))
    log.error("a request to %s failed: %s at %s", shown_path(path), type(error).__name__, where)


def shown_path(path: str) -> str:
    """An address with a star for each part that may be of the caller's making: only words of our own stay."""
    return "/".join(part if _OWN_WORD.fullmatch(part) else "*" for part in path[:PATH_CHARACTERS_MAX].split("/"))
