"""``/api/access/break-glass``: an admin's rights in an emergency, their end, and the review after."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.routing import Route

from roadbed.guard.glasses import MINUTES_MAX, REASON_CHARACTERS_MAX
from roadbed.kernel.principal import AUDITOR
from roadbed.server.admission import Admission
from roadbed.server.break_glass import glass_object
from roadbed.server.http import Json, endpoint, json_of
from roadbed.server.services import Services


class GlassOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``POST /api/access/break-glass``."""

    reason: Annotated[str, Meta(max_length=REASON_CHARACTERS_MAX)]
    minutes: Annotated[int, Meta(ge=1, le=MINUTES_MAX)]


class ReviewOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``POST /api/access/break-glass/{id}/review``: what was found."""

    note: Annotated[str, Meta(min_length=1, max_length=REASON_CHARACTERS_MAX)]


def break_glass_routes(services: Services) -> list[Route]:
    """The addresses."""
    emergency, glasses = services.duties.emergency, services.identity.glasses

    async def start(request: Request, admission: Admission) -> Any:
        order = await json_of(request, GlassOrder)
        found = await emergency.start(admission.principal, order.reason, order.minutes)
        return Json(glass_object(found), status_code=201)

    async def listed(request: Request, admission: Admission) -> Any:
        only = request.query_params.get("all") not in ("1", "true")
        found = await glasses.listed(only_unreviewed=only)
        return {"break_glass": [glass_object(glass) for glass in found]}

    async def end(request: Request, admission: Admission) -> Any:
        return glass_object(await emergency.end(request.path_params["id"], admission.principal))

    async def review(request: Request, admission: Admission) -> Any:
        order = await json_of(request, ReviewOrder)
        return glass_object(await emergency.review(request.path_params["id"], admission.principal, order.note))

    path = "/api/access/break-glass"
    return [
        Route(path, endpoint(services, start), methods=["POST"]),
        Route(path, endpoint(services, listed, role=AUDITOR)),
        Route(f"{path}/{{id}}/end", endpoint(services, end), methods=["POST"]),
        Route(f"{path}/{{id}}/review", endpoint(services, review, role=AUDITOR), methods=["POST"]),
    ]
