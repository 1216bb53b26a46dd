"""``/healthz``, ``/readyz`` and ``/metrics``.

Alive means that the process turns; ready means that requests can be served (ingest may go on behind). A database that
is away does not make a process unready: keys, releases and routes are in memory, and each app says itself what it
lacks.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from roadbed import __version__
from roadbed.server.services import Services

WAITS_FOR_DISK = "the disk of the database is full: changed documents are not read until there is room"


def parts(services: Services) -> dict[str, str]:
    """Each part's state in a word or a sentence; ``ok`` when it is as it should be."""
    running, wanted = workers(services)
    return {
        "server": "draining" if services.is_draining else "ok",
        **({"workers": "ok" if running >= wanted else f"{running} of {wanted} serve just now"} if wanted > 1 else {}),
        "database": "ok" if services.database.is_available else "away; what needs it is refused or spooled",
        "keys": "ok" if services.identity.is_ready else "not read yet",
        "releases": "ok" if _serves(services) else "none serves yet",
        "jobs": WAITS_FOR_DISK if services.waits_for_disk else "ok",
        **_sources(services),
        "workspace": "ok" if services.problem() is None else "the manifest on disk is not what serves",
    }


def _sources(services: Services) -> dict[str, str]:
    """The data systems behind tools, without their names; nothing where there are none."""
    states = services.source_connections()
    away = sum(not state.is_well for state in states)
    held = sum(bool(state.notes) for state in states)
    words = f"{away} of {len(states)} not answering" if away else ""
    if held:
        words += f"{'; ' if words else ''}{held} with tools held back or left out"
    return {"sources": words or "ok"} if states else {}


def workers(services: Services) -> tuple[int, int]:
    """How many processes serve, and how many shall."""
    running = services.serving.deployment.running if services.serving is not None else 1
    return running, services.settings.workers


def is_ready(services: Services) -> bool:
    """Whether requests can be served."""
    return not services.is_draining and services.identity.is_ready and _serves(services)


def _serves(services: Services) -> bool:
    """Whether the live releases were taken: one of models or tools alone has no app, and serves all the same."""
    served = services.registry.served
    return bool(served.apps) or (served.routes_release is not None and not services.manifest.apps)


def health_routes(services: Services) -> list[Route]:
    """The routes for probes and scrapers; they need no key and tell no names."""

    async def healthz(request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(request: Request) -> Response:
        ready = is_ready(services)
        running, wanted = workers(services)
        process_number = services.serving.number if services.serving is not None else 1
        body = {
            "ready": ready,
            "version": __version__,
            "workers": {"running": running, "wanted": wanted, "process_number": process_number},
            "parts": parts(services),
        }
        return JSONResponse(body, status_code=200 if ready else 503)

    async def metrics(request: Request) -> Response:
        serving = services.serving
        text = services.metrics.render() if serving is None else await serving.all_metrics()
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    return [Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)]
