"""Signing in and out: with a key, or with a one-time link that is spent by a button and never by a link preview.

A session is a signed cookie that only the console's own addresses receive. The invariant: a key or token is read from
a form's body alone, and neither is written anywhere.
"""

from __future__ import annotations

from urllib.parse import unquote

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from roadbed.console.csp import protect
from roadbed.console.services import ConsoleServices
from roadbed.console.visits import (
    COOKIE_PATH,
    Console,
    Page,
    Visit,
    check_origin,
    cookie_name,
    is_https,
    read_form,
)
from roadbed.guard.keys import KEY_BYTES_MAX
from roadbed.guard.sessions import SESSION_S, SessionRefused
from roadbed.kernel.errors import RoadbedError, Unauthorized
from roadbed.kernel.principal import MEMBER, Principal
from roadbed.wire.peer_certificate import SCOPE_KEY, PeerCertificate

NEXT_CHARACTERS_MAX = 2_000


def sign_in_routes(console: Console) -> list[Route]:
    """The routes of signing in and out."""

    async def form(request: Request) -> Response:
        token = request.query_params.get("token", "")[:KEY_BYTES_MAX]
        destination = safe_next(request.query_params.get("next", ""))
        if not token:
            try:
                console.visit(request, MEMBER)
            except RoadbedError:
                pass
            else:
                return protect(RedirectResponse(destination, status_code=303))
        return await sign_in_page(console, request, token=token, destination=destination)

    async def sign_in(request: Request) -> Response:
        services, token, destination = console.services, "", "/console"
        try:
            check_origin(request)
            sent = await read_form(request, 0, 0)
            token, key = str(sent.get("token") or ""), str(sent.get("key") or "").strip()
            destination = safe_next(str(sent.get("next") or ""))
            if token:
                cookie = await services.sessions.redeem(token)
            else:
                cookie = services.sessions.start(_caller(services, request, key))
            await services.audit.act("console.sign_in", services.sessions.principal_of(cookie).id)
        except Unauthorized as error:
            services.audit.note("console.sign_in", "unknown", outcome=error.code)
            return await sign_in_page(console, request, destination=destination, error=error)
        except RoadbedError as error:
            return await console.failed(request, error)
        return signed_in(console, request, cookie, destination)

    async def sign_out(visit: Visit) -> Response:
        await visit.services.sessions.end(visit.cookie)
        response = RedirectResponse("/console/sign-in", status_code=303)
        response.delete_cookie(
            cookie_name(visit.request, visit.services),
            path=COOKIE_PATH,
            secure=is_https(visit.request, visit.services),
            httponly=True,
            samesite="lax",
        )
        return response

    return [
        Route("/console/sign-in", form, methods=["GET"]),
        Route("/console/sign-in", sign_in, methods=["POST"]),
        *console.action("/console/sign-out", sign_out),
    ]


def signed_in(console: Console, request: Request, cookie: str, destination: str) -> Response:
    """On to a page, with a session."""
    response = RedirectResponse(destination, status_code=303)
    set_cookie(console, request, response, cookie_name(request, console.services), cookie, SESSION_S)
    return protect(response)


def set_cookie(console: Console, request: Request, response: Response, name: str, value: str, age_s: int) -> None:
    """A cookie of the console's alone; with no age it is removed."""
    response.set_cookie(
        name,
        value,
        max_age=age_s,
        path=COOKIE_PATH,
        secure=is_https(request, console.services),
        httponly=True,
        samesite="lax",
    )


async def sign_in_page(
    console: Console, request: Request, *, destination: str, token: str = "", error: RoadbedError | None = None
) -> Response:
    """The page, with what went wrong, if anything."""
    if isinstance(error, SessionRefused):
        error = None
    oidc = console.services.oidc
    issuer = oidc.label if oidc is not None and oidc.is_on else ""
    service = _service_name(console.services, request)
    context = {"token": token, "next": destination, "error": error, "issuer": issuer, "service": service}
    status = error.http_status if error is not None else 200
    return protect(await console.rendered(Page("sign_in.html", "Sign in", context, status=status), None, request))


def _caller(services: ConsoleServices, request: Request, key: str) -> Principal:
    """Who signs in: by the key of the form, the connection's certificate, or both. The origin was checked."""
    certificate: PeerCertificate | None = request.scope.get(SCOPE_KEY)
    if certificate is None:
        return services.identity.authenticate(key)
    return services.identity.vouched_for(certificate, key.encode("utf-8", "surrogateescape"))


def _service_name(services: ConsoleServices, request: Request) -> str:
    """What the service is called that the connection's certificate names; empty where it names none."""
    certificate: PeerCertificate | None = request.scope.get(SCOPE_KEY)
    try:
        return services.identity.vouched_for(certificate).name if certificate is not None else ""
    except Unauthorized:
        return ""


def safe_next(address: str) -> str:
    """Where to go after signing in: a page of the console, whatever was asked for."""
    is_page = address == "/console" or address.startswith(("/console/", "/console?"))
    is_plain = address.isprintable() and "\\" not in address and len(address) <= NEXT_CHARACTERS_MAX
    is_plain = is_plain and ".." not in unquote(address)  # what a browser makes of it would lie outside the console
    return address if is_page and is_plain and not address.startswith("/console/sign-in") else "/console"
