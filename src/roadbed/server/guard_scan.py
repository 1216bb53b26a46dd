"""``POST /api/guard/scan``: what the guard finds in a text, for whoever wants to know before sending it."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.routing import Route

from roadbed.guard.scan import SCAN_BYTES_MAX, scan_report
from roadbed.server.admission import Admission
from roadbed.server.http import body_of, endpoint, json_of
from roadbed.server.services import Services

SCANS_MAX = 2  # at a time: a scan of ten megabytes takes a core for a while
ENVELOPE_BYTES_MAX = 2 * SCAN_BYTES_MAX + 1_000  # JSON writes some characters as two


class ScanOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``POST /api/guard/scan`` as JSON; with any other content type the body is the text."""

    text: Annotated[str, Meta(description="the text to look through")]


def guard_routes(services: Services) -> list[Route]:
    """The one route."""
    slots = asyncio.Semaphore(SCANS_MAX)

    async def scan(request: Request, admission: Admission) -> Any:
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json":
            data = (await json_of(request, ScanOrder, ENVELOPE_BYTES_MAX)).text.encode()
        else:
            data = await body_of(request, SCAN_BYTES_MAX)
        async with slots:
            return await asyncio.to_thread(scan_report, services.teams.guard, data)

    return [Route("/api/guard/scan", endpoint(services, scan), methods=["POST"])]
