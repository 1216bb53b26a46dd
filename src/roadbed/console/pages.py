"""`console_routes`: every address of the console, for ``server/`` to mount as they are.

It makes the templates and static files once and hands each page its part. Whatever lies under ``/console`` and is no
page answers with a page that says so.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from roadbed.console.access import access_routes
from roadbed.console.analytics import analytics_routes
from roadbed.console.ask import ask_routes
from roadbed.console.audit import audit_routes
from roadbed.console.compliance import compliance_routes
from roadbed.console.costs import cost_routes
from roadbed.console.csp import STATIC_KEEP, protect
from roadbed.console.documents import document_routes
from roadbed.console.keys import key_routes
from roadbed.console.models import model_routes
from roadbed.console.overview import overview
from roadbed.console.playground import playground_routes
from roadbed.console.releases import release_routes
from roadbed.console.rendering import StaticFiles, Templates
from roadbed.console.services import ConsoleServices
from roadbed.console.sign_in import sign_in_routes
from roadbed.console.sign_in_oidc import oidc_routes
from roadbed.console.tools import tool_routes
from roadbed.console.traces import trace_routes
from roadbed.console.visits import Console, Page
from roadbed.kernel.errors import ERRORS_PATH, NotFound, all_errors


class NoSuchPage(NotFound):
    """The console has no page at this address."""

    code = "console.no_such_page"
    hint = "the menu lists the pages"


def console_routes(services: ConsoleServices) -> list[BaseRoute]:
    """All routes under ``/console``, and the page that explains error codes to people without a key."""
    static = StaticFiles()
    console = Console(services, Templates(static))

    async def static_file(request: Request) -> Response:
        found = static.get(request.path_params["name"])
        if found is None:
            return await no_page(request)
        is_current = request.path_params["digest"] == static.digest
        response = Response(found[0], media_type=found[1])
        return protect(response, keep=STATIC_KEEP if is_current else "no-cache")

    async def no_page(request: Request) -> Response:
        return await console.failed(request, NoSuchPage(f"there is no page at {request.url.path[:200]}"))

    async def errors(request: Request) -> Response:
        page = Page("errors.html", "Errors", {"errors": all_errors()})
        return protect(await console.rendered(page, None, request))

    async def without_slash(request: Request) -> Response:
        return protect(RedirectResponse("/console", status_code=303))

    return [
        Route(ERRORS_PATH, errors, methods=["GET"]),
        Route("/console/", without_slash),
        Route("/console/static/{digest}/{name}", static_file),
        *sign_in_routes(console),
        *oidc_routes(console),
        *console.page("/console", overview, twin_path="/console/overview.json"),
        *ask_routes(console),
        *analytics_routes(console),
        *document_routes(console),
        *model_routes(console),
        *playground_routes(console),
        *tool_routes(console),
        *release_routes(console),
        *trace_routes(console),
        *cost_routes(console),
        *key_routes(console),
        *access_routes(console),
        *audit_routes(console),
        *compliance_routes(console),
        Route("/console/{rest:path}", no_page),
    ]
