"""Signing in through the organization's issuer: leaving for it, coming back, and being signed out by it.

`guard.oidc` decides; these addresses carry. The invariant: what comes back in an address is used once, against the
cookie of the browser that left, and is written nowhere.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from roadbed.console.csp import protect
from roadbed.console.sign_in import safe_next, set_cookie, sign_in_page, signed_in
from roadbed.console.visits import Console, cookie_name, read_form
from roadbed.guard.oidc import ATTEMPT_S, Oidc, SignInRefused
from roadbed.guard.tokens import TOKEN_BYTES_MAX
from roadbed.kernel.errors import RoadbedError, Unauthorized, Unavailable

ASKED = ("code", "state", "iss", "error")


def oidc_routes(console: Console) -> list[Route]:
    """The routes."""

    def oidc() -> Oidc:
        found = console.services.oidc
        if found is None:
            raise SignInRefused("nobody signs in here through an issuer")
        return found

    async def start(request: Request) -> Response:
        destination = safe_next(request.query_params.get("next", ""))
        try:
            address, cookie = await oidc().begin(destination)
        except RoadbedError as error:
            return await sign_in_page(console, request, destination=destination, error=error)
        response = RedirectResponse(address, status_code=303)
        set_cookie(console, request, response, _name(console, request), cookie, ATTEMPT_S)
        return protect(response)

    async def callback(request: Request) -> Response:
        services, asked = console.services, request.query_params
        query = {name: asked[name] for name in ASKED if name in asked}
        try:
            cookie = request.cookies.get(_name(console, request), "")
            person, destination = await oidc().finish(query, cookie, services.sessions.ended.spend)
            principal = services.identity.principal_of(person)
            await services.audit.act("console.sign_in", person)
        except (Unauthorized, Unavailable) as error:
            services.audit.note("console.sign_in", "unknown", outcome=error.code)
            return await sign_in_page(console, request, destination="/console", error=error)
        except RoadbedError as error:
            return await console.failed(request, error)
        response = signed_in(console, request, services.sessions.start(principal), safe_next(destination))
        set_cookie(console, request, response, _name(console, request), "", 0)
        return response

    async def log_out(request: Request) -> Response:
        """OpenID Connect back-channel logout: the issuer itself calls."""
        try:
            form = await read_form(request, 0, 0)
            await oidc().log_out(str(form.get("logout_token") or "")[:TOKEN_BYTES_MAX])
        except RoadbedError as error:
            console.services.audit.note("console.sign_out", "unknown", outcome=error.code)
            status = 503 if isinstance(error, Unavailable) else 400
            return Response(status_code=status, headers={"cache-control": "no-store"})
        return Response(status_code=200, headers={"cache-control": "no-store"})

    return [
        Route("/console/sign-in/start", start, methods=["GET"]),
        Route("/console/sign-in/callback", callback, methods=["GET"]),
        Route("/console/sign-in/logout", log_out, methods=["POST"]),
    ]


def _name(console: Console, request: Request) -> str:
    return f"{cookie_name(request, console.services)}_issuer"
